//! Turns a handler's panic into a failure of its record.

use super::{Delivery, Next, RecordMiddleware};
use crate::error::{ErrorKind, HandlerError};
use crate::{HandlerResult, Outcome};
use futures_util::FutureExt;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Turns a panic of the handler into a failure of its record.
///
/// The failure is retryable. The connection of the handler's transaction is
/// closed, which rolls back. Programs built with `panic = "abort"` end instead.
#[derive(Debug, Clone, Copy, Default)]
pub struct CatchPanic;

impl RecordMiddleware for CatchPanic {
    #[inline(always)]
    fn call<'a, N: Next<'a>>(
        &'a self,
        delivery: Delivery<'a>,
        next: N,
    ) -> impl Future<Output = HandlerResult<Outcome>> + Send + 'a {
        // Unwind safe: what the handler could have left half done is its own, or
        // the transaction, whose connection is closed.
        AssertUnwindSafe(async move { next.run(delivery).await })
            .catch_unwind()
            .map(|result| result.unwrap_or_else(|panic| Err(error("the handler", &*panic))))
    }
}

/// The same for code that decodes a record or finds out its identity.
pub(crate) fn without_panic<T>(what: &str, work: impl FnOnce() -> T) -> HandlerResult<T> {
    // Unwind safe: what it was making is dropped.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| error(what, &*panic))
}

fn error(what: &str, panic: &(dyn Any + Send)) -> HandlerError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is no text");
    HandlerError::of_kind(ErrorKind::Panicked, format!("{what} panicked: {text}"))
}

//! Turns a handler's panic into a failure of its record.

use super::{Delivery, Next, RecordMiddleware};
use crate::error::panic::panicked;
use crate::{HandlerResult, Outcome};
use pin_project_lite::pin_project;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

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
        // In a block, so that it is caught where the next middleware panics before its future.
        Caught { call: async move { next.run(delivery).await } }
    }
}

pin_project! {
    /// A call whose panic is its error.
    struct Caught<F> {
        #[pin]
        call: F,
    }
}

impl<F: Future<Output = HandlerResult<Outcome>>> Future for Caught<F> {
    type Output = HandlerResult<Outcome>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.project().call;
        // Unwind safe: what the handler could have left half done is its own, or
        // the transaction, whose connection is closed. After a panic it is not polled again.
        match catch_unwind(AssertUnwindSafe(|| call.poll(context))) {
            // What most records end with is not copied.
            Ok(Poll::Ready(Ok(Outcome::Completed))) => Poll::Ready(Ok(Outcome::Completed)),
            Ok(poll) => poll,
            Err(panic) => Poll::Ready(Err(panicked("the handler", &*panic))),
        }
    }
}

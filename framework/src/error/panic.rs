//! Turns panics into errors.

use super::{ErrorKind, HandlerError, HandlerResult};
use pin_project_lite::pin_project;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

pin_project! {
    /// A future whose panic is an error.
    pub(crate) struct Unpanicked<F> {
        what: &'static str,
        #[pin]
        future: F,
    }
}

/// Turns a panic of this future into an error that names it as `what`.
pub(crate) fn unpanicked<F: Future>(what: &'static str, future: F) -> Unpanicked<F> {
    Unpanicked { what, future }
}

impl<F: Future> Future for Unpanicked<F> {
    type Output = HandlerResult<F::Output>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // Unwind safe: after a panic it is not polled again.
        match catch_unwind(AssertUnwindSafe(|| this.future.poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panicked(this.what, &*panic))),
        }
    }
}

/// Turns a panic of this code into an error that names it as `what`.
#[inline]
pub(crate) fn without_panic<T>(what: &str, work: impl FnOnce() -> T) -> HandlerResult<T> {
    // Unwind safe: what it was making is dropped.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panicked(what, &*panic))
}

#[cold]
pub(crate) fn panicked(what: &str, panic: &(dyn Any + Send)) -> HandlerError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is no text");
    HandlerError::of_kind(ErrorKind::Panicked, format!("{what} panicked: {text}"))
}

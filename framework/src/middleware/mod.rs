//! Middleware: code around a handler.
//!
//! Two kinds, in one list, outermost first:
//!
//! - [`Middleware`] wraps a run: it sees all its records and all their outcomes.
//! - [`RecordMiddleware`] wraps one call of the handler: one record, or for a
//!   batch handler the run.
//!
//! The default list is [`DefaultStack`]: [`DeadLetter`], [`Retry`], [`Idempotency`],
//! [`Trace`], [`CatchPanic`], [`Timeout`]. [`Route::middleware`](crate::Route::middleware)
//! puts your own after these, next to the handler,
//! [`Route::around`](crate::Route::around) before them, and
//! [`Route::stack`](crate::Route::stack) replaces the list.
//!
//! # Example
//!
//! ```
//! use onceward::middleware::{Delivery, Next, RecordMiddleware};
//! use onceward::prelude::*;
//!
//! /// Writes a line for each record that was handled.
//! struct Audit;
//!
//! impl RecordMiddleware for Audit {
//!     async fn call<'a, N: Next<'a>>(&'a self, delivery: Delivery<'a>, next: N) -> HandlerResult<Outcome> {
//!         let record = delivery.record();
//!         let outcome = next.run(delivery).await?;
//!         tracing::info!(offset = record.offset(), outcome = outcome.name(), "handled");
//!         Ok(outcome)
//!     }
//! }
//! ```

pub(crate) mod bound;
mod catch_panic;
mod dead_letter;
pub(crate) mod idempotency;
mod retry;
mod stack;
mod timeout;
mod trace;

pub use crate::handler::delivery::Delivery;
pub use catch_panic::CatchPanic;
pub use dead_letter::DeadLetter;
pub(crate) use dead_letter::put_away;
pub use idempotency::Idempotency;
#[cfg(feature = "postgres")]
pub(crate) use idempotency::{Alone, Savepoints};
pub use retry::Retry;
pub use stack::{Around, DefaultStack, Each, Layer, Push, Stack};
pub(crate) use stack::{check, default_stack};
pub use timeout::Timeout;
pub use trace::Trace;

use crate::{HandlerError, HandlerResult, Outcome};
#[doc(no_inline)]
pub use crate::{Outcomes, Run};
use bound::Bound;
use std::future::Future;

/// What becomes of the one record of a run that panicked outside of the handler's calls, where no
/// middleware could decide: what its list would.
pub(crate) fn after_panic(run: Run<'_>, error: HandlerError, bound: &Bound, layers: &[Layer]) -> Outcomes {
    let mut outcomes = Outcomes::new(vec![Outcome::Failed(error)]);
    if layers.contains(&Layer::Retry) {
        outcomes = retry::settle(run, outcomes, bound);
    }
    if layers.contains(&Layer::DeadLetter) {
        outcomes = dead_letter::mark(outcomes, bound);
    }
    outcomes
}

/// The rest of the way behind a [`RecordMiddleware`].
pub trait Next<'a>: Send + 'a {
    /// Goes on to the next middleware, or to the handler.
    fn run(self, delivery: Delivery<'a>) -> impl Future<Output = HandlerResult<Outcome>> + Send + 'a;
}

/// Wraps each call of the handler. Write the method as a plain `async fn`.
///
/// It runs inside the record's transaction, so everything that it does through
/// [`Delivery::tx`] counts once, like the handler's own effects. It goes into
/// [`Route::middleware`](crate::Route::middleware).
///
/// # Example
///
/// Copy this signature; others give long messages of the compiler.
///
/// ```
/// use onceward::middleware::{Delivery, Next, RecordMiddleware};
/// use onceward::prelude::*;
///
/// struct Mine;
///
/// impl RecordMiddleware for Mine {
///     async fn call<'a, N: Next<'a>>(&'a self, delivery: Delivery<'a>, next: N) -> HandlerResult<Outcome> {
///         next.run(delivery).await
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no middleware around a call",
    label = "not a `RecordMiddleware`",
    note = "`Route::middleware` takes a `RecordMiddleware`, `Route::around` a `Middleware`"
)]
pub trait RecordMiddleware: Send + Sync + 'static {
    /// Does its part, and calls `next` once, or not at all.
    fn call<'a, N: Next<'a>>(
        &'a self,
        delivery: Delivery<'a>,
        next: N,
    ) -> impl Future<Output = HandlerResult<Outcome>> + Send + 'a;
}

/// The rest of the way behind a [`Middleware`].
pub trait NextRun: Sync {
    /// Goes on to the next middleware with this run, or a part of it.
    fn run<'a>(&'a self, run: Run<'a>) -> impl Future<Output = Outcomes> + Send + 'a;
}

/// Wraps the handling of a run. Write the method as a plain `async fn`.
///
/// It returns one outcome per record, in the run's order. A finished outcome finishes the
/// record's offset for good. It goes into [`Route::around`](crate::Route::around).
///
/// # Example
///
/// Copy this signature; others give long messages of the compiler.
///
/// ```
/// use onceward::middleware::{Middleware, NextRun, Outcomes, Run};
/// use onceward::prelude::*;
///
/// struct Mine;
///
/// impl Middleware for Mine {
///     async fn call<'a, N: NextRun>(&'a self, run: Run<'a>, next: &'a N) -> Outcomes {
///         next.run(run).await
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no middleware around a run",
    label = "not a `Middleware`",
    note = "`Route::around` takes a `Middleware`, `Route::middleware` a `RecordMiddleware`"
)]
pub trait Middleware: Send + Sync + 'static {
    /// Does its part, and calls `next` with the run or parts of it.
    fn call<'a, N: NextRun>(
        &'a self,
        run: Run<'a>,
        next: &'a N,
    ) -> impl Future<Output = Outcomes> + Send + 'a;
}

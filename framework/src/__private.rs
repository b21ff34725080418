//! Called by generated code. Not a public interface: it changes with the macro.

pub use crate::config::{Guarantee, Order};
use crate::extract::RunExt;
pub use crate::extract::batch::Rejected;
pub use crate::extract::{Batch, Context, FromRecord};
pub use crate::handler::delivery::Delivery;
pub use crate::handler::{Handled, Handler, IntoHandled, Settings, Tombstones};
pub use crate::record::identity::IdentitySource;
#[cfg(all(fuzzing, feature = "schemas"))]
pub use crate::schemas::fuzzing;
use crate::{HandlerError, Outcome};
pub use crate::{HandlerResult, Run};
pub use futures_util::FutureExt;

/// An extractor, as generated code uses it.
///
/// Whatever the code does with one is a method of this one trait, so that the
/// compiler has the same to say in each place, and says once what is no extractor:
/// in the words of [`FromRecord`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from a record",
    label = "not an extractor",
    note = "handlers take `Json<T>`, `Avro<T>`, `Protobuf<T>`, `JsonSchema<T>`, `CloudEvent<T>`, `Bytes`, `&[u8]`, `Key<T>`, `Headers`, `Record`, `Position`, `Attempt`, `State<T>` of a `T` that is `Clone`, `Publisher`, `&mut Tx`, or your own type that implements `FromRecord`",
    note = "these are the types of `onceward::extract`: a `Json`, `State` or `Bytes` that was imported from another crate, such as axum, hides the one of the prelude; write `onceward::extract::Json<T>`"
)]
pub trait Argument<'a>: Sized {
    /// Whether it publishes records.
    const PUBLISHES: bool;

    /// Takes it from the one record of a call.
    ///
    /// # Errors
    /// Where the record does not have it.
    fn extract(run: Run<'a>, context: &'a Context) -> Result<Self, Rejected>;

    /// Takes it from each record of a call.
    ///
    /// # Errors
    /// Where a record does not have it.
    fn extract_each(run: Run<'a>, context: &'a Context) -> Result<Batch<Self>, Rejected>;

    /// Returns an error at startup if something is missing for it.
    ///
    /// # Errors
    /// One sentence with the fix.
    fn check(context: &Context) -> Result<(), String>;
}

impl<'a, E: FromRecord<'a>> Argument<'a> for E {
    const PUBLISHES: bool = E::PUBLISHES;

    fn extract(run: Run<'a>, context: &'a Context) -> Result<Self, Rejected> {
        run.extract(context)
    }

    fn extract_each(run: Run<'a>, context: &'a Context) -> Result<Batch<Self>, Rejected> {
        run.extract_each(context)
    }

    fn check(context: &Context) -> Result<(), String> {
        <E as FromRecord>::check(context)
    }
}

/// What a handler may return that takes a transaction: nothing to be published.
#[diagnostic::on_unimplemented(
    message = "a handler with a transaction cannot return `{Self}`",
    label = "not a result of a handler with a transaction",
    note = "return `HandlerResult`, `HandlerResult<Outcome>`, or from a batch handler `Vec<HandlerResult>` with one result a record",
    note = "it cannot publish directly: sent after COMMIT, a crash loses the record; sent before it, a rollback leaves a ghost; write it to an outbox table in the transaction"
)]
pub trait IntoHandledInTransaction {
    /// Converts it.
    ///
    /// # Errors
    /// The handler's own error.
    fn into_handled_in_transaction(self) -> HandlerResult<Handled>;
}

impl IntoHandledInTransaction for () {
    fn into_handled_in_transaction(self) -> HandlerResult<Handled> {
        self.into_handled()
    }
}

impl IntoHandledInTransaction for Outcome {
    fn into_handled_in_transaction(self) -> HandlerResult<Handled> {
        self.into_handled()
    }
}

impl<T: IntoHandledInTransaction, E: Into<HandlerError>> IntoHandledInTransaction for Result<T, E> {
    fn into_handled_in_transaction(self) -> HandlerResult<Handled> {
        self.map_err(Into::into)?.into_handled_in_transaction()
    }
}

impl IntoHandledInTransaction for Vec<HandlerResult> {
    fn into_handled_in_transaction(self) -> HandlerResult<Handled> {
        self.into_handled()
    }
}

impl IntoHandledInTransaction for Vec<HandlerResult<Outcome>> {
    fn into_handled_in_transaction(self) -> HandlerResult<Handled> {
        self.into_handled()
    }
}

//! The user's async fn, as the engine sees it.

pub(crate) mod delivery;

use crate::config::{Guarantee, Order};
use crate::extract::Context;
use crate::extract::batch::Rejected;
use crate::failure::policy::{ErrorPolicy, ErrorRule, FailurePolicy, RetryPolicy};
use crate::handler::delivery::Delivery;
use crate::record::identity::IdentitySource;
use crate::{HandlerError, HandlerResult, Outcome, ProducerRecord, Run};
use std::future::Future;
use std::time::Duration;

/// Handles the records of a route. `#[handler]` implements it for an async fn; you can also
/// implement it by hand.
///
/// A run's records are decoded by [`extract`](Self::extract) before any
/// transaction is opened, then [`call`](Self::call) does the work.
///
/// By hand a handler may be generic and have fields:
///
/// ```
/// use onceward::extract::{Context, RunExt};
/// use onceward::prelude::*;
/// use onceward::{Delivery, Handled, Handler, IntoHandled, Rejected, Run, Settings};
///
/// trait Departures: Send + Sync + 'static {
///     fn add(&self, tailnum: &str, distance: i64) -> impl Future<Output = HandlerResult> + Send;
/// }
///
/// struct OnFlight<D>(D);
///
/// impl<D: Departures> Handler for OnFlight<D> {
///     type Args<'a> = (Key<&'a str>, Json<i64>);
///
///     fn settings(&self) -> Settings {
///         Settings::new("on_flight").topic("flights").group("departures")
///     }
///
///     fn extract<'a>(&'a self, run: Run<'a>, context: &'a Context) -> Result<Self::Args<'a>, Rejected> {
///         run.extract(context)
///     }
///
///     async fn call<'a, 'r: 'a>(&'a self, args: Self::Args<'r>, _: Delivery<'a>) -> HandlerResult<Handled> {
///         let (Key(tailnum), Json(distance)) = args;
///         self.0.add(tailnum, distance).await.into_handled()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "put `#[handler(topic = \"..\", group = \"..\")]` on the async fn `f` and pass `f {{}}`: the value of the type that the attribute leaves beside it"
)]
pub trait Handler: Send + Sync + 'static {
    /// The decoded arguments of a call.
    type Args<'a>: Send
    where
        Self: 'a;

    /// Whether one call takes a whole run. Else it takes one record.
    const BATCH: bool = false;

    /// Whether a call takes the record's transaction.
    const TRANSACTION: bool = false;

    /// Whether a call can end with an error of the handler's own.
    const FALLIBLE: bool = true;

    /// The name and what else the attribute sets.
    fn settings(&self) -> Settings;

    /// Decodes what one call gets: one record, or where [`BATCH`](Self::BATCH) is
    /// set all of `run`.
    ///
    /// # Errors
    /// Names the record that cannot be decoded by its place in `run`.
    fn extract<'a>(&'a self, run: Run<'a>, context: &'a Context) -> Result<Self::Args<'a>, Rejected>;

    /// Does the work.
    fn call<'a, 'r: 'a>(
        &'a self,
        args: Self::Args<'r>,
        delivery: Delivery<'a>,
    ) -> impl Future<Output = HandlerResult<Handled>> + Send + 'a;

    /// Returns an error at startup if an extractor lacks something, for example a `State`.
    ///
    /// # Errors
    /// One sentence with the fix.
    fn check(&self, context: &Context) -> Result<(), String> {
        let _ = context;
        Ok(())
    }
}

/// The result of a call: one outcome for all its records, or one for each.
#[derive(Debug)]
pub enum Handled {
    /// All records of the call ended this way.
    All(Outcome),
    /// One result per record, in order.
    Each(Vec<HandlerResult<Outcome>>),
    /// All records are completed once these records are published.
    Publish(Vec<ProducerRecord>),
}

/// Implemented for all types that a handler may return.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "not a handler's result",
    note = "return `HandlerResult`, `HandlerResult<Outcome>`, `HandlerResult<ProducerRecord>` (or an `Option` or `Vec` of them), or from a batch handler `Vec<HandlerResult>` with one result a record"
)]
pub trait IntoHandled {
    /// Converts it.
    ///
    /// # Errors
    /// The handler's own error.
    fn into_handled(self) -> HandlerResult<Handled>;
}

impl IntoHandled for () {
    fn into_handled(self) -> HandlerResult<Handled> {
        Ok(Handled::All(Outcome::Completed))
    }
}

impl IntoHandled for Outcome {
    fn into_handled(self) -> HandlerResult<Handled> {
        Ok(Handled::All(self))
    }
}

impl IntoHandled for ProducerRecord {
    fn into_handled(self) -> HandlerResult<Handled> {
        Ok(Handled::Publish(vec![self]))
    }
}

impl IntoHandled for Option<ProducerRecord> {
    fn into_handled(self) -> HandlerResult<Handled> {
        Ok(Handled::Publish(self.into_iter().collect()))
    }
}

impl IntoHandled for Vec<ProducerRecord> {
    fn into_handled(self) -> HandlerResult<Handled> {
        Ok(Handled::Publish(self))
    }
}

impl<T: IntoHandled, E: Into<HandlerError>> IntoHandled for Result<T, E> {
    fn into_handled(self) -> HandlerResult<Handled> {
        self.map_err(Into::into)?.into_handled()
    }
}

impl IntoHandled for Vec<HandlerResult> {
    fn into_handled(self) -> HandlerResult<Handled> {
        Ok(Handled::Each(self.into_iter().map(|result| result.map(|()| Outcome::Completed)).collect()))
    }
}

impl IntoHandled for Vec<HandlerResult<Outcome>> {
    fn into_handled(self) -> HandlerResult<Handled> {
        Ok(Handled::Each(self))
    }
}

/// The settings of a handler's attribute, as a plain value.
///
/// A [`Route`](crate::Route)'s methods set the same, and configuration overrides both; see
/// [`Config`](crate::Config) for the precedence.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Settings {
    pub(crate) name: String,
    pub(crate) topics: Vec<String>,
    pub(crate) group: Option<String>,
    pub(crate) event: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) identity: IdentitySource,
    pub(crate) formerly: Vec<String>,
    pub(crate) tombstones: Tombstones,
    pub(crate) order: Order,
    pub(crate) concurrency: Option<usize>,
    pub(crate) guarantee: Guarantee,
    pub(crate) max_run_records: Option<usize>,
    pub(crate) failure: FailurePolicy,
    pub(crate) dead_letter: Option<String>,
    pub(crate) rejected: Option<String>,
    pub(crate) max_starts: Option<u32>,
    #[cfg(feature = "schemas")]
    pub(crate) schema_check: Option<crate::SchemaCheck>,
}

/// As the name of a dead-letter topic: there is none.
pub(crate) const NO_DEAD_LETTERS: &str = "none";

/// The policy for records with a null value whose handler does not take `Option<T>`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tombstones {
    /// It is handed to the extractor, which rejects it unless it takes an
    /// `Option`. The default.
    #[default]
    Handle,
    /// It is skipped and counted.
    Skip,
}

impl Settings {
    /// Names the handler. Processed records are recorded under this name. With another name all
    /// records would be handled again, so it is checked at startup.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds a topic, or a pattern of topics that starts with `^`.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topics.push(topic.into());
        self
    }

    /// Sets the consumer group.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Takes only records of this event type; see [`EventType`](crate::EventType).
    pub fn event(mut self, event: impl Into<String>) -> Self {
        self.event = Some(event.into());
        self
    }

    /// Limits how long each call of the handler may take.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Sets where records have their identity.
    pub fn identity(mut self, identity: IdentitySource) -> Self {
        self.identity = identity;
        self
    }

    /// Adds a name that the handler had before.
    pub fn formerly(mut self, name: impl Into<String>) -> Self {
        self.formerly.push(name.into());
        self
    }

    /// Sets what happens to tombstones.
    pub fn tombstones(mut self, tombstones: Tombstones) -> Self {
        self.tombstones = tombstones;
        self
    }

    /// Sets which records are handled in order.
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Sets how often a record is handled; see [`Guarantee`].
    pub fn guarantee(mut self, guarantee: Guarantee) -> Self {
        self.guarantee = guarantee;
        self
    }

    /// Limits how many handlers run at once; see [`Route::concurrency`](crate::Route::concurrency).
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = Some(handlers);
        self
    }

    /// Limits the number of records in a run.
    pub fn max_run_records(mut self, records: usize) -> Self {
        self.max_run_records = Some(records);
        self
    }

    /// Sets the maximum number of attempts; see [`RetryPolicy::max_attempts`].
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.failure.retry.max_attempts = attempts;
        self
    }

    /// Sets for how long a failed record is retried; see [`RetryPolicy::max_elapsed`].
    pub fn max_elapsed(mut self, limit: Duration) -> Self {
        self.failure.retry.max_elapsed = limit;
        self
    }

    /// Sets the first delay; see [`RetryPolicy::backoff`].
    pub fn backoff(mut self, delay: Duration) -> Self {
        self.failure.retry.backoff = delay;
        self
    }

    /// Sets the longest delay; see [`RetryPolicy::max_backoff`].
    pub fn max_backoff(mut self, delay: Duration) -> Self {
        self.failure.retry.max_backoff = delay;
        self
    }

    /// Sets how a failed record is retried.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.failure.retry = policy;
        self
    }

    /// Sets what happens to records that fail with an error of this type.
    pub fn on_error<E: std::error::Error + 'static>(mut self, policy: ErrorPolicy) -> Self {
        self.failure.rules.push(ErrorRule::new::<E>(policy));
        self
    }

    /// Sets the dead-letter topic; see [`Route::dead_letter`](crate::Route::dead_letter).
    pub fn dead_letter(mut self, topic: impl Into<String>) -> Self {
        self.dead_letter = Some(topic.into());
        self
    }

    /// Sets a dead-letter topic for records that do not decode.
    pub fn rejected(mut self, topic: impl Into<String>) -> Self {
        self.rejected = Some(topic.into());
        self
    }

    /// Sets how often a process may end while it tries one record; see
    /// [`Route::max_starts`](crate::Route::max_starts).
    pub fn max_starts(mut self, starts: u32) -> Self {
        self.max_starts = Some(starts);
        self
    }

    /// The dead-letter topics for the records of a topic, none where failed ones
    /// hold their partition.
    pub(crate) fn letter_topics(&self, topic: &str) -> Vec<String> {
        if self.has_no_dead_letters() {
            return Vec::new();
        }
        let failed = self.dead_letter.clone().unwrap_or_else(|| crate::failure::dead_letter::topic_of(topic));
        let rejected = self.rejected.clone().filter(|rejected| *rejected != failed);
        std::iter::once(failed).chain(rejected).collect()
    }

    pub(crate) fn has_no_dead_letters(&self) -> bool {
        self.dead_letter.as_deref() == Some(NO_DEAD_LETTERS)
    }
}

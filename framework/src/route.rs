//! A handler with all that is set for it.

use crate::dead_letter::RouteLetters;
use crate::dedupe::Dedupe;
use crate::extract::Context;
use crate::failure::{ErrorPolicy, FailurePolicy, RetryPolicy};
use crate::handler::{Handler, Settings, Tombstones};
use crate::identity::{Identity, IdentitySource};
use crate::left_out::LeftOut;
use crate::metrics::Counts;
use crate::middleware::{
    Around, DefaultStack, Each, Layer, Middleware, Push, RecordMiddleware, Stack, after_panic, default_stack,
    put_away, unpanicked, without_panic,
};
use crate::order::{Guarantee, Order, Sharing};
use crate::publish::Publishing;
use crate::trace::Spans;
use crate::trials::Trials;
use crate::{HandlerError, Outcome, Outcomes, Record, Run};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A handler with its topics, group and middleware: what `#[handler]` sets, and
/// what can be set without it.
///
/// ```
/// # use onceward::prelude::*;
/// # use std::time::Duration;
/// #[handler(topic = "flights")]
/// async fn on_flight(flight: Bytes) -> HandlerResult {
///     Ok(())
/// }
///
/// let route = on_flight {}.route().group("totals").timeout(Duration::from_secs(5));
/// ```
#[must_use]
pub struct Route<H, S = DefaultStack> {
    handler: H,
    stack: S,
    settings: Settings,
}

impl<H: Handler> Route<H> {
    /// Takes a handler with what its attribute says.
    pub fn new(handler: H) -> Self {
        Self { settings: handler.settings(), handler, stack: default_stack() }
    }
}

impl<H: Handler, S: Stack> Route<H, S> {
    /// Reads this topic, or pattern of topics that starts with `^`, and no other.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.settings.topics = vec![topic.into()];
        self
    }

    /// Reads these topics and no others.
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.settings.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the consumer group.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.settings.group = Some(group.into());
        self
    }

    /// Takes only records of this event type; see [`EventType`](crate::EventType).
    pub fn event(mut self, event: impl Into<String>) -> Self {
        self.settings.event = Some(event.into());
        self
    }

    /// Bounds each call of the handler.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.settings.timeout = Some(limit);
        self
    }

    /// Says what tells one event from another.
    pub fn identity(mut self, identity: IdentitySource) -> Self {
        self.settings.identity = identity;
        self
    }

    /// Gives a name that the handler had before, so that what it did then is not
    /// done again.
    pub fn formerly(mut self, name: impl Into<String>) -> Self {
        self.settings.formerly.push(name.into());
        self
    }

    /// Says what happens to records with a null value.
    pub fn tombstones(mut self, tombstones: Tombstones) -> Self {
        self.settings.tombstones = tombstones;
        self
    }

    /// Says which records are handled in order. All handlers of a topic in a group have the
    /// same.
    pub fn order(mut self, order: Order) -> Self {
        self.settings = self.settings.order(order);
        self
    }

    /// Says how often a record is handled, whatever ends the process. All handlers of a topic in
    /// a group have the same.
    pub fn guarantee(mut self, guarantee: Guarantee) -> Self {
        self.settings = self.settings.guarantee(guarantee);
        self
    }

    /// Bounds how many of the topic's handlers run at once in the process, where the order
    /// is by key or none; 64 by default.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.settings = self.settings.concurrency(handlers);
        self
    }

    /// Bounds the records of a run.
    pub fn max_run_records(mut self, records: usize) -> Self {
        self.settings.max_run_records = Some(records);
        self
    }

    /// Says how often and for how long a failed record is tried again.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings = self.settings.retry(policy);
        self
    }

    /// Says how often a failed record is tried, the first attempt included.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings = self.settings.max_attempts(attempts);
        self
    }

    /// Says what happens to records that fail with an error of this type, wherever
    /// it stands in the chain of causes.
    pub fn on_error<E: std::error::Error + 'static>(mut self, policy: ErrorPolicy) -> Self {
        self.settings = self.settings.on_error::<E>(policy);
        self
    }

    /// Sets the topic for records that were given up, in place of `<topic>.dlq`. With
    /// `"none"` there is no such topic, and a record that was given up holds its
    /// partition until it succeeds.
    pub fn dead_letter(mut self, topic: impl Into<String>) -> Self {
        self.settings = self.settings.dead_letter(topic);
        self
    }

    /// Sets a topic of its own for records whose bytes do not decode.
    pub fn rejected(mut self, topic: impl Into<String>) -> Self {
        self.settings = self.settings.rejected(topic);
        self
    }

    /// Says how often a process may end (abort, out of memory) while it tries one
    /// record, before that is dead-lettered untried; 3 by default.
    pub fn max_starts(mut self, starts: u32) -> Self {
        self.settings = self.settings.max_starts(starts);
        self
    }

    /// Says what happens at the start where the handler's type cannot read what stands in the schema
    /// registry for its topics, in place of `schema_registry.check`.
    #[cfg(feature = "schemas")]
    pub fn schema_check(mut self, check: crate::SchemaCheck) -> Self {
        self.settings.schema_check = Some(check);
        self
    }

    /// Puts a middleware around each call, next to the handler: inside the
    /// transaction, and inside all that were put before it.
    pub fn middleware<M: RecordMiddleware>(self, middleware: M) -> Route<H, S::Output>
    where
        S: Push<Each<M>>,
    {
        Route { handler: self.handler, settings: self.settings, stack: self.stack.push(Each(middleware)) }
    }

    /// Puts a middleware around the run, outside all that are there.
    pub fn around<M: Middleware>(self, middleware: M) -> Route<H, (Around<M>, S)> {
        Route { handler: self.handler, settings: self.settings, stack: (Around(middleware), self.stack) }
    }

    /// Replaces the whole list of middleware. A list that would undo a promise is
    /// refused at startup.
    pub fn stack<T: Stack>(self, stack: T) -> Route<H, T> {
        Route { handler: self.handler, settings: self.settings, stack }
    }
}

/// What [`App::handler`](crate::App::handler) takes: a handler, or a [`Route`] made of
/// one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a handler nor a route",
    label = "not a handler",
    note = "put `#[handler(topic = \"..\")]` on the async fn `f` and pass `f {{}}`: the value of the type that the attribute leaves beside it"
)]
pub trait IntoRoute {
    /// The handler.
    type Handler: Handler;
    /// The list of middleware around it.
    type Stack: Stack;

    /// Makes the route.
    fn into_route(self) -> Route<Self::Handler, Self::Stack>;
}

impl<H: Handler> IntoRoute for H {
    type Handler = H;
    type Stack = DefaultStack;

    fn into_route(self) -> Route<H> {
        Route::new(self)
    }
}

impl<H: Handler, S: Stack> IntoRoute for Route<H, S> {
    type Handler = H;
    type Stack = S;

    fn into_route(self) -> Self {
        self
    }
}

impl<H, S> fmt::Debug for Route<H, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What a route has at run time beside its stack.
#[derive(Debug)]
pub struct Parts<H> {
    pub(crate) handler: H,
    pub(crate) bound: Bound,
}

/// What the application gives a route when it starts.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) context: Arc<Context>,
    pub(crate) dedupe: Dedupe,
    pub(crate) identity: IdentitySource,
    /// Consumer group and handler, by number.
    pub(crate) scope: i32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) group: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) failure: FailurePolicy,
    /// Whether `Retry` is in its list.
    pub(crate) retries: bool,
    /// This handler's alone.
    pub(crate) trials: Arc<Trials>,
    #[cfg(feature = "postgres")]
    pub(crate) savepoints: Arc<crate::middleware::Savepoints>,
    #[cfg(feature = "postgres")]
    pub(crate) alone: Arc<crate::middleware::Alone>,
    /// `None` where records that were given up hold their partition.
    pub(crate) letters: Option<RouteLetters>,
    pub(crate) publishing: Arc<Publishing>,
    pub(crate) counts: Counts,
    pub(crate) left_out: Arc<LeftOut>,
    pub(crate) spans: Spans,
}

impl Bound {
    /// A record's identity, also where the function that finds it out is what fails.
    pub(crate) fn identity_of(&self, record: Record<'_>) -> Identity {
        without_panic("the identity's function", || self.identity.of(record))
            .unwrap_or_else(|_| IdentitySource::Position.of(record))
    }
}

/// A route of any handler, before the application starts.
pub(crate) trait AnyRoute: Send + Sync {
    fn settings(&self) -> &Settings;
    fn settings_mut(&mut self) -> &mut Settings;
    fn layers(&self) -> Vec<Layer>;
    fn takes_transaction(&self) -> bool;
    fn is_fallible(&self) -> bool;
    fn check(&self, context: &Context) -> Result<(), String>;
    fn bind(self: Box<Self>, bound: Bound) -> Arc<dyn Handle>;
}

impl<H: Handler, S: Stack> AnyRoute for Route<H, S> {
    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    fn layers(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        self.stack.layers(&mut layers);
        layers
    }

    fn takes_transaction(&self) -> bool {
        H::TRANSACTION
    }

    fn is_fallible(&self) -> bool {
        H::FALLIBLE
    }

    fn check(&self, context: &Context) -> Result<(), String> {
        self.handler.check(context)
    }

    fn bind(self: Box<Self>, bound: Bound) -> Arc<dyn Handle> {
        Arc::new(BoundRoute { stack: self.stack, parts: Parts { handler: self.handler, bound } })
    }
}

/// A route of any handler, as the router calls it: erased once a run.
pub(crate) trait Handle: Send + Sync {
    fn handle<'a>(&'a self, run: Run<'a>) -> Pin<Box<dyn Future<Output = Outcomes> + Send + 'a>>;

    /// Whether several lanes share a run.
    fn sharing(&self) -> Sharing;

    /// What copies of the record share, where it is noted what was done.
    fn identity(&self, record: Record<'_>) -> Option<u128>;
}

struct BoundRoute<H, S> {
    stack: S,
    parts: Parts<H>,
}

/// What may panic beside the calls of the handler, as the error names it.
const OUTSIDE: &str = "a middleware around the run, or an error's own code,";

impl<H: Handler, S: Stack> BoundRoute<H, S> {
    fn layers(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        self.stack.layers(&mut layers);
        layers
    }

    /// Finds the record at which a run panicked, by handling each alone. What was done before is
    /// done again, as after the end of the process.
    async fn after_panic(&self, run: Run<'_>, panic: HandlerError) -> Outcomes {
        if run.len() == 1 {
            return self.panicked(run, panic).await;
        }
        if let Some(done) = run.told() {
            // It tells how far it came, and other lanes have left it by that.
            let mut outcomes = Outcomes::new((0..done).map(|_| Outcome::Completed).collect());
            if let Some(record) = run.records().get(done) {
                outcomes.append(self.panicked(run.with(std::slice::from_ref(record)), panic).await);
            }
            return outcomes.fit(run.len());
        }
        let mut outcomes = Outcomes::new(Vec::with_capacity(run.len()));
        for (index, record) in run.records().iter().enumerate() {
            let one = run.with(std::slice::from_ref(record));
            let ended = match unpanicked(OUTSIDE, self.stack.run(one, &self.parts)).await {
                Ok(outcomes) => outcomes.fit(1),
                Err(panic) => self.panicked(one, panic).await,
            };
            let is_finished = ended.iter().all(Outcome::is_finished);
            outcomes.append(ended);
            if !is_finished || (index + 1 < run.len() && run.should_stop()) {
                break;
            }
        }
        outcomes.fit(run.len())
    }

    async fn panicked(&self, one: Run<'_>, panic: HandlerError) -> Outcomes {
        let bound = &self.parts.bound;
        match one.given_up() {
            // Past what panics.
            Some(error) => put_away(one, error, bound).await,
            None => after_panic(one, panic, bound, &self.layers()),
        }
    }
}

impl<H: Handler, S: Stack> Handle for BoundRoute<H, S> {
    fn handle<'a>(&'a self, run: Run<'a>) -> Pin<Box<dyn Future<Output = Outcomes> + Send + 'a>> {
        Box::pin(async move {
            let outcomes = match unpanicked(OUTSIDE, self.stack.run(run, &self.parts)).await {
                Ok(outcomes) => outcomes,
                Err(panic) => Box::pin(self.after_panic(run, panic)).await,
            };
            self.parts.bound.left_out.add(run, &outcomes);
            self.parts.bound.counts.add(run, &outcomes);
            outcomes
        })
    }

    fn sharing(&self) -> Sharing {
        let layers = self.layers();
        if H::BATCH || H::TRANSACTION {
            Sharing::Always
        } else if matches!(self.parts.bound.dedupe, Dedupe::Off)
            && !layers.iter().any(|layer| matches!(layer, Layer::Around(_)))
        {
            Sharing::WhileQuick
        } else {
            Sharing::Never
        }
    }

    fn identity(&self, record: Record<'_>) -> Option<u128> {
        let bound = &self.parts.bound;
        (!matches!(bound.dedupe, Dedupe::Off)).then(|| bound.identity_of(record).key)
    }
}

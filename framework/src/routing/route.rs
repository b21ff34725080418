//! A handler with its settings and middleware.

use super::bound_route::{BoundRoute, Handle};
use crate::config::{Guarantee, Order};
use crate::extract::Context;
use crate::failure::policy::{ErrorPolicy, RetryPolicy};
use crate::handler::{Handler, Settings, Tombstones};
use crate::middleware::bound::{Bound, Parts};
use crate::middleware::{
    Around, DefaultStack, Each, Layer, Middleware, Push, RecordMiddleware, Stack, default_stack,
};
use crate::record::identity::IdentitySource;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A handler with its topics, group and middleware. Its methods override the attribute
/// `#[handler]`.
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
    /// Makes a route from a handler, with the settings of its attribute.
    pub fn new(handler: H) -> Self {
        Self { settings: handler.settings(), handler, stack: default_stack() }
    }
}

impl<H: Handler, S: Stack> Route<H, S> {
    /// Reads this topic, or this pattern of topics that starts with `^`, and no other.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.settings.topics = vec![topic.into()];
        self
    }

    /// Reads these topics and no others.
    pub fn topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.settings.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// Names the handler, in place of its function's name: in the configuration, in logs, and in
    /// what is noted as done.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = name.into();
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

    /// Limits how long each call of the handler may take.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.settings.timeout = Some(limit);
        self
    }

    /// Sets where records have their identity.
    pub fn identity(mut self, identity: IdentitySource) -> Self {
        self.settings.identity = identity;
        self
    }

    /// Adds a name that the handler had before, so that records it processed under that name
    /// are not handled again.
    pub fn formerly(mut self, name: impl Into<String>) -> Self {
        self.settings.formerly.push(name.into());
        self
    }

    /// Sets what happens to records with a null value.
    pub fn tombstones(mut self, tombstones: Tombstones) -> Self {
        self.settings.tombstones = tombstones;
        self
    }

    /// Sets which records are handled in order. All handlers of a topic in a group must have
    /// the same.
    pub fn order(mut self, order: Order) -> Self {
        self.settings = self.settings.order(order);
        self
    }

    /// Sets how often a record is handled, whatever ends the process. All handlers of a topic
    /// in a group must have the same.
    pub fn guarantee(mut self, guarantee: Guarantee) -> Self {
        self.settings = self.settings.guarantee(guarantee);
        self
    }

    /// Limits how many of the topic's handlers run at once in the process, with order by key or
    /// none; 64 by default.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.settings = self.settings.concurrency(handlers);
        self
    }

    /// Limits the number of records in a run.
    pub fn max_run_records(mut self, records: usize) -> Self {
        self.settings.max_run_records = Some(records);
        self
    }

    /// Sets how often and for how long a failed record is retried.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings = self.settings.retry(policy);
        self
    }

    /// Sets the maximum number of attempts, the first one included.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings = self.settings.max_attempts(attempts);
        self
    }

    /// Sets how long a failed record is tried; see [`RetryPolicy::max_elapsed`].
    pub fn max_elapsed(mut self, limit: Duration) -> Self {
        self.settings = self.settings.max_elapsed(limit);
        self
    }

    /// Sets the longest delay before the second attempt; see [`RetryPolicy::backoff`].
    pub fn backoff(mut self, delay: Duration) -> Self {
        self.settings = self.settings.backoff(delay);
        self
    }

    /// Sets the longest delay of all; see [`RetryPolicy::max_backoff`].
    pub fn max_backoff(mut self, delay: Duration) -> Self {
        self.settings = self.settings.max_backoff(delay);
        self
    }

    /// Sets what happens to records that fail with an error of this type, at any place in the
    /// chain of sources.
    pub fn on_error<E: std::error::Error + 'static>(mut self, policy: ErrorPolicy) -> Self {
        self.settings = self.settings.on_error::<E>(policy);
        self
    }

    /// Sets the dead-letter topic, instead of `<topic>.dlq`. With `"none"` there is no such
    /// topic, and a record that fails for good holds its partition until it succeeds.
    pub fn dead_letter(mut self, topic: impl Into<String>) -> Self {
        self.settings = self.settings.dead_letter(topic);
        self
    }

    /// Sets another dead-letter topic for records that do not decode.
    pub fn rejected(mut self, topic: impl Into<String>) -> Self {
        self.settings = self.settings.rejected(topic);
        self
    }

    /// Sets how often a process may end (abort, out of memory) while it tries one record,
    /// before that record is dead-lettered without another try; 3 by default.
    pub fn max_starts(mut self, starts: u32) -> Self {
        self.settings = self.settings.max_starts(starts);
        self
    }

    /// Sets what happens at the start if the handler's type cannot read a schema of its topics in the
    /// registry, in place of `schema_registry.check`.
    #[cfg(feature = "schemas")]
    pub fn schema_check(mut self, check: crate::SchemaCheck) -> Self {
        self.settings.schema_check = Some(check);
        self
    }

    /// Adds a middleware around each call, next to the handler: inside the transaction, and
    /// inside all middleware that were added before.
    pub fn middleware<M: RecordMiddleware>(self, middleware: M) -> Route<H, S::Output>
    where
        S: Push<Each<M>>,
    {
        Route { handler: self.handler, settings: self.settings, stack: self.stack.push(Each(middleware)) }
    }

    /// Adds a middleware around the run, outside all others.
    pub fn around<M: Middleware>(self, middleware: M) -> Route<H, (Around<M>, S)> {
        Route { handler: self.handler, settings: self.settings, stack: (Around(middleware), self.stack) }
    }

    /// Replaces the whole list of middleware. A list that would break a promise is refused at
    /// startup.
    pub fn stack<T: Stack>(self, stack: T) -> Route<H, T> {
        Route { handler: self.handler, settings: self.settings, stack }
    }

    /// Gives it a type that can be written down, whatever its handler and its middleware.
    pub fn boxed(self) -> BoxRoute {
        BoxRoute(Box::new(self))
    }
}

/// A route of any handler with any middleware, for functions that return routes.
///
/// ```
/// use onceward::prelude::*;
/// use onceward::BoxRoute;
/// use onceward::middleware::Timeout;
/// use std::time::Duration;
///
/// #[handler(topic = "flights", group = "totals")]
/// async fn on_flight(flight: Bytes) {}
///
/// #[handler(topic = "gates", group = "gates")]
/// async fn on_gate(gate: Bytes) {}
///
/// fn routes() -> Vec<BoxRoute> {
///     let soon = Timeout::new(Duration::from_secs(1));
///     vec![on_flight {}.route().boxed(), on_gate {}.route().middleware(soon).boxed()]
/// }
///
/// let app = routes().into_iter().fold(App::new(), |app, route| app.handler(route));
/// ```
#[must_use]
pub struct BoxRoute(Box<dyn AnyRoute>);

impl BoxRoute {
    pub(crate) fn into_inner(self) -> Box<dyn AnyRoute> {
        self.0
    }
}

impl fmt::Debug for BoxRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxRoute").field("settings", self.0.settings()).finish_non_exhaustive()
    }
}

/// Makes routes of handlers. The prelude has it.
pub trait HandlerExt: Handler + Sized {
    /// Makes a route of it, to set what the attribute did not.
    fn route(self) -> Route<Self> {
        Route::new(self)
    }

    /// Makes a route of it with a middleware around each call; see
    /// [`Route::middleware`].
    fn middleware<M: RecordMiddleware>(
        self,
        middleware: M,
    ) -> Route<Self, <DefaultStack as Push<Each<M>>>::Output> {
        self.route().middleware(middleware)
    }
}

impl<H: Handler> HandlerExt for H {}

/// The argument of [`App::handler`](crate::App::handler): a handler, or a [`Route`] made from
/// one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a handler nor a route",
    label = "not a handler",
    note = "put `#[handler(topic = \"..\")]` on the async fn `f` and pass `f {{}}`: the value of the type that the attribute leaves beside it"
)]
pub trait IntoRoute {
    /// Makes the route.
    fn into_route(self) -> BoxRoute;
}

impl<H: Handler> IntoRoute for H {
    fn into_route(self) -> BoxRoute {
        Route::new(self).boxed()
    }
}

impl<H: Handler, S: Stack> IntoRoute for Route<H, S> {
    fn into_route(self) -> BoxRoute {
        self.boxed()
    }
}

impl IntoRoute for BoxRoute {
    fn into_route(self) -> Self {
        self
    }
}

impl<H, S> fmt::Debug for Route<H, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The routes of a group.
pub(crate) type Routes = Vec<Box<dyn AnyRoute>>;

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

//! The application: its builder and its start.

#[cfg(feature = "schemas")]
use crate::config::schema_registry::SchemaRegistryConfig;
use crate::config::{Config, DeadLetterConfig, DedupeKind, Start, TraceMode};
use crate::consumer::hooks::{Hooks, Steps};
use crate::extract::Context;
use crate::routing::event_type::EventType;
use crate::routing::route::{AnyRoute, IntoRoute};
use crate::routing::router::{Policies, Unmatched};
use crate::telemetry::health::Health;
use crate::{BoxError, Error, TopicPartition};
use std::fmt;
use std::future::Future;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// An application: handlers, settings, and what they share.
///
/// ```no_run
/// use onceward::prelude::*;
///
/// #[handler(topic = "flights", group = "log")]
/// async fn on_flight(Key(tailnum): Key<String>) -> HandlerResult {
///     println!("{tailnum}");
///     Ok(())
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<(), onceward::Error> {
///     App::from_env()?.handler(on_flight {}).run().await
/// }
/// ```
///
/// All handlers of a consumer group share one consumer. The records of a partition are handled
/// in order, and all partitions concurrently.
#[must_use]
pub struct App {
    pub(super) code: Config,
    /// From a file and the environment. They override the code.
    pub(super) given: Config,
    pub(super) routes: Vec<Box<dyn AnyRoute>>,
    pub(super) context: Context,
    pub(super) policies: Policies,
    pub(super) retired: Vec<String>,
    pub(super) hooks: Hooks,
    pub(super) start: Steps,
    pub(super) stop: Steps,
    pub(super) token: CancellationToken,
    pub(super) has_signals: bool,
    pub(super) health: Health,
    /// A check that cannot be made is then an error.
    pub(super) only_checks: bool,
}

impl App {
    /// Starts without any settings.
    pub fn new() -> Self {
        Self {
            code: Config::default(),
            given: Config::default(),
            routes: Vec::new(),
            context: Context::default(),
            policies: Policies::default(),
            retired: Vec::new(),
            hooks: Hooks::default(),
            start: Steps::default(),
            stop: Steps::default(),
            token: CancellationToken::new(),
            has_signals: true,
            health: Health::default(),
            only_checks: false,
        }
    }

    /// Starts with the settings of the environment and of the file that it names. They override
    /// settings made in code. See [`Config`] for the names.
    ///
    /// # Errors
    /// If the file or a variable holds something that is not a setting.
    pub fn from_env() -> Result<Self, Error> {
        Ok(Self::new().config(Config::from_env()?))
    }

    /// Overrides settings made in code.
    pub fn config(mut self, config: Config) -> Self {
        self.given = config.over(self.given);
        self
    }

    /// Sets settings in code all at once, as the methods here do one by one. The environment and
    /// the file override them, and a later call overrides an earlier one. Settings of a handler
    /// given here override the handler's route.
    ///
    /// ```
    /// # fn main() -> Result<(), onceward::Error> {
    /// use onceward::{App, Config};
    ///
    /// let app = App::from_env()?.defaults(Config::default().max_in_flight(50_000));
    /// # Ok(())
    /// # }
    /// ```
    pub fn defaults(mut self, config: Config) -> Self {
        self.code = config.over(self.code);
        self
    }

    /// Sets the address of Kafka: `host:port`, several with commas.
    pub fn brokers(mut self, brokers: impl Into<String>) -> Self {
        self.code.brokers = Some(brokers.into());
        self
    }

    /// Sets the address of PostgreSQL.
    pub fn database_url(mut self, url: impl Into<String>) -> Self {
        self.code.database_url = Some(url.into());
        self
    }

    /// Sets a property of librdkafka.
    pub fn kafka(mut self, property: impl Into<String>, value: impl Into<String>) -> Self {
        self.code.kafka.insert(property.into(), value.into());
        self
    }

    /// Sets where processed records are recorded.
    pub fn dedupe(mut self, kind: DedupeKind) -> Self {
        self.code.dedupe = Some(kind);
        self
    }

    /// Creates or updates Onceward's tables before anything is consumed.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.code.migrate = Some(migrate);
        self
    }

    /// Waits up to `limit` for topics that do not exist yet.
    pub fn wait_for_topics(mut self, limit: Duration) -> Self {
        self.code.wait_for_topics = Some(limit);
        self
    }

    /// Sets where a partition without a committed offset starts.
    pub fn start_at(mut self, start: Start) -> Self {
        self.code.start = Some(start);
        self
    }

    /// Sets how a handler's span relates to the producer's span; see
    /// [`middleware::Trace`](crate::middleware::Trace).
    pub fn trace(mut self, mode: TraceMode) -> Self {
        self.code.trace = Some(mode);
        self
    }

    /// Sets how long a revoke waits for work in flight.
    pub fn drain_deadline(mut self, limit: Duration) -> Self {
        self.code.drain_deadline = Some(limit);
        self
    }

    /// Sets how long a shutdown may take in all.
    pub fn shutdown_deadline(mut self, limit: Duration) -> Self {
        self.code.shutdown_deadline = Some(limit);
        self
    }

    /// Sets how dead letters are written.
    pub fn dead_letters(mut self, config: DeadLetterConfig) -> Self {
        self.code.dead_letter = config;
        self
    }

    /// Sets the schema registry.
    #[cfg(feature = "schemas")]
    pub fn schema_registry(mut self, config: SchemaRegistryConfig) -> Self {
        self.code.schema_registry = config;
        self
    }

    /// Adds a handler: a value of the type that `#[handler]` creates (`on_flight {}`), or a
    /// [`Route`](crate::Route) made from it.
    pub fn handler(mut self, route: impl IntoRoute) -> Self {
        self.routes.push(route.into_route().into_inner());
        self
    }

    /// Shares a value with all handlers, which take it as [`State`](crate::extract::State) of
    /// the same type: `State<Arc<T>>` if an `Arc<T>` was given. A second value of the same type
    /// replaces the first.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, state: T) -> Self {
        self.context.insert(state);
        self
    }

    /// Sets how a topic's records name their event type; by default in the CloudEvents
    /// attribute `type`.
    pub fn event_type(mut self, topic: impl Into<String>, event_type: EventType) -> Self {
        self.policies.event_types.insert(topic.into(), event_type);
        self
    }

    /// Sets what happens to records of a topic that no handler takes.
    pub fn unmatched(mut self, topic: impl Into<String>, policy: Unmatched) -> Self {
        self.policies.unmatched.insert(topic.into(), policy);
        self
    }

    /// Declares that the handler of this name was removed for good. Then another handler may
    /// read its topics without naming it in `formerly`.
    pub fn retired(mut self, handler: impl Into<String>) -> Self {
        self.retired.push(handler.into());
        self
    }

    /// Called when all checks have passed, before anything is consumed.
    pub fn on_start<F, Fut>(mut self, hook: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.start.push(hook);
        self
    }

    /// Called at the end, when all work has ended.
    pub fn on_stop<F, Fut>(mut self, hook: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.stop.push(hook);
        self
    }

    /// Called when partitions are assigned. Runs on the poll thread, so it must not wait.
    pub fn on_assigned(mut self, hook: impl Fn(&[TopicPartition]) + Send + Sync + 'static) -> Self {
        self.hooks.on_assigned(hook);
        self
    }

    /// Called when partitions were revoked (drained and committed) or lost. Runs on the poll
    /// thread, so it must not wait.
    pub fn on_revoked(mut self, hook: impl Fn(&[TopicPartition]) + Send + Sync + 'static) -> Self {
        self.hooks.on_revoked(hook);
        self
    }

    /// Called when a partition stopped because the broker no longer has its committed offset,
    /// or because its topic was deleted and created again. Gets the offset at which it would
    /// have gone on.
    pub fn on_out_of_range(mut self, hook: impl Fn(&TopicPartition, i64) + Send + Sync + 'static) -> Self {
        self.hooks.on_out_of_range(hook);
        self
    }

    /// Returns a handle to the application's health.
    ///
    /// ```
    /// # use onceward::App;
    /// let app = App::new();
    /// let health = app.health();
    /// // In a readiness probe:
    /// if !health.is_ready() {
    ///     eprintln!("{:?}", health.problems());
    /// }
    /// // Nothing is wrong with this process, but it waits for others:
    /// for sentence in health.degraded() {
    ///     eprintln!("{sentence}");
    /// }
    /// ```
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Shuts down when this token is cancelled, as on SIGTERM.
    pub fn shutdown_on(mut self, token: CancellationToken) -> Self {
        self.token = token;
        self
    }

    /// Does not listen for SIGTERM and SIGINT, for a process that handles them itself and shuts
    /// the application down by the token of [`shutdown_on`](Self::shutdown_on).
    pub fn without_signals(mut self) -> Self {
        self.has_signals = false;
        self
    }
}

impl Default for App {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "App({} handlers)", self.routes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_code_sets_all_at_once_is_weaker_than_the_environment() {
        let environment = Config::default().max_hops(1);
        let defaults = Config::default().max_hops(2).max_in_flight(7).brokers("a:1");
        let app = App::new().config(environment).defaults(defaults).brokers("b:2");
        let config = app.given.over(app.code);
        assert_eq!(config.max_hops, Some(1));
        assert_eq!(config.max_in_flight, Some(7));
        assert_eq!(config.brokers.as_deref(), Some("b:2"));
    }
}

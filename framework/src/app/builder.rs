//! Everything, running.

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
/// All handlers of a consumer group share one consumer. Each partition is worked
/// in order, all partitions side by side.
#[must_use]
pub struct App {
    pub(super) code: Config,
    /// From a file and the environment: stronger than the code's.
    pub(super) given: Config,
    pub(super) routes: Vec<Box<dyn AnyRoute>>,
    pub(super) context: Context,
    pub(super) policies: Policies,
    pub(super) retired: Vec<String>,
    pub(super) hooks: Hooks,
    pub(super) start: Steps,
    pub(super) stop: Steps,
    pub(super) token: CancellationToken,
    pub(super) health: Health,
    /// What cannot be checked is an error then.
    pub(super) only_checks: bool,
}

impl App {
    /// Starts with nothing set.
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
            health: Health::default(),
            only_checks: false,
        }
    }

    /// Starts with the settings of the environment and of the file that it names;
    /// they are stronger than what code sets. See [`Config`] for the names.
    ///
    /// # Errors
    /// Where the file or a variable holds something that is not a setting.
    pub fn from_env() -> Result<Self, Error> {
        Ok(Self::new().config(Config::from_env()?))
    }

    /// Takes settings that are stronger than what code sets.
    pub fn config(mut self, config: Config) -> Self {
        self.given = config.over(self.given);
        self
    }

    /// Sets where Kafka is: `host:port`, several with commas.
    pub fn brokers(mut self, brokers: impl Into<String>) -> Self {
        self.code.brokers = Some(brokers.into());
        self
    }

    /// Sets where PostgreSQL is.
    pub fn database_url(mut self, url: impl Into<String>) -> Self {
        self.code.database_url = Some(url.into());
        self
    }

    /// Sets a property of librdkafka.
    pub fn kafka(mut self, property: impl Into<String>, value: impl Into<String>) -> Self {
        self.code.kafka.insert(property.into(), value.into());
        self
    }

    /// Says where it is noted what was done.
    pub fn dedupe(mut self, kind: DedupeKind) -> Self {
        self.code.dedupe = Some(kind);
        self
    }

    /// Makes or updates Onceward's tables before anything is consumed.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.code.migrate = Some(migrate);
        self
    }

    /// Waits up to `limit` for topics that are not there yet.
    pub fn wait_for_topics(mut self, limit: Duration) -> Self {
        self.code.wait_for_topics = Some(limit);
        self
    }

    /// Says where a partition without a committed offset starts.
    pub fn start_at(mut self, start: Start) -> Self {
        self.code.start = Some(start);
        self
    }

    /// Says how the spans of handlers stand to those of the producers; see
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

    /// Says how the copies in dead-letter topics are made.
    pub fn dead_letters(mut self, config: DeadLetterConfig) -> Self {
        self.code.dead_letter = config;
        self
    }

    /// Says where schemas are looked up.
    #[cfg(feature = "schemas")]
    pub fn schema_registry(mut self, config: SchemaRegistryConfig) -> Self {
        self.code.schema_registry = config;
        self
    }

    /// Adds a handler: the value that `#[handler]` leaves (`on_flight {}`), or a
    /// [`Route`](crate::Route) made of it.
    pub fn handler(mut self, route: impl IntoRoute) -> Self {
        self.routes.push(Box::new(route.into_route()));
        self
    }

    /// Shares a value with all handlers, as [`State`](crate::extract::State). A
    /// second one of the same type takes the first one's place.
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.context.insert(state);
        self
    }

    /// Says what tells the event types of a topic apart; by default the CloudEvents
    /// attribute `type`.
    pub fn event_type(mut self, topic: impl Into<String>, event_type: EventType) -> Self {
        self.policies.event_types.insert(topic.into(), event_type);
        self
    }

    /// Says what happens to records of a topic that no handler takes.
    pub fn unmatched(mut self, topic: impl Into<String>, policy: Unmatched) -> Self {
        self.policies.unmatched.insert(topic.into(), policy);
        self
    }

    /// Says that a handler of this name is gone for good, so that its name is not
    /// asked for when another reads its topics.
    pub fn retired(mut self, handler: impl Into<String>) -> Self {
        self.retired.push(handler.into());
        self
    }

    /// Runs when all checks have passed, before anything is consumed.
    pub fn on_start<F, Fut>(mut self, hook: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.start.push(hook);
        self
    }

    /// Runs at the end, when all work has ended.
    pub fn on_stop<F, Fut>(mut self, hook: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.stop.push(hook);
        self
    }

    /// Is told of partitions that were assigned. Runs on the poll thread: it must
    /// not wait.
    pub fn on_assigned(mut self, hook: impl Fn(&[TopicPartition]) + Send + Sync + 'static) -> Self {
        self.hooks.on_assigned(hook);
        self
    }

    /// Is told of partitions that were given away, drained and committed, or lost.
    /// Runs on the poll thread: it must not wait.
    pub fn on_revoked(mut self, hook: impl Fn(&[TopicPartition]) + Send + Sync + 'static) -> Self {
        self.hooks.on_revoked(hook);
        self
    }

    /// Is told of a partition that stopped because the broker no longer has its
    /// committed offset, or because its topic was deleted and made again, with the
    /// offset at which it would have gone on.
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

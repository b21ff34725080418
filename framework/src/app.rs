//! Everything, running.

use crate::assignment::Setup;
use crate::binding::{Common, RouterParts, bind, routers};
#[cfg(feature = "schemas")]
use crate::checks::check_schemas;
use crate::checks::{check_policies, check_routes, check_topics};
use crate::config::{
    Config, DeadLetterConfig, DedupeKind, HandlerConfig, Origins, Resolved, Start, handlers,
};
use crate::dead_letter::DeadLetters;
use crate::dedupe::{Dedupe, Memory};
use crate::event_type::EventType;
use crate::extract::Context;
use crate::handler::Settings;
use crate::health::Health;
use crate::hooks::{Hooks, Steps};
use crate::partition::Limits;
use crate::poll::Poller;
use crate::publish::Publishing;
use crate::route::{AnyRoute, IntoRoute};
use crate::router::{Policies, Unmatched};
#[cfg(feature = "schemas")]
use crate::schemas::{SchemaRegistryConfig, Schemas};
use crate::shutdown::{self, Shutdown};
use crate::starts::Suspects;
use crate::subscription::{Letters, Subscription};
use crate::trace::{Spans, TraceMode};
use crate::{BoxError, Error, TopicPartition};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

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
    code: Config,
    /// From a file and the environment: stronger than the code's.
    given: Config,
    routes: Vec<Box<dyn AnyRoute>>,
    context: Context,
    policies: Policies,
    retired: Vec<String>,
    hooks: Hooks,
    start: Steps,
    stop: Steps,
    token: CancellationToken,
    health: Health,
    /// What cannot be checked is an error then.
    only_checks: bool,
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

    /// Does what the first argument of the command line says: `run` (also without
    /// one), `migrate` (makes Onceward's tables and ends), or `check` (does all
    /// checks of the start and ends).
    ///
    /// # Errors
    /// As [`run`](Self::run), and for a command that does not exist.
    pub async fn command(mut self) -> Result<(), Error> {
        // A name of its own: the iterator is not `Send` and would live through the match.
        let command = std::env::args_os().nth(1).map(|command| command.to_string_lossy().into_owned());
        match command.as_deref() {
            None | Some("run") => self.run().await,
            Some("migrate") => {
                self.code.migrate = Some(true);
                let config = self.given.over(self.code);
                let origins = config.origins.clone();
                migrate(&config.resolve()?).await.map_err(|error| origins.place(error))
            }
            Some("check") => {
                self.only_checks = true;
                self.prepare().await.map(|_| ())
            }
            Some(other) => {
                Err(Error::config("command", format!("`{other}` is not `run`, `migrate` or `check`")))
            }
        }
    }

    /// Consumes until SIGTERM, SIGINT, the token of
    /// [`shutdown_on`](Self::shutdown_on), or an error; then finishes what is in
    /// flight, commits, and leaves the groups.
    ///
    /// A second signal ends the process at once, with exit code 128 + its number.
    ///
    /// # Errors
    /// Before anything is consumed: settings that are missing, unknown or
    /// impossible, topics and tables that are not there or may not be used. Later:
    /// a consumer that was fenced or lost its permissions, a record whose policy is
    /// to stop, work that did not finish within `shutdown_deadline`.
    pub async fn run(mut self) -> Result<(), Error> {
        let (token, start, stop) =
            (self.token.clone(), std::mem::take(&mut self.start), std::mem::take(&mut self.stop));
        let health = self.health.clone();
        let run = async {
            let prepared = self.prepare().await?;
            let _upkeep = prepared.upkeep();
            start.run("a hook on start").await?;
            let consumed = prepared.consume(token).await;
            let stopped = stop.run("a hook on stop").await;
            consumed.and(stopped)
        };
        let ended = run.await;
        health.ends(ended.as_ref().err());
        ended
    }

    /// Does all checks, and makes of the settings what consumes.
    async fn prepare(mut self) -> Result<Prepared, Error> {
        let given = std::mem::take(&mut self.given);
        let config = given.over(std::mem::take(&mut self.code));
        let origins = config.origins.clone();
        self.prepare_with(config).await.map_err(|error| origins.place(error))
    }

    async fn prepare_with(mut self, config: Config) -> Result<Prepared, Error> {
        let needs_database = self.routes.iter().any(|route| route.takes_transaction());
        let config = config.without_foreign_database(needs_database);
        let (overrides, origins) = (config.handlers.clone(), config.origins.clone());
        let config = config.resolve()?;
        self.override_settings(&overrides, &origins)?;
        config.check_properties()?;
        #[cfg(feature = "schemas")]
        self.context.set_schemas(Schemas::new(&config.schema_registry)?);
        check_routes(&self.routes, &self.context, &config)?;
        check_policies(&self.policies, &self.routes, &self.context)?;
        #[cfg(feature = "schemas")]
        match check_schemas(&self.routes, &self.context, &self.policies, &config).await {
            // A record will wait for it, if it has to.
            Err(error @ Error::Registry { .. }) if !self.only_checks => {
                tracing::warn!(?error, "handlers are not checked against the schema registry");
            }
            checked => checked?,
        }
        let dedupe = connect(&config).await?;
        let spans = Spans::new(config.trace);
        let groups = group(self.routes);
        for routes in groups.values() {
            check_topics(&config, routes, &self.policies).await?;
        }
        self.health.expect(groups.len(), config.stuck_after);
        let unread = Letters::of(groups.values());
        let (sender, stop) = mpsc::unbounded_channel();
        let publishing = Arc::new(Publishing::new(&config, &spans)?);
        self.context.set_publishing(publishing.clone());
        let common = Common {
            dedupe: dedupe.clone(),
            context: Arc::new(self.context),
            letters: DeadLetters::new(&config, &spans)?,
            publishing,
            spans,
        };
        let (hooks, policies) = (Arc::new(self.hooks), Arc::new(self.policies));
        let suspects: Arc<Suspects> = Arc::default();
        let shutdown = Shutdown::new(config.shutdown_deadline);
        let mut setups = Vec::new();
        for (name, routes) in groups {
            let group: Arc<str> = name.into();
            let subscription = Subscription::new(&config, &routes, unread.clone())?;
            let handlers = routes.iter().map(|route| route.settings().name.clone()).collect();
            let bound = bind(routes, &group, &common, &self.retired).await?;
            let routers = routers(RouterParts {
                group: group.clone(),
                bound,
                policies: policies.clone(),
                context: common.context.clone(),
                letters: common.letters.to(None, None),
                unread: unread.clone(),
                stop: sender.clone(),
            });
            let setup = Setup {
                group,
                routers,
                limits: Limits {
                    records: config.max_run_records,
                    bytes: config.max_run_bytes,
                    time: config.max_run_time,
                    in_flight: config.max_in_flight,
                    in_flight_bytes: config.max_in_flight_bytes,
                },
                drain_deadline: config.drain_deadline,
                start: config.start,
                out_of_range: config.out_of_range,
                hooks: hooks.clone(),
                health: self.health.clone(),
                handlers,
                suspects: suspects.clone(),
                runtime: tokio::runtime::Handle::current(),
                stop: sender.clone(),
            };
            setups.push((subscription, setup));
        }
        Ok(Prepared { config, dedupe, setups, health: self.health, shutdown, stop })
    }
}

impl App {
    /// Puts what a file or the environment says of handlers in place of what code says.
    fn override_settings(
        &mut self,
        overrides: &BTreeMap<String, HandlerConfig>,
        origins: &Origins,
    ) -> Result<(), Error> {
        let names: Vec<String> = self.routes.iter().map(|route| route.settings().name.clone()).collect();
        let meant = handlers::meant(overrides.keys(), &names, origins)?;
        for route in &mut self.routes {
            let name = route.settings().name.clone();
            for (given, _) in meant.iter().filter(|(_, handler)| **handler == name) {
                override_settings(route.settings_mut(), overrides[given].clone());
            }
        }
        Ok(())
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

/// Everything checked, nothing consumed.
struct Prepared {
    config: Resolved,
    dedupe: Dedupe,
    setups: Vec<(Subscription, Setup)>,
    health: Health,
    shutdown: Shutdown,
    stop: mpsc::UnboundedReceiver<Error>,
}

impl Prepared {
    /// What runs beside the consuming, until it is dropped.
    fn upkeep(&self) -> Option<AbortOnDropHandle<()>> {
        #[cfg(feature = "postgres")]
        if let Dedupe::Postgres(postgres) = &self.dedupe {
            let (postgres, window) = (postgres.clone(), self.config.dedupe_window);
            let upkeep = async move { crate::dedupe::expiry::keep_dropping(&postgres, window).await };
            return Some(AbortOnDropHandle::new(tokio::spawn(upkeep)));
        }
        let _ = &self.dedupe;
        None
    }

    async fn consume(mut self, token: CancellationToken) -> Result<(), Error> {
        // Also when the caller drops this future: no thread consumes on without it.
        let _end = EndOnDrop(self.shutdown.clone());
        let (ended, mut ends) = mpsc::unbounded_channel();
        let groups = self.setups.len();
        for (subscription, setup) in self.setups.drain(..) {
            let (config, shutdown, ended) = (self.config.clone(), self.shutdown.clone(), ended.clone());
            std::thread::Builder::new()
                .name(format!("onceward-{}", setup.group))
                .spawn(move || {
                    // A send fails only if the application was dropped meanwhile.
                    let _ = ended.send(
                        Poller::subscribe(&config, subscription, setup, shutdown).and_then(Poller::run),
                    );
                })
                .map_err(|error| Error::Internal {
                    what: "starting a poll thread".into(),
                    source: error.into(),
                })?;
        }
        drop(ended);
        let mut left = groups;
        let mut result = tokio::select! {
            requested = shutdown::requested(&token) => requested,
            Some(error) = self.stop.recv() => Err(error),
            end = ends.recv() => {
                left -= 1;
                end.unwrap_or_else(|| Err(panicked()))
            }
        };
        self.health.ends(result.as_ref().err());
        self.shutdown.begin();
        while left > 0 {
            let end = ends.recv().await.unwrap_or_else(|| Err(panicked()));
            result = result.and(end);
            left -= 1;
        }
        result
    }
}

struct EndOnDrop(Shutdown);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.begin();
    }
}

fn panicked() -> Error {
    Error::Internal { what: "a poll thread".into(), source: "it panicked".into() }
}

/// What a file or the environment says of a handler.
fn override_settings(settings: &mut Settings, given: HandlerConfig) {
    if let Some(topic) = given.topic {
        settings.topics = vec![topic];
    }
    settings.group = given.group.or(settings.group.take());
    settings.timeout = given.timeout.or(settings.timeout);
    settings.order = given.order.unwrap_or(settings.order);
    settings.guarantee = given.guarantee.unwrap_or(settings.guarantee);
    settings.concurrency = given.concurrency.or(settings.concurrency);
    settings.max_run_records = given.max_run_records.or(settings.max_run_records);
    let retry = &mut settings.failure.retry;
    retry.max_attempts = given.max_attempts.unwrap_or(retry.max_attempts);
    retry.max_elapsed = given.max_elapsed.unwrap_or(retry.max_elapsed);
    retry.backoff = given.backoff.unwrap_or(retry.backoff);
    retry.max_backoff = given.max_backoff.unwrap_or(retry.max_backoff);
    settings.dead_letter = given.dead_letter.or(settings.dead_letter.take());
    settings.rejected = given.rejected.or(settings.rejected.take());
    settings.max_starts = given.max_starts.or(settings.max_starts);
    #[cfg(feature = "schemas")]
    {
        settings.schema_check = given.schema_check.or(settings.schema_check);
    }
}

/// Brings the tables up to date, and drops old days, which only the tables' owner can.
async fn migrate(config: &Resolved) -> Result<(), Error> {
    let dedupe = connect(config).await?;
    #[cfg(feature = "postgres")]
    if let Dedupe::Postgres(postgres) = &dedupe {
        let failed = |source: crate::dedupe::StoreError| Error::Store {
            action: "drop old days of what was done".to_owned(),
            source: source.into(),
        };
        crate::dedupe::expiry::drop_old(postgres, config.dedupe_window).await.map_err(failed)?;
    }
    drop(dedupe);
    Ok(())
}

/// Opens what is known of what was done.
async fn connect(config: &Resolved) -> Result<Dedupe, Error> {
    match config.dedupe {
        DedupeKind::Off => Ok(Dedupe::Off),
        DedupeKind::Memory => Ok(Dedupe::Memory(Arc::new(Memory::new(1_000_000)))),
        #[cfg(feature = "postgres")]
        DedupeKind::Postgres => {
            use crate::dedupe::{migrate, postgres::Postgres};
            let url = config.database_url.as_deref().ok_or_else(|| {
                Error::config(
                    "database_url",
                    "is not set, and `dedupe = \"postgres\"` needs it; give `DATABASE_URL`",
                )
            })?;
            let postgres = Postgres::connect(url, config.max_connections, config.session_timeout()?).await?;
            if config.migrate {
                migrate::apply(&postgres).await?;
            }
            migrate::check(&postgres).await?;
            Ok(Dedupe::Postgres(Arc::new(postgres)))
        }
        #[cfg(not(feature = "postgres"))]
        DedupeKind::Postgres => Err(Error::config(
            "dedupe",
            "is `postgres`, but the crate was built without its feature `postgres`",
        )),
    }
}

pub(crate) type Routes = Vec<Box<dyn AnyRoute>>;

/// The routes of each consumer group.
fn group(routes: Routes) -> BTreeMap<String, Routes> {
    let mut groups: BTreeMap<String, Routes> = BTreeMap::new();
    for route in routes {
        let group = route.settings().group.clone().unwrap_or_default();
        groups.entry(group).or_default().push(route);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_can_run_in_a_spawned_task() {
        fn is_send<T: Send>(_: fn(App) -> T) {}
        is_send(App::run);
        is_send(App::command);
    }
}

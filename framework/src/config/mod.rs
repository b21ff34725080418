//! Onceward's settings. Properties in the section `kafka` go to librdkafka unchanged.

mod brokers;
mod choices;
#[cfg(feature = "postgres")]
pub(crate) mod database_url;
mod dead_letter;
mod file;
mod given;
pub(crate) mod handlers;
mod kubernetes;
mod origin;
mod promises;
pub(crate) mod properties;
mod reader;
mod resolved;
mod setters;
#[cfg(feature = "schemas")]
pub(crate) mod schema_registry;
mod sources;
mod suggest;
#[cfg(test)]
mod tests;

pub use choices::{DedupeKind, GroupProtocol, Guarantee, Order, OutOfRange, Start, TraceMode};
pub use dead_letter::{DeadLetterConfig, DeadLetterPartition, HeaderFamily};
pub(crate) use origin::{Origin, Origins};
pub(crate) use resolved::Resolved;
pub(crate) use sources::duration;
pub(crate) use suggest::did_you_mean;

#[cfg(feature = "schemas")]
use crate::config::schema_registry::SchemaRegistryConfig;
use serde::Deserialize;
use sources::properties;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The settings, from code, a file and the environment.
///
/// Precedence, strongest first:
///
/// 1. Environment: `ONCEWARD_` with the setting's name in capitals
///    (`ONCEWARD_DRAIN_DEADLINE=3s`); `__` stands for a dot between sections
///    (`ONCEWARD_HANDLERS__ON_FLIGHT__TOPIC`), and under `ONCEWARD_KAFKA__` an underscore
///    is a dot (`ONCEWARD_KAFKA__FETCH_WAIT_MAX_MS=100`). Then `KAFKA_BROKERS`,
///    `DATABASE_URL` and `SCHEMA_REGISTRY_URL`, which other programs read too.
/// 2. The TOML file named by `ONCEWARD_CONFIG`, or given to [`Config::file`].
/// 3. Code: methods of [`App`](crate::App), among them [`defaults`](crate::App::defaults), and
///    of [`Route`](crate::Route), then the handler's attribute.
/// 4. The default.
///
/// A text is taken as it was typed. A list has commas. Durations are texts such as `500ms`,
/// `5s`, `7days`. Words and the names of handlers may be in any case. An error names the
/// variable, or the file and the line, and never the value.
///
/// ```toml
/// brokers = "127.0.0.1:9092"
/// database_url = "postgres://app:secret@127.0.0.1/app"
/// drain_deadline = "5s"
///
/// [kafka] # any property of librdkafka
/// fetch.wait.max.ms = 100
///
/// [handlers.on_flight]
/// topic = "flights"
/// timeout = "30s"
/// ```
///
/// In code each setting is a method, and [`App::defaults`](crate::App::defaults) takes them all:
///
/// ```
/// use onceward::{App, Config, OutOfRange};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), onceward::Error> {
/// let defaults = Config::default()
///     .out_of_range(OutOfRange::Earliest)
///     .commit_interval(Duration::from_millis(200))
///     .kafka("fetch.wait.max.ms", "100");
/// let app = App::new().config(Config::from_env()?).defaults(defaults);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The address of Kafka: `host:port`, several with commas.
    pub brokers: Option<String>,
    /// The address of PostgreSQL. Without it, no handler can take a transaction.
    pub database_url: Option<String>,
    /// Properties of librdkafka, by any of their names. A property that would break a promise
    /// is refused.
    #[serde(default, deserialize_with = "properties")]
    pub kafka: BTreeMap<String, String>,
    /// Settings of single handlers, by name.
    #[serde(default)]
    pub handlers: BTreeMap<String, HandlerConfig>,
    /// Where processed records are recorded: `postgres` (the default if `database_url` is set),
    /// `memory`, `off`. If no handler takes a transaction, a `DATABASE_URL` that is not a
    /// PostgreSQL URL is ignored.
    pub dedupe: Option<DedupeKind>,
    /// How long a processed record is remembered at least, 14 days by default. Refused if a
    /// topic keeps its records longer.
    #[serde(default, deserialize_with = "duration")]
    pub dedupe_window: Option<Duration>,
    /// Finds copies of one event only if they are handled within this time of each other; the whole
    /// `dedupe_window` by default. A copy that comes later counts again. In return a claim looks into fewer
    /// tables: what was closed for longer is not read.
    #[serde(default, deserialize_with = "duration")]
    pub dedupe_copies_found_within: Option<Duration>,
    /// Accepts topics that keep their records longer than `dedupe_window`: a replay of records
    /// older than the window handles them again.
    pub dedupe_window_shorter_than_retention: Option<bool>,
    /// Whether `App::run` creates or updates Onceward's tables first; no by default.
    pub migrate: Option<bool>,
    /// The maximum number of connections to PostgreSQL, 16 by default.
    pub max_connections: Option<usize>,
    /// Where a partition without a committed offset starts: `earliest` (the
    /// default), `latest`, `offset:N`, or `time:` with milliseconds since the epoch.
    pub start: Option<Start>,
    /// How a handler's span relates to the producer's span: `link` (the default), `parent`, or
    /// `off` (no span).
    pub trace: Option<TraceMode>,
    /// What a partition does if the broker no longer has its committed offset: `stop` (the
    /// default, with an alarm), `earliest`, `latest`.
    pub out_of_range: Option<OutOfRange>,
    /// `classic` (cooperative-sticky, the default) or `consumer` (KIP-848, brokers
    /// from 4.0).
    pub group_protocol: Option<GroupProtocol>,
    /// Static membership (KIP-345): a restart within the session timeout moves no
    /// partition. One per process, for example the pod's name.
    pub instance_id: Option<String>,
    /// How long `App::run` waits for topics that do not exist yet; not at all by default.
    #[serde(default, deserialize_with = "duration")]
    pub wait_for_topics: Option<Duration>,
    /// How dead letters are written.
    #[serde(default)]
    pub dead_letter: DeadLetterConfig,
    /// The schema registry.
    #[cfg(feature = "schemas")]
    #[serde(default)]
    pub schema_registry: SchemaRegistryConfig,
    /// The maximum number of handlers that a chain of published records may pass, 32 by
    /// default. A record that would go further is dead-lettered.
    pub max_hops: Option<u32>,
    /// How often offsets are committed, 1 s by default.
    #[serde(default, deserialize_with = "duration")]
    pub commit_interval: Option<Duration>,
    /// How long a revoke waits for work in flight, 3 s by default. All partitions
    /// of the group wait with it.
    #[serde(default, deserialize_with = "duration")]
    pub drain_deadline: Option<Duration>,
    /// How long a shutdown may take in all, 20 s by default.
    #[serde(default, deserialize_with = "duration")]
    pub shutdown_deadline: Option<Duration>,
    /// How long a record may be the oldest unfinished one of its partition, 1 min by default.
    /// After that the application logs it and is no longer [ready](crate::Health).
    #[serde(default, deserialize_with = "duration")]
    pub stuck_after: Option<Duration>,
    /// The maximum number of records in a run, 1,000 by default.
    pub max_run_records: Option<usize>,
    /// The maximum number of bytes in a run, 4 MiB by default; a larger record is a run by
    /// itself.
    pub max_run_bytes: Option<usize>,
    /// How long a run should take, 250 ms by default. Onceward sizes runs to fit.
    #[serde(default, deserialize_with = "duration")]
    pub max_run_time: Option<Duration>,
    /// With `order = "key"` or `"none"`: the maximum number of delivered records of a partition
    /// from its oldest unfinished one on, 10,000 by default. At the limit the partition waits
    /// for that record, and logs it.
    pub max_in_flight: Option<usize>,
    /// The maximum number of bytes of these records, 16 MiB by default. librdkafka's prefetched
    /// records come on top: `queued.max.messages.kbytes` and one fetch per partition.
    pub max_in_flight_bytes: Option<usize>,
    /// Where each was given.
    #[serde(skip)]
    pub(crate) origins: Origins,
}

/// The settings of one handler.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HandlerConfig {
    /// The topic, instead of the attribute's.
    pub topic: Option<String>,
    /// The consumer group.
    pub group: Option<String>,
    /// The time limit of each call of the handler.
    #[serde(default, deserialize_with = "duration")]
    pub timeout: Option<Duration>,
    /// Which records are handled in order: `partition`, `key` or `none`.
    pub order: Option<Order>,
    /// How often a record is handled: `at_least_once`, or `at_most_once_losing_work_in_flight`.
    pub guarantee: Option<Guarantee>,
    /// With `order = "key"` or `"none"`: how many handlers of the topic run at once.
    pub concurrency: Option<usize>,
    /// The maximum number of records in a run.
    pub max_run_records: Option<usize>,
    /// The maximum number of attempts, the first one included.
    pub max_attempts: Option<u32>,
    /// No attempt begins later than this after the first failure.
    #[serde(default, deserialize_with = "duration")]
    pub max_elapsed: Option<Duration>,
    /// The longest delay before the second attempt.
    #[serde(default, deserialize_with = "duration")]
    pub backoff: Option<Duration>,
    /// The longest delay.
    #[serde(default, deserialize_with = "duration")]
    pub max_backoff: Option<Duration>,
    /// The dead-letter topic, or `none`.
    pub dead_letter: Option<String>,
    /// Another dead-letter topic for records that do not decode.
    pub rejected: Option<String>,
    /// How often the process may end while it tries one record, before that record is
    /// dead-lettered.
    pub max_starts: Option<u32>,
    /// What happens at the start where its type cannot read what stands in the registry.
    #[cfg(feature = "schemas")]
    pub schema_check: Option<crate::SchemaCheck>,
}

impl Config {
    /// Takes from `weaker` what is not set here.
    pub(crate) fn over(self, weaker: Self) -> Self {
        let mut kafka = self.kafka;
        for (name, value) in weaker.kafka {
            let property = properties::canonical(&name);
            if !kafka.keys().any(|stronger| properties::canonical(stronger) == property) {
                kafka.insert(name, value);
            }
        }
        Self {
            brokers: self.brokers.or(weaker.brokers),
            database_url: self.database_url.or(weaker.database_url),
            kafka,
            handlers: handlers::over(self.handlers, weaker.handlers),
            dedupe: self.dedupe.or(weaker.dedupe),
            dedupe_window: self.dedupe_window.or(weaker.dedupe_window),
            dedupe_copies_found_within: self.dedupe_copies_found_within.or(weaker.dedupe_copies_found_within),
            dedupe_window_shorter_than_retention: self
                .dedupe_window_shorter_than_retention
                .or(weaker.dedupe_window_shorter_than_retention),
            migrate: self.migrate.or(weaker.migrate),
            max_connections: self.max_connections.or(weaker.max_connections),
            start: self.start.or(weaker.start),
            trace: self.trace.or(weaker.trace),
            out_of_range: self.out_of_range.or(weaker.out_of_range),
            group_protocol: self.group_protocol.or(weaker.group_protocol),
            instance_id: self.instance_id.or(weaker.instance_id),
            wait_for_topics: self.wait_for_topics.or(weaker.wait_for_topics),
            dead_letter: self.dead_letter.over(weaker.dead_letter),
            #[cfg(feature = "schemas")]
            schema_registry: self.schema_registry.over(weaker.schema_registry),
            max_hops: self.max_hops.or(weaker.max_hops),
            commit_interval: self.commit_interval.or(weaker.commit_interval),
            drain_deadline: self.drain_deadline.or(weaker.drain_deadline),
            shutdown_deadline: self.shutdown_deadline.or(weaker.shutdown_deadline),
            stuck_after: self.stuck_after.or(weaker.stuck_after),
            max_run_records: self.max_run_records.or(weaker.max_run_records),
            max_run_bytes: self.max_run_bytes.or(weaker.max_run_bytes),
            max_run_time: self.max_run_time.or(weaker.max_run_time),
            max_in_flight: self.max_in_flight.or(weaker.max_in_flight),
            max_in_flight_bytes: self.max_in_flight_bytes.or(weaker.max_in_flight_bytes),
            origins: self.origins.over(weaker.origins),
        }
    }
}

impl HandlerConfig {
    /// Takes from `weaker` what is not set here.
    fn over(self, weaker: Self) -> Self {
        Self {
            topic: self.topic.or(weaker.topic),
            group: self.group.or(weaker.group),
            timeout: self.timeout.or(weaker.timeout),
            order: self.order.or(weaker.order),
            guarantee: self.guarantee.or(weaker.guarantee),
            concurrency: self.concurrency.or(weaker.concurrency),
            max_run_records: self.max_run_records.or(weaker.max_run_records),
            max_attempts: self.max_attempts.or(weaker.max_attempts),
            max_elapsed: self.max_elapsed.or(weaker.max_elapsed),
            backoff: self.backoff.or(weaker.backoff),
            max_backoff: self.max_backoff.or(weaker.max_backoff),
            dead_letter: self.dead_letter.or(weaker.dead_letter),
            rejected: self.rejected.or(weaker.rejected),
            max_starts: self.max_starts.or(weaker.max_starts),
            #[cfg(feature = "schemas")]
            schema_check: self.schema_check.or(weaker.schema_check),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What they are set to may be a secret, in any of them.
        f.debug_struct("Config")
            .field("kafka", &self.kafka.keys())
            .field("handlers", &self.handlers.keys())
            .finish_non_exhaustive()
    }
}

//! The settings we own; every other key goes to librdkafka as it is.

mod brokers;
mod choices;
#[cfg(feature = "postgres")]
pub(crate) mod database_url;
mod dead_letter;
mod file;
mod given;
pub(crate) mod handlers;
mod kubernetes;
mod librdkafka;
mod origin;
mod properties;
mod reader;
mod resolved;
mod sources;
mod suggest;
#[cfg(test)]
mod tests;

pub use choices::{DedupeKind, GroupProtocol, OutOfRange, Start};
pub use dead_letter::{DeadLetterConfig, DeadLetterPartition, HeaderFamily};
pub(crate) use origin::{Origin, Origins};
pub(crate) use resolved::Resolved;
pub(crate) use sources::duration;

use crate::order::{Guarantee, Order};
#[cfg(feature = "schemas")]
use crate::schemas::SchemaRegistryConfig;
use crate::trace::TraceMode;
use serde::Deserialize;
use sources::properties;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What can be set, from code, a file and the environment.
///
/// Precedence, strongest first:
///
/// 1. Environment: `ONCEWARD_` with the setting's name in capitals
///    (`ONCEWARD_DRAIN_DEADLINE=3s`); `__` stands for a dot between sections
///    (`ONCEWARD_HANDLERS__ON_FLIGHT__TOPIC`), and under `ONCEWARD_KAFKA__` an underscore
///    is a dot (`ONCEWARD_KAFKA__FETCH_WAIT_MAX_MS=100`). Then `KAFKA_BROKERS`,
///    `DATABASE_URL` and `SCHEMA_REGISTRY_URL`, which other programs read too.
/// 2. The TOML file named by `ONCEWARD_CONFIG`, or given to [`Config::file`].
/// 3. Code: methods of [`App`](crate::App) and [`Route`](crate::Route), then the
///    handler's attribute.
/// 4. The default.
///
/// A text is taken as it was typed; a list has commas; durations are texts such as `500ms`,
/// `5s`, `7days`; words and the names of handlers count in any case. An error names the
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
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// Where Kafka is: `host:port`, several with commas.
    pub brokers: Option<String>,
    /// Where PostgreSQL is. Without it, no handler can take a transaction.
    pub database_url: Option<String>,
    /// Properties of librdkafka, also by their other names there. Those that would undo a
    /// promise are refused.
    #[serde(default, deserialize_with = "properties")]
    pub kafka: BTreeMap<String, String>,
    /// Per handler, by its name.
    #[serde(default)]
    pub handlers: BTreeMap<String, HandlerConfig>,
    /// Where it is noted what was done: `postgres` (the default where
    /// `database_url` is set), `memory`, `off`. A `DATABASE_URL` that leads to another
    /// database is left alone where no handler takes a transaction.
    pub dedupe: Option<DedupeKind>,
    /// How long what was done is remembered at least, 14 days by default. Refused
    /// where a topic keeps its records for longer.
    #[serde(default, deserialize_with = "duration")]
    pub dedupe_window: Option<Duration>,
    /// Accepts topics that keep their records for longer than `dedupe_window`: an
    /// event that is replayed from beyond the window is done again.
    pub dedupe_window_shorter_than_retention: Option<bool>,
    /// Whether `App::run` makes or updates Onceward's tables first; no by default.
    pub migrate: Option<bool>,
    /// The most connections to PostgreSQL, 16 by default.
    pub max_connections: Option<usize>,
    /// Where a partition without a committed offset starts: `earliest` (the
    /// default), `latest`, `offset:N`, or `time:` with milliseconds since the epoch.
    pub start: Option<Start>,
    /// How the spans of handlers stand to those of the producers: `link` (the default),
    /// `parent`, or `off`, which makes none.
    pub trace: Option<TraceMode>,
    /// What happens where the broker no longer has the committed offset: `stop`
    /// (the default: the partition stops with an alarm), `earliest`, `latest`.
    pub out_of_range: Option<OutOfRange>,
    /// `classic` (cooperative-sticky, the default) or `consumer` (KIP-848, brokers
    /// from 4.0).
    pub group_protocol: Option<GroupProtocol>,
    /// Static membership (KIP-345): a restart within the session timeout moves no
    /// partition. One per process, for example the pod's name.
    pub instance_id: Option<String>,
    /// How long `App::run` waits for topics that are not there yet; not at all by
    /// default.
    #[serde(default, deserialize_with = "duration")]
    pub wait_for_topics: Option<Duration>,
    /// How the copies in dead-letter topics are made.
    #[serde(default)]
    pub dead_letter: DeadLetterConfig,
    /// Where schemas are looked up.
    #[cfg(feature = "schemas")]
    #[serde(default)]
    pub schema_registry: SchemaRegistryConfig,
    /// The most handlers that a chain of published records goes through, 32 by
    /// default. The record that would go further is dead-lettered.
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
    /// How long a record may be its partition's oldest unfinished one before the application
    /// says so and is no longer [ready](crate::Health), 1 min by default.
    #[serde(default, deserialize_with = "duration")]
    pub stuck_after: Option<Duration>,
    /// The most records of a run, 1,000 by default.
    pub max_run_records: Option<usize>,
    /// The most bytes of a run, 4 MiB by default; one larger record is a run.
    pub max_run_bytes: Option<usize>,
    /// How long a run may take, 250 ms by default. Runs are sized to fit.
    #[serde(default, deserialize_with = "duration")]
    pub max_run_time: Option<Duration>,
    /// The most records of a partition that are delivered and stand at or behind its oldest
    /// unfinished one, where the order is by key or none; 10,000 by default. At the bound the
    /// partition waits for that one, and says so.
    pub max_in_flight: Option<usize>,
    /// The most bytes of these, 16 MiB by default. What librdkafka prefetches and
    /// pins comes on top: `queued.max.messages.kbytes` and one fetch a partition.
    pub max_in_flight_bytes: Option<usize>,
    /// Where each was given.
    #[serde(skip)]
    pub(crate) origins: Origins,
}

/// What can be set per handler.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HandlerConfig {
    /// The topic, in place of the attribute's.
    pub topic: Option<String>,
    /// The consumer group.
    pub group: Option<String>,
    /// Bounds each call of the handler.
    #[serde(default, deserialize_with = "duration")]
    pub timeout: Option<Duration>,
    /// Which records are handled in order: `partition`, `key` or `none`.
    pub order: Option<Order>,
    /// How often a record is handled: `at_least_once`, or `at_most_once_losing_work_in_flight`.
    pub guarantee: Option<Guarantee>,
    /// How many handlers of the topic run at once, where the order is by key or none.
    pub concurrency: Option<usize>,
    /// The most records of a run.
    pub max_run_records: Option<usize>,
    /// How often a failed record is tried, the first attempt included.
    pub max_attempts: Option<u32>,
    /// For how long a failed record is tried.
    #[serde(default, deserialize_with = "duration")]
    pub max_elapsed: Option<Duration>,
    /// The longest delay before the second attempt.
    #[serde(default, deserialize_with = "duration")]
    pub backoff: Option<Duration>,
    /// The longest delay.
    #[serde(default, deserialize_with = "duration")]
    pub max_backoff: Option<Duration>,
    /// The topic for records that were given up, or `none`.
    pub dead_letter: Option<String>,
    /// The topic for records that do not decode, where that is another.
    pub rejected: Option<String>,
    /// How often the process may end while it tries one record.
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

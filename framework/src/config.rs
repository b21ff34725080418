//! The settings we own; every other key goes to librdkafka as it is.

use crate::error::Error;
use crate::order::{Guarantee, Order};
#[cfg(feature = "schemas")]
use crate::schemas::SchemaRegistryConfig;
use crate::trace::TraceMode;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// What can be set, from code, a file and the environment.
///
/// Precedence, strongest first:
///
/// 1. Environment: `KAFKA_BROKERS`, `DATABASE_URL`, `SCHEMA_REGISTRY_URL`, and `ONCEWARD_` with the
///    setting's name in capitals (`ONCEWARD_DRAIN_DEADLINE=3s`); `__` stands for a
///    dot between sections (`ONCEWARD_HANDLERS__ON_FLIGHT__TOPIC`), and under
///    `ONCEWARD_KAFKA__` an underscore is a dot
///    (`ONCEWARD_KAFKA__FETCH_WAIT_MAX_MS=100`).
/// 2. The TOML file named by `ONCEWARD_CONFIG`, or given to [`Config::file`].
/// 3. Code: methods of [`App`](crate::App) and [`Route`](crate::Route), then the
///    handler's attribute.
/// 4. The default.
///
/// Durations are texts such as `500ms`, `5s`, `7days`.
///
/// ```toml
/// brokers = "127.0.0.1:9092"
/// database_url = "postgres://app:secret@127.0.0.1/app"
/// drain_deadline = "5s"
///
/// [kafka] # any property of librdkafka
/// "fetch.wait.max.ms" = 100
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
    /// Properties of librdkafka. Those that would undo a promise are refused.
    #[serde(default, deserialize_with = "properties")]
    pub kafka: BTreeMap<String, String>,
    /// Per handler, by its name.
    #[serde(default)]
    pub handlers: BTreeMap<String, HandlerConfig>,
    /// Where it is noted what was done: `postgres` (the default where
    /// `database_url` is set), `memory`, `off`.
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
    /// The most records of a partition in memory before its worker, 4,000 by default.
    pub partition_records: Option<usize>,
    /// The most bytes of these, 16 MiB by default. What librdkafka prefetches and
    /// pins comes on top: `queued.max.messages.kbytes` and one fetch a partition.
    pub partition_bytes: Option<usize>,
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
}

/// How the copies in dead-letter topics are made.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DeadLetterConfig {
    /// Header families beside Onceward's own `onceward.dlq.*`; `["spring"]` by default.
    pub headers: Option<Vec<HeaderFamily>>,
    /// Headers of the original that are left out of its copy, in whatever case, such
    /// as `["authorization", "cookie"]`; none by default.
    #[serde(default)]
    pub drop_headers: Vec<String>,
    /// Which partition a copy goes to: `key` (the default), by its key as Java's
    /// producers do, or `source`, the one that its original has.
    pub partition: Option<DeadLetterPartition>,
    /// Whether a dead-letter topic that is missing is made when it is first needed;
    /// yes by default. It gets as many partitions as its source.
    pub create: Option<bool>,
    /// Whether dead-letter topics are looked at before anything is consumed: that they
    /// are there or can be made, may be written to, and take what their sources
    /// have; yes by default. A Kafka without admin requests needs `false`.
    pub check: Option<bool>,
}

impl DeadLetterConfig {
    pub(crate) fn header_families(&self) -> &[HeaderFamily] {
        self.headers.as_deref().unwrap_or(&[HeaderFamily::Spring])
    }

    pub(crate) fn partition(&self) -> DeadLetterPartition {
        self.partition.unwrap_or_default()
    }

    pub(crate) fn create(&self) -> bool {
        self.create.unwrap_or(true)
    }

    pub(crate) fn check(&self) -> bool {
        self.check.unwrap_or(true)
    }

    fn over(self, weaker: Self) -> Self {
        Self {
            headers: self.headers.or(weaker.headers),
            drop_headers: if self.drop_headers.is_empty() { weaker.drop_headers } else { self.drop_headers },
            partition: self.partition.or(weaker.partition),
            create: self.create.or(weaker.create),
            check: self.check.or(weaker.check),
        }
    }
}

/// Names of the headers by which other tools know where a dead letter comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HeaderFamily {
    /// `kafka_dlt-*`, as Spring Kafka writes and reads them.
    Spring,
    /// `__connect.errors.*`, as Kafka Connect writes them.
    Connect,
    /// `__streams.errors.*`, as Kafka Streams writes them.
    Streams,
}

/// Which partition a dead letter goes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DeadLetterPartition {
    /// The one that its key finds (murmur2, as Java's producers).
    #[default]
    Key,
    /// The one that its original has. The dead-letter topic must have it.
    Source,
}

/// Where it is noted what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DedupeKind {
    /// In PostgreSQL.
    Postgres,
    /// In this process, for demos and tests.
    Memory,
    /// Nowhere: at least once.
    Off,
}

/// Where a partition without a committed offset starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
#[non_exhaustive]
pub enum Start {
    /// At the oldest record there is.
    Earliest,
    /// Behind the newest record: what is there is not handled.
    Latest,
    /// At this offset of each partition.
    Offset(i64),
    /// At the first record from this time on, in milliseconds since the epoch.
    Time(i64),
}

impl TryFrom<String> for Start {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|number| *number >= 0);
        let start = match text.split_once(':') {
            None if text == "earliest" => Some(Self::Earliest),
            None if text == "latest" => Some(Self::Latest),
            Some(("offset", offset)) => number(offset).map(Self::Offset),
            Some(("time", time)) => number(time).map(Self::Time),
            _ => None,
        };
        start
            .ok_or_else(|| format!("`{text}` is not `earliest`, `latest`, `offset:N` or `time:MILLISECONDS`"))
    }
}

/// What happens where the broker no longer has the committed offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OutOfRange {
    /// The partition stops, with an alarm.
    #[default]
    Stop,
    /// It goes on at the oldest record: what was deleted before was not handled.
    Earliest,
    /// It goes on behind the newest record: what lies between is not handled.
    Latest,
}

/// How the group shares its partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GroupProtocol {
    /// The client assigns, cooperatively.
    #[default]
    Classic,
    /// The broker assigns (KIP-848).
    Consumer,
}

impl Config {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// Where it cannot be read, or holds something that is not a setting.
    pub fn file(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::from_table(read_file(path.as_ref())?)
    }

    /// Reads the file named by `ONCEWARD_CONFIG`, if that is set, and the environment
    /// over it.
    ///
    /// # Errors
    /// As [`file`](Self::file); a variable that starts with `ONCEWARD_` and names no
    /// setting is an error too.
    pub fn from_env() -> Result<Self, Error> {
        let file = std::env::var("ONCEWARD_CONFIG").ok();
        Self::from_sources(file.as_deref().map(Path::new), std::env::vars())
    }

    fn from_sources(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let mut table = file.map(read_file).transpose()?.unwrap_or_default();
        for (name, value) in environment {
            let path = match (&*name, name.strip_prefix("ONCEWARD_")) {
                ("KAFKA_BROKERS", _) => vec!["brokers".to_owned()],
                ("DATABASE_URL", _) => vec!["database_url".to_owned()],
                #[cfg(feature = "schemas")]
                ("SCHEMA_REGISTRY_URL", _) => vec!["schema_registry".to_owned(), "url".to_owned()],
                ("ONCEWARD_CONFIG", _) => continue,
                (_, Some(setting)) => path_of(setting),
                _ => continue,
            };
            insert(&mut table, &path, &value).map_err(|problem| Error::config(name, problem))?;
        }
        Self::from_table(table)
    }

    fn from_table(table: toml::Table) -> Result<Self, Error> {
        table.try_into().map_err(|error: toml::de::Error| {
            let text = error.to_string();
            let setting = text.lines().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
            let problem = text.lines().next().unwrap_or_default().to_owned();
            Error::config(setting.unwrap_or("config").to_owned(), problem)
        })
    }

    /// Takes from `weaker` what is not set here.
    pub(crate) fn over(self, weaker: Self) -> Self {
        let mut kafka = weaker.kafka;
        kafka.extend(self.kafka);
        let mut handlers = weaker.handlers;
        handlers.extend(self.handlers);
        Self {
            brokers: self.brokers.or(weaker.brokers),
            database_url: self.database_url.or(weaker.database_url),
            kafka,
            handlers,
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
            partition_records: self.partition_records.or(weaker.partition_records),
            partition_bytes: self.partition_bytes.or(weaker.partition_bytes),
        }
    }

    /// With the defaults filled in, and checked.
    pub(crate) fn resolve(self) -> Result<Resolved, Error> {
        let resolved = Resolved {
            brokers: self.brokers.filter(|brokers| !brokers.trim().is_empty()).ok_or_else(|| {
                Error::config("brokers", "is not set; give `KAFKA_BROKERS=host:port`, or `App::brokers(..)`")
            })?,
            dedupe: self.dedupe.unwrap_or(match self.database_url {
                Some(_) => DedupeKind::Postgres,
                None => DedupeKind::Off,
            }),
            database_url: self.database_url,
            kafka: self.kafka,
            dedupe_window: self.dedupe_window.unwrap_or(Duration::from_secs(14 * 24 * 60 * 60)),
            dedupe_window_shorter_than_retention: self.dedupe_window_shorter_than_retention.unwrap_or(false),
            migrate: self.migrate.unwrap_or(false),
            max_connections: self.max_connections.unwrap_or(16),
            start: self.start.unwrap_or(Start::Earliest),
            trace: trace_mode(self.trace)?,
            out_of_range: self.out_of_range.unwrap_or_default(),
            group_protocol: self.group_protocol.unwrap_or_default(),
            instance_id: self.instance_id,
            wait_for_topics: self.wait_for_topics.unwrap_or_default(),
            dead_letter: self.dead_letter,
            #[cfg(feature = "schemas")]
            schema_registry: self.schema_registry,
            max_hops: self.max_hops.unwrap_or(32),
            commit_interval: self.commit_interval.unwrap_or(Duration::from_secs(1)),
            drain_deadline: self.drain_deadline.unwrap_or(Duration::from_secs(3)),
            shutdown_deadline: self.shutdown_deadline.unwrap_or(Duration::from_secs(20)),
            stuck_after: self.stuck_after.unwrap_or(Duration::from_secs(60)),
            max_run_records: self.max_run_records.unwrap_or(1000),
            max_run_bytes: self.max_run_bytes.unwrap_or(4 << 20),
            max_run_time: self.max_run_time.unwrap_or(Duration::from_millis(250)),
            max_in_flight: self.max_in_flight.unwrap_or(self.max_run_records.unwrap_or(1000).max(10_000)),
            partition_records: self.partition_records.unwrap_or(4000),
            partition_bytes: self.partition_bytes.unwrap_or(16 << 20),
        };
        resolved.check()?;
        Ok(resolved)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The database URL and librdkafka's properties hold secrets.
        f.debug_struct("Config").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

fn read_file(path: &Path) -> Result<toml::Table, Error> {
    let setting = format!("ONCEWARD_CONFIG = {}", path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::config(setting.clone(), format!("cannot read the file: {error}")))?;
    text.parse()
        .map_err(|error: toml::de::Error| Error::config(setting, error.to_string().replace('\n', " ")))
}

/// `KAFKA__FETCH_WAIT_MAX_MS` to `kafka`, `fetch.wait.max.ms`.
fn path_of(variable: &str) -> Vec<String> {
    let lower = variable.to_ascii_lowercase();
    match lower.strip_prefix("kafka__") {
        Some(property) => vec!["kafka".into(), property.replace('_', ".")],
        None => lower.split("__").map(str::to_owned).collect(),
    }
}

fn insert(table: &mut toml::Table, path: &[String], text: &str) -> Result<(), String> {
    let Some((last, sections)) = path.split_last() else { return Ok(()) };
    let mut table = table;
    for section in sections {
        let entry = table.entry(section.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        table = entry.as_table_mut().ok_or_else(|| format!("`{section}` is no section"))?;
    }
    let value = text
        .parse::<i64>()
        .map(toml::Value::Integer)
        .or_else(|_| text.parse::<bool>().map(toml::Value::Boolean))
        .unwrap_or_else(|_| toml::Value::String(text.to_owned()));
    table.insert(last.clone(), value);
    Ok(())
}

pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer).map_err(|_| {
        serde::de::Error::custom("a duration is a text with a unit, such as `500ms`, `5s`, `7days`")
    })?;
    humantime::parse_duration(&text).map(Some).map_err(|error| {
        serde::de::Error::custom(format!("`{text}` is no duration such as `500ms`, `5s`, `7days`: {error}"))
    })
}

fn properties<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let table = BTreeMap::<String, toml::Value>::deserialize(deserializer)?;
    let text = |value| match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(table.into_iter().map(|(name, value)| (name, text(value))).collect())
}

/// Spans that are asked for where there are none would be missed too late.
fn trace_mode(given: Option<TraceMode>) -> Result<TraceMode, Error> {
    match given {
        Some(TraceMode::Link | TraceMode::Parent) if !cfg!(feature = "otel") => {
            Err(Error::config("trace", "asks for spans, but the crate was built without its feature `otel`"))
        }
        given => Ok(given.unwrap_or_default()),
    }
}

/// The settings with their defaults.
#[derive(Clone)]
pub(crate) struct Resolved {
    pub(crate) brokers: String,
    pub(crate) database_url: Option<String>,
    pub(crate) kafka: BTreeMap<String, String>,
    pub(crate) dedupe: DedupeKind,
    pub(crate) dedupe_window: Duration,
    pub(crate) dedupe_window_shorter_than_retention: bool,
    pub(crate) migrate: bool,
    pub(crate) max_connections: usize,
    pub(crate) start: Start,
    pub(crate) trace: TraceMode,
    pub(crate) out_of_range: OutOfRange,
    pub(crate) group_protocol: GroupProtocol,
    pub(crate) instance_id: Option<String>,
    pub(crate) wait_for_topics: Duration,
    pub(crate) dead_letter: DeadLetterConfig,
    #[cfg(feature = "schemas")]
    pub(crate) schema_registry: SchemaRegistryConfig,
    pub(crate) max_hops: u32,
    pub(crate) commit_interval: Duration,
    pub(crate) drain_deadline: Duration,
    pub(crate) shutdown_deadline: Duration,
    pub(crate) stuck_after: Duration,
    pub(crate) max_run_records: usize,
    pub(crate) max_run_bytes: usize,
    pub(crate) max_run_time: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) partition_records: usize,
    pub(crate) partition_bytes: usize,
}

/// librdkafka properties that we set, because a promise rests on them.
const OURS: [(&str, &str); 11] = [
    ("bootstrap.servers", "set `brokers`"),
    ("group.id", "set `group` of the handler"),
    ("group.protocol", "set `group_protocol`"),
    ("group.instance.id", "set `instance_id`"),
    ("enable.auto.commit", "offsets are committed when the work is durable, and by nothing else"),
    ("enable.auto.offset.store", "offsets are committed when the work is durable, and by nothing else"),
    (
        "auto.offset.reset",
        "set `start` (no committed offset) and `out_of_range` (the broker no longer has it)",
    ),
    ("enable.partition.eof", "with it, a rebalance could skip a record (librdkafka #4844)"),
    ("allow.auto.create.topics", "a consumer never makes the topics it reads"),
    ("acks", "a published record counts when all in-sync replicas have it"),
    ("enable.idempotence", "a published record must not be written twice by a retry of the client"),
];

/// What librdkafka needs to be fast, as benches/ measures it. All can be overridden.
const PROFILE: [(&str, &str); 6] = [
    // Its default of 1,000 lets a full queue rest for a second: 8 times slower.
    ("fetch.queue.backoff.ms", "10"),
    // A broker has one fetch of ours at a time. One for a partition at its end alone, since the
    // queues of the others are full, holds them all back for so long; they run dry before 500.
    ("fetch.wait.max.ms", "100"),
    ("queued.min.messages", "20000"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.max.bytes", "52428800"),
    ("client.id", "onceward"),
];

const SHORTEST_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

impl Resolved {
    fn check(&self) -> Result<(), Error> {
        let positive = [
            ("max_connections", self.max_connections),
            ("max_run_records", self.max_run_records),
            ("max_run_bytes", self.max_run_bytes),
            ("partition_records", self.partition_records),
            ("partition_bytes", self.partition_bytes),
        ];
        if let Some((setting, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(Error::config(setting, "is 0; it must be at least 1"));
        }
        if self.max_in_flight < self.max_run_records {
            return Err(Error::config(
                "max_in_flight",
                format!(
                    "is {}, less than a run may have; set it to at least `max_run_records` = {}",
                    self.max_in_flight, self.max_run_records
                ),
            ));
        }
        if self.dedupe_window < SHORTEST_WINDOW {
            return Err(Error::config(
                "dedupe_window",
                "is shorter than a day, the unit in which it is kept",
            ));
        }
        if self.commit_interval.is_zero() || self.max_run_time.is_zero() {
            let setting = if self.commit_interval.is_zero() { "commit_interval" } else { "max_run_time" };
            return Err(Error::config(setting, "is 0; it must be longer than that"));
        }
        for (property, value) in &self.kafka {
            if let Some((name, instead)) = OURS.iter().find(|(name, _)| name == property) {
                return Err(Error::config(
                    format!("kafka.{name}"),
                    format!("= {value} would undo a promise; {instead}"),
                ));
            }
        }
        if self.kafka.get("enable.ssl.certificate.verification").is_some_and(|value| value == "false") {
            return Err(Error::config(
                "kafka.enable.ssl.certificate.verification",
                "= false lets anyone pose as the broker; give the CA with `ssl.ca.location`",
            ));
        }
        let poll = self.property_ms("max.poll.interval.ms", 300_000)?;
        if self.drain_deadline * 2 >= poll {
            return Err(Error::config(
                "drain_deadline",
                format!(
                    "= {:?} is not well below `max.poll.interval.ms` = {poll:?}: a drain that long costs the \
                     membership; make it less than half",
                    self.drain_deadline
                ),
            ));
        }
        let session = self.session_timeout()?;
        if self.drain_deadline > session {
            return Err(Error::config(
                "drain_deadline",
                format!(
                    "= {:?} is longer than `session.timeout.ms` = {session:?}; make it shorter",
                    self.drain_deadline
                ),
            ));
        }
        if self.shutdown_deadline < self.drain_deadline {
            return Err(Error::config(
                "shutdown_deadline",
                format!(
                    "= {:?} is shorter than `drain_deadline` = {:?}",
                    self.shutdown_deadline, self.drain_deadline
                ),
            ));
        }
        Ok(())
    }

    /// Refuses a property that librdkafka does not know or take.
    pub(crate) fn check_properties(&self) -> Result<(), Error> {
        match self.consumer("check").create_native_config() {
            Ok(_) => Ok(()),
            Err(KafkaError::ClientConfig(_, problem, property, value)) => {
                Err(Error::config(format!("kafka.{property}"), format!("= {value}: {problem}")))
            }
            Err(error) => Err(Error::config("kafka", error.to_string())),
        }
    }

    pub(crate) fn session_timeout(&self) -> Result<Duration, Error> {
        self.property_ms("session.timeout.ms", 45_000)
    }

    fn property_ms(&self, name: &'static str, default: u64) -> Result<Duration, Error> {
        let text = self.kafka.get(name);
        let milliseconds = text.map_or(Ok(default), |text| text.parse());
        milliseconds.map(Duration::from_millis).map_err(|_| {
            Error::config(
                format!("kafka.{name}"),
                format!("`{}` is not a number of milliseconds", text.map_or("", |t| t)),
            )
        })
    }

    /// A client of these brokers, for metadata and producing.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set_log_level(RDKafkaLogLevel::Warning);
        const CONSUMER_ONLY: [&str; 14] = [
            "fetch.",
            "queued.",
            "session.",
            "heartbeat.",
            "max.poll.",
            "partition.assignment",
            "group.",
            "check.crcs",
            "isolation.level",
            "max.partition.fetch",
            "auto.commit",
            "consume.",
            "coordinator.",
            "message.timeout",
        ];
        for (name, value) in &self.kafka {
            if !CONSUMER_ONLY.iter().any(|prefix| name.starts_with(prefix)) {
                config.set(name, value);
            }
        }
        config
    }

    /// The consumer of a group.
    pub(crate) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in PROFILE {
            config.set(name, value);
        }
        for (name, value) in &self.kafka {
            config.set(name, value);
        }
        match self.group_protocol {
            GroupProtocol::Classic if !self.kafka.contains_key("partition.assignment.strategy") => {
                config.set("partition.assignment.strategy", "cooperative-sticky");
            }
            GroupProtocol::Classic => {}
            GroupProtocol::Consumer => {
                config.set("group.protocol", "consumer");
            }
        }
        if let Some(instance) = &self.instance_id {
            config.set("group.instance.id", instance);
        }
        config
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // So that "no committed offset" and "out of range" are told apart.
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "false")
            .set("allow.auto.create.topics", "false");
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Config, Error> {
        Config::from_sources(
            None,
            variables.iter().map(|(name, value)| (name.to_string(), value.to_string())),
        )
    }

    fn refused(variables: &[(&str, &str)]) -> String {
        from(variables).and_then(Config::resolve).err().expect("refused").to_string()
    }

    #[test]
    fn the_environment_reaches_every_kind_of_setting() {
        let config = from(&[
            ("KAFKA_BROKERS", "a:1"),
            ("ONCEWARD_DRAIN_DEADLINE", "2s"),
            ("ONCEWARD_MAX_RUN_RECORDS", "7"),
            ("ONCEWARD_START", "time:5"),
            ("ONCEWARD_KAFKA__FETCH_WAIT_MAX_MS", "100"),
            ("ONCEWARD_HANDLERS__ON_FLIGHT__TOPIC", "other"),
            ("PATH", "ignored"),
        ])
        .unwrap();
        assert_eq!(config.brokers.as_deref(), Some("a:1"));
        assert_eq!(config.drain_deadline, Some(Duration::from_secs(2)));
        assert_eq!(config.max_run_records, Some(7));
        assert_eq!(config.start, Some(Start::Time(5)));
        assert_eq!(config.kafka["fetch.wait.max.ms"], "100");
        assert_eq!(config.handlers["on_flight"].topic.as_deref(), Some("other"));
    }

    #[test]
    fn the_stronger_source_wins_setting_by_setting() {
        let strong = from(&[("KAFKA_BROKERS", "strong:1")]).unwrap();
        let weak = from(&[("KAFKA_BROKERS", "weak:1"), ("ONCEWARD_START", "latest")]).unwrap();
        let config = strong.over(weak);
        assert_eq!((config.brokers.as_deref(), config.start), (Some("strong:1"), Some(Start::Latest)));
    }

    #[test]
    fn what_is_wrong_is_refused_by_the_name_of_the_setting() {
        let brokers = ("KAFKA_BROKERS", "a:1");
        assert!(refused(&[]).contains("KAFKA_BROKERS"));
        assert!(refused(&[brokers, ("ONCEWARD_DRAIN_DEADLIN", "2s")]).contains("drain_deadlin"));
        assert!(refused(&[brokers, ("ONCEWARD_DRAIN_DEADLINE", "2 parsecs")]).contains("drain_deadline"));
        assert!(refused(&[brokers, ("ONCEWARD_MAX_RUN_RECORDS", "0")]).contains("max_run_records"));
        assert!(refused(&[brokers, ("ONCEWARD_START", "sometime")]).contains("sometime"));
        for (property, _) in OURS {
            let variable = format!("ONCEWARD_KAFKA__{}", property.replace('.', "_").to_uppercase());
            assert!(refused(&[brokers, (&variable, "x")]).contains("would undo a promise"), "{property}");
        }
        assert!(refused(&[brokers, ("ONCEWARD_DRAIN_DEADLINE", "4min")]).contains("max.poll.interval.ms"));
        assert!(refused(&[brokers, ("ONCEWARD_DRAIN_DEADLINE", "50s")]).contains("session.timeout.ms"));
    }

    #[test]
    fn spans_are_not_asked_for_in_vain() {
        let mode =
            |mode| from(&[("KAFKA_BROKERS", "a:1"), ("ONCEWARD_TRACE", mode)]).and_then(Config::resolve);
        assert_eq!(mode("off").unwrap().trace, TraceMode::Off);
        match mode("parent") {
            Ok(config) => assert!(cfg!(feature = "otel") && config.trace == TraceMode::Parent),
            Err(error) => assert!(!cfg!(feature = "otel") && error.to_string().contains("`otel`")),
        }
        assert!(mode("sideways").err().expect("refused").to_string().contains("sideways"));
    }

    #[test]
    fn secrets_stay_out_of_debug() {
        let config = from(&[
            ("DATABASE_URL", "postgres://u:hunter2@h/d"),
            ("ONCEWARD_KAFKA__SASL_PASSWORD", "hunter2"),
        ]);
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}

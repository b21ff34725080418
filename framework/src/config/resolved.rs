//! Gets the settings as given, gives all settings with their defaults, checked.

use super::{
    Config, DeadLetterConfig, DedupeKind, GroupProtocol, OutOfRange, Start, brokers, promises, properties,
    sources,
};
use crate::config::TraceMode;
#[cfg(feature = "schemas")]
use crate::config::schema_registry::SchemaRegistryConfig;
use crate::error::Error;
use std::collections::BTreeMap;
use std::time::Duration;

/// The settings with their defaults.
#[derive(Clone)]
pub(crate) struct Resolved {
    pub(crate) brokers: String,
    pub(crate) database_url: Option<String>,
    pub(crate) kafka: BTreeMap<String, String>,
    pub(crate) dedupe: DedupeKind,
    pub(crate) dedupe_window: Duration,
    pub(crate) dedupe_copies_found_within: Duration,
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
    pub(crate) max_in_flight_bytes: usize,
}

const SHORTEST_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

impl Config {
    /// Without a `DATABASE_URL` that is not meant for Onceward, where no handler needs a database
    /// and nobody has asked for one: platforms set that variable by themselves.
    pub(crate) fn without_foreign_database(mut self, is_needed: bool) -> Self {
        let is_shared = self.origins.of("database_url").is_some_and(sources::is_shared);
        if is_needed || !is_shared || self.dedupe.is_some() || self.migrate == Some(true) {
            return self;
        }
        #[cfg(feature = "postgres")]
        let is_of_use = self.database_url.as_deref().is_none_or(super::database_url::is_postgres);
        #[cfg(not(feature = "postgres"))]
        let is_of_use = false;
        if !is_of_use {
            tracing::warn!(
                "`DATABASE_URL` is no PostgreSQL that this program can use, and no handler takes `&mut Tx`: it is \
                 left alone, and `dedupe` is `off`"
            );
            self.database_url = None;
        }
        self
    }

    /// With the defaults filled in, and checked.
    ///
    /// # Errors
    /// They say where the setting was given.
    pub(crate) fn resolve(self) -> Result<Resolved, Error> {
        let origins = self.origins.clone();
        self.resolve_all().map_err(|error| origins.place(error))
    }

    fn resolve_all(self) -> Result<Resolved, Error> {
        let brokers = self.brokers.filter(|brokers| !brokers.trim().is_empty()).ok_or_else(|| {
            Error::config("brokers", "is not set; give `KAFKA_BROKERS=host:port`, or `App::brokers(..)`")
        })?;
        promises::check(&self.kafka)?;
        // An empty variable is how a platform says that there is none.
        let database_url = self.database_url.filter(|url| !url.trim().is_empty());
        let dedupe_window = self.dedupe_window.unwrap_or(Duration::from_secs(14 * 24 * 60 * 60));
        let resolved = Resolved {
            brokers: brokers::checked(&brokers)?,
            dedupe: self.dedupe.unwrap_or(match database_url {
                Some(_) => DedupeKind::Postgres,
                None => DedupeKind::Off,
            }),
            database_url,
            kafka: canonical_names(self.kafka)?,
            dedupe_window,
            dedupe_copies_found_within: self.dedupe_copies_found_within.unwrap_or(dedupe_window),
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
            max_in_flight_bytes: self.max_in_flight_bytes.unwrap_or(16 << 20),
        };
        resolved.check()?;
        Ok(resolved)
    }
}

/// Properties by the names that are used here: librdkafka would take one of two aliases, by chance.
fn canonical_names(kafka: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Error> {
    let mut properties: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in kafka {
        let property = properties::canonical(&name).to_owned();
        if properties.get(&property).is_some_and(|other| *other != value) {
            let problem = format!("is set twice, also as another name of `{property}`; take one out");
            return Err(Error::config(format!("kafka.{name}"), problem));
        }
        properties.insert(property, value);
    }
    Ok(properties)
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

impl Resolved {
    fn check(&self) -> Result<(), Error> {
        let positive = [
            ("max_connections", self.max_connections),
            ("max_run_records", self.max_run_records),
            ("max_run_bytes", self.max_run_bytes),
            ("max_in_flight_bytes", self.max_in_flight_bytes),
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
            return Err(Error::config("dedupe_window", "is shorter than a day; set it to `1day` or more"));
        }
        if self.dedupe_copies_found_within > self.dedupe_window {
            return Err(Error::config(
                "dedupe_copies_found_within",
                format!(
                    "is {}, longer than `dedupe_window` = {}; make it shorter, or the window longer",
                    humantime::format_duration(self.dedupe_copies_found_within),
                    humantime::format_duration(self.dedupe_window),
                ),
            ));
        }
        if self.commit_interval.is_zero() || self.max_run_time.is_zero() {
            let setting = if self.commit_interval.is_zero() { "commit_interval" } else { "max_run_time" };
            return Err(Error::config(setting, "is 0; set it to a duration such as `250ms`"));
        }
        Ok(())
    }
}

//! What librdkafka gets: what we need, what makes it fast, and what was set for it.

use super::{GroupProtocol, Resolved};
use crate::error::Error;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use std::time::Duration;

/// librdkafka properties that we set, because a promise rests on them.
pub(super) const OURS: [(&str, &str); 11] = [
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
const PROFILE: [(&str, &str); 8] = [
    // Its default of 1,000 lets a full queue rest for a second: 8 times slower.
    ("fetch.queue.backoff.ms", "10"),
    // A broker has one fetch of ours at a time. One for a partition at its end alone, since the
    // queues of the others are full, holds them all back for so long; they run dry before 500.
    ("fetch.wait.max.ms", "100"),
    ("queued.min.messages", "20000"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.max.bytes", "52428800"),
    ("client.id", "onceward"),
    // As Java's consumer does: a batch that a disk has changed is not handled as if it were whole.
    ("check.crcs", "true"),
    // New topics and partitions are noticed after so long. librdkafka's default is 5 min.
    (METADATA_REFRESH, "60000"),
];

const METADATA_REFRESH: &str = "topic.metadata.refresh.interval.ms";

impl Resolved {
    /// Refuses a property by which a promise would no longer hold.
    pub(super) fn check_promises(&self) -> Result<(), Error> {
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

    /// How often new topics and partitions are looked for; `None` for never.
    pub(crate) fn metadata_refresh(&self) -> Result<Option<Duration>, Error> {
        match self.kafka.get(METADATA_REFRESH).map(String::as_str) {
            Some("-1") => Ok(None),
            _ => self.property_ms(METADATA_REFRESH, 60_000).map(Some),
        }
    }

    pub(super) fn property_ms(&self, name: &'static str, default: u64) -> Result<Duration, Error> {
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

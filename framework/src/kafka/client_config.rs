//! librdkafka's properties: those that the promises need, those that make it fast, and those
//! that the user sets.

use crate::config::properties::{canonical, did_you_mean, values};
use crate::config::{GroupProtocol, Resolved};
use crate::error::Error;
use rdkafka::ClientConfig;
use rdkafka::config::{FromClientConfig, NativeClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use std::time::Duration;

const ENABLE_SSL: &str = "enable the feature `ssl` (or `ssl-vendored`)";

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
/// The same as in the profile.
const REFRESHED_EVERY: Duration = Duration::from_secs(60);

/// What librdkafka's clients get of the settings. A trait, so that the settings know nothing of librdkafka.
pub(crate) trait ClientSettings {
    /// Refuses deadlines that would cost the membership, by librdkafka's own settings, or that do not fit
    /// each other.
    fn check_times(&self) -> Result<(), Error>;

    /// Refuses a property that librdkafka does not know or take, or cannot have in this build.
    fn check_properties(&self) -> Result<(), Error>;

    /// Makes a client, without brokers, and drops it. What cannot stand beside each other librdkafka
    /// says only then, and the first producer is needed by the first dead letter.
    fn check_client<T: FromClientConfig>(&self, client: ClientConfig) -> Result<(), Error>;

    fn session_timeout(&self) -> Result<Duration, Error>;

    /// An error of the client, without what settings are set to. librdkafka quotes it.
    fn failed(&self, action: impl Into<String>, source: KafkaError) -> Error;

    /// How often new topics and partitions are looked for; `None` for never.
    fn metadata_refresh(&self) -> Result<Option<Duration>, Error>;

    /// A client of these brokers, for metadata and producing.
    fn client(&self) -> ClientConfig;

    /// The consumer of a group.
    fn consumer(&self, group: &str) -> ClientConfig;
}

impl ClientSettings for Resolved {
    fn check_times(&self) -> Result<(), Error> {
        let poll = property_ms(self, "max.poll.interval.ms")?;
        if self.drain_deadline * 2 >= poll {
            return Err(Error::config(
                "drain_deadline",
                format!(
                    "is {:?}, not well below `max.poll.interval.ms` = {poll:?}: a drain that long costs the \
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
                    "is {:?}, longer than `session.timeout.ms` = {session:?}; make it shorter",
                    self.drain_deadline
                ),
            ));
        }
        if self.shutdown_deadline < self.drain_deadline {
            return Err(Error::config(
                "shutdown_deadline",
                format!(
                    "is {:?}, shorter than `drain_deadline` = {:?}; make it longer",
                    self.shutdown_deadline, self.drain_deadline
                ),
            ));
        }
        Ok(())
    }

    fn check_properties(&self) -> Result<(), Error> {
        if let Err(error) = self.consumer("check").create_native_config() {
            // The first one by name, and not by chance.
            for (property, value) in &self.kafka {
                native(property, value)?;
            }
            return Err(refused(error));
        }
        check_login(self)?;
        self.check_client::<BaseConsumer>(self.consumer("check"))
    }

    fn check_client<T: FromClientConfig>(&self, mut client: ClientConfig) -> Result<(), Error> {
        client.remove("bootstrap.servers");
        match client.create::<T>() {
            Ok(_) => Ok(()),
            Err(KafkaError::ClientCreation(text)) => {
                Err(Error::config("kafka", format!("librdkafka says: {}", without_values(self, text))))
            }
            Err(error) => Err(refused(error)),
        }
    }

    fn session_timeout(&self) -> Result<Duration, Error> {
        property_ms(self, "session.timeout.ms")
    }

    fn failed(&self, action: impl Into<String>, source: KafkaError) -> Error {
        let source = match source {
            KafkaError::ClientCreation(text) => KafkaError::ClientCreation(without_values(self, text)),
            KafkaError::ClientConfig(code, _, name, _) => {
                KafkaError::ClientConfig(code, "is not taken".into(), name, "..".into())
            }
            other => other,
        };
        Error::kafka(action, &self.brokers, source)
    }

    fn metadata_refresh(&self) -> Result<Option<Duration>, Error> {
        match self.kafka.get(METADATA_REFRESH).map(|value| value.trim()) {
            Some("-1") => Ok(None),
            Some(_) => property_ms(self, METADATA_REFRESH).map(Some),
            None => Ok(Some(REFRESHED_EVERY)),
        }
    }

    fn client(&self) -> ClientConfig {
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

    fn consumer(&self, group: &str) -> ClientConfig {
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

/// Refuses a way to log in that this build does not have. librdkafka would name what it was
/// built without, and not the feature that brings it.
fn check_login(config: &Resolved) -> Result<(), Error> {
    let protocol = config.kafka.get("security.protocol").map(|protocol| protocol.to_ascii_lowercase());
    if !protocol.is_some_and(|protocol| protocol.trim().starts_with("sasl_")) {
        return Ok(());
    }
    let given = config.kafka.get("sasl.mechanism").map(|mechanism| mechanism.trim().to_ascii_uppercase());
    let wanted = match given.as_deref() {
        Some("PLAIN") => return Ok(()),
        Some(scram) if scram.starts_with("SCRAM-SHA-") => "sasl_scram",
        Some("OAUTHBEARER") => "sasl_oauthbearer",
        Some("GSSAPI") | None => "sasl_gssapi",
        // Librdkafka refuses any other by itself.
        Some(_) => return Ok(()),
    };
    let built_in = native("client.id", "check")?.get("builtin.features").unwrap_or_default();
    if built_in.split(',').any(|feature| feature.trim() == wanted) {
        return Ok(());
    }
    let problem = match (wanted, given) {
        ("sasl_gssapi", None) => {
            "is not set, and its default, GSSAPI, needs Kerberos, which this program was \
             built without; set it to `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`"
                .to_owned()
        }
        ("sasl_gssapi", _) => "asks for Kerberos, which this program was built without; enable the feature \
             `gssapi` of the crate `rdkafka`"
            .to_owned(),
        _ => format!("needs OpenSSL, which this program was built without; {ENABLE_SSL}"),
    };
    Err(Error::config("kafka.sasl.mechanism", problem))
}

fn without_values(config: &Resolved, mut text: String) -> String {
    // Such as `10` or `true`: no secret, and likely to be there by chance.
    let is_plain =
        |value: &str| value.len() < 3 || value.parse::<f64>().is_ok() || matches!(value, "true" | "false");
    let is_secret = |name: &str| {
        ["password", "secret", "passphrase", "pem", "config"].iter().any(|word| name.contains(word))
    };
    for (name, value) in config.kafka.iter().filter(|(_, value)| !value.trim().is_empty()) {
        if text.contains(value.trim()) && (is_secret(name) || !is_plain(value)) {
            text = text.replace(value.trim(), &format!("(the value of `kafka.{name}`)"));
        }
    }
    text
}

/// A property in milliseconds, as librdkafka reads it.
fn property_ms(config: &Resolved, name: &'static str) -> Result<Duration, Error> {
    let native = match config.kafka.get(name) {
        Some(text) => native(name, text)?,
        None => native("client.id", "default")?,
    };
    let read = native.get(name).map_err(refused)?;
    let not_a_number = || Error::config(format!("kafka.{name}"), "is not a number of milliseconds");
    read.parse().map(Duration::from_millis).map_err(|_| not_a_number())
}

/// One property, as librdkafka reads it.
fn native(name: &str, value: &str) -> Result<NativeClientConfig, Error> {
    ClientConfig::new().set(name, value).create_native_config().map_err(refused)
}

/// The error for a wrong property, in our own words: librdkafka's quote its value.
fn refused(error: KafkaError) -> Error {
    let KafkaError::ClientConfig(code, problem, name, _) = error else {
        return Error::config("kafka", "holds a property with a zero byte");
    };
    let problem = if code == RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN {
        format!("No such configuration property in librdkafka{}", did_you_mean(&name))
    } else if problem.contains("not supported in this build") || problem.starts_with("Unsupported value") {
        not_built(&name)
    } else if problem.starts_with("Java ") {
        // A text without any value, with what to do.
        problem
    } else {
        match values(canonical(&name)).or_else(|| values(&name)) {
            Some(values) if values.contains(" .. ") => format!("must be a number, {values}"),
            Some(values) => format!("must be one of {values}"),
            None => "is set to something that librdkafka does not take".to_owned(),
        }
    };
    Error::config(format!("kafka.{name}"), problem)
}

/// Which feature brings what is missing in this build.
fn not_built(name: &str) -> String {
    let without = "which this program was built without";
    match canonical(name) {
        "compression.type" => {
            format!("asks for a compression {without}; for zstd, enable the feature `zstd`")
        }
        name if name.starts_with("sasl.kerberos.") => {
            format!("needs Kerberos, {without}; enable the feature `gssapi` of the crate `rdkafka`")
        }
        name if name.starts_with("sasl.oauthbearer.") || name.starts_with("https.") => {
            format!("needs OpenSSL and curl, {without}; {ENABLE_SSL}, and `curl` of the crate `rdkafka`")
        }
        _ => format!("needs TLS, {without}; {ENABLE_SSL}"),
    }
}

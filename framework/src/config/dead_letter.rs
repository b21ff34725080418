//! How dead letters are made.

use serde::Deserialize;

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
    /// are there or can be made, may be read and written to, and take what their sources
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

    pub(super) fn over(self, weaker: Self) -> Self {
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
    /// The one that its original has. The dead-letter topic must have as many as the source; a copy whose
    /// partition is missing, since some were added to the source, goes to that of its key.
    Source,
}

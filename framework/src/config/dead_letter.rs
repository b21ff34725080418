//! The settings of dead letters.

use serde::Deserialize;

/// How dead letters are written.
///
/// ```
/// use onceward::{App, DeadLetterConfig, HeaderFamily};
///
/// let letters = DeadLetterConfig::default().headers([HeaderFamily::Connect]).create(false);
/// let app = App::new().dead_letters(letters);
/// ```
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DeadLetterConfig {
    /// Header families beside Onceward's own `onceward.dlq.*`; `["spring"]` by default.
    pub headers: Option<Vec<HeaderFamily>>,
    /// Headers of the original that are not copied, in any case, such as `["authorization",
    /// "cookie"]`; none by default.
    #[serde(default)]
    pub drop_headers: Vec<String>,
    /// The partition of a copy: `key` (the default), by its key as Java's producers do, or
    /// `source`, the original's.
    pub partition: Option<DeadLetterPartition>,
    /// Whether a missing dead-letter topic is created when it is first needed; yes by default.
    /// It gets as many partitions as its source.
    pub create: Option<bool>,
    /// Whether dead-letter topics are checked before anything is consumed; yes by default. The
    /// check is that they exist or can be created, may be read and written, and accept the
    /// records of their sources. A Kafka without admin requests needs `false`.
    pub check: Option<bool>,
}

impl DeadLetterConfig {
    /// Sets the header families beside Onceward's own; an empty list means none.
    #[must_use]
    pub fn headers(self, families: impl IntoIterator<Item = HeaderFamily>) -> Self {
        Self { headers: Some(families.into_iter().collect()), ..self }
    }

    /// Sets the headers of the original that are not copied.
    #[must_use]
    pub fn drop_headers<T: Into<String>>(self, names: impl IntoIterator<Item = T>) -> Self {
        Self { drop_headers: names.into_iter().map(Into::into).collect(), ..self }
    }

    /// Sets the partition of a copy.
    #[must_use]
    pub fn partition(self, partition: DeadLetterPartition) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// Sets whether a missing dead-letter topic is created when it is first needed.
    #[must_use]
    pub fn create(self, create: bool) -> Self {
        Self { create: Some(create), ..self }
    }

    /// Sets whether dead-letter topics are checked before anything is consumed.
    #[must_use]
    pub fn check(self, check: bool) -> Self {
        Self { check: Some(check), ..self }
    }

    pub(crate) fn header_families(&self) -> &[HeaderFamily] {
        self.headers.as_deref().unwrap_or(&[HeaderFamily::Spring])
    }

    pub(crate) fn partitioning(&self) -> DeadLetterPartition {
        self.partition.unwrap_or_default()
    }

    pub(crate) fn creates(&self) -> bool {
        self.create.unwrap_or(true)
    }

    pub(crate) fn checks(&self) -> bool {
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

/// Other tools' names for the headers that say where a dead letter comes from.
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

/// The partition of a dead letter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DeadLetterPartition {
    /// By its key (murmur2, as Java's producers do).
    #[default]
    Key,
    /// The same as the original's. The dead-letter topic must have as many partitions as the
    /// source. If partitions were added to the source later, a copy whose partition is missing
    /// goes to the one of its key.
    Source,
}

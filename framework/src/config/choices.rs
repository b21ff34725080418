//! Settings with a few possible values.

use serde::Deserialize;

/// Where processed records are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DedupeKind {
    /// In PostgreSQL.
    Postgres,
    /// In this process, for demos and tests.
    Memory,
    /// Nowhere: records are handled at least once.
    Off,
}

/// Where a partition without a committed offset starts.
///
/// With [`Latest`](Self::Latest) or an [`Offset`](Self::Offset), a partition that was added to
/// its topic after the group began to read it starts at its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
#[non_exhaustive]
pub enum Start {
    /// At the oldest record.
    Earliest,
    /// Behind the newest record: existing records are not handled.
    Latest,
    /// At this offset of each partition.
    Offset(i64),
    /// At the first record from this time on, in milliseconds since the epoch.
    Time(i64),
}

impl TryFrom<String> for Start {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        let number = |text: &str| text.trim().parse().ok().filter(|number| *number >= 0);
        let start = match text.split_once(':') {
            None if text == "earliest" => Some(Self::Earliest),
            None if text == "latest" => Some(Self::Latest),
            Some(("offset", offset)) => number(offset).map(Self::Offset),
            Some(("time", time)) => number(time).map(Self::Time),
            _ => None,
        };
        start.ok_or_else(|| {
            let near = super::did_you_mean(&text, ["earliest", "latest"]);
            format!("must be `earliest`, `latest`, `offset:N` or `time:MILLISECONDS`{near}")
        })
    }
}

/// What a partition does if the broker no longer has its committed offset, or its topic was
/// deleted and created again under its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OutOfRange {
    /// The partition stops, with an alarm.
    #[default]
    Stop,
    /// It goes on at the oldest record. Records that were deleted before it are not handled.
    Earliest,
    /// It goes on behind the newest record. Records in between are not handled.
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

/// Which records of a partition are handled in order, one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Order {
    /// All of them.
    #[default]
    Partition,
    /// The records of a key. Keys are handled concurrently, at most `concurrency` in the
    /// process. A record that is slow or fails holds back only its key. Records without a key
    /// count as one key.
    Key,
    /// None. Records are handled concurrently, at most `concurrency` in the process. Only
    /// copies of one event, by its declared identity, are handled one after the other.
    None,
}

/// How often a record is handled, whatever ends the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Guarantee {
    /// At least once: its offset is committed after it was handled. With a transaction its
    /// effects count once; with deduplication alone, a record that was recorded as processed is
    /// not handled again.
    #[default]
    AtLeastOnce,
    /// At most once: its offset is committed before its handler is called. Work in flight is
    /// lost if the process ends or loses its partition. For work that must not happen twice and
    /// cannot be made idempotent. Needs `order = "partition"`.
    AtMostOnceLosingWorkInFlight,
}

/// How the span of a handler's call relates to the producer's span, if the record names one
/// (`traceparent`).
///
/// Spans need the feature `otel`; see [`middleware::Trace`](crate::middleware::Trace).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TraceMode {
    /// It begins a new trace, with a link to the producer's span. The default, because a
    /// producer's trace ends when it has produced, however late its records are handled.
    #[default]
    Link,
    /// It is a child of the producer's span, in its trace. A call with several records has
    /// links instead, because a span has only one parent.
    Parent,
    /// There is none.
    Off,
}

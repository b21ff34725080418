//! Settings that are one of a few.

use serde::Deserialize;

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
///
/// Where this says [`Latest`](Self::Latest) or an [`Offset`](Self::Offset), a partition that was
/// added to its topic after the group began with it starts at its first record.
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
        let text = text.trim().to_ascii_lowercase();
        let number = |text: &str| text.trim().parse().ok().filter(|number| *number >= 0);
        let start = match text.split_once(':') {
            None if text == "earliest" => Some(Self::Earliest),
            None if text == "latest" => Some(Self::Latest),
            Some(("offset", offset)) => number(offset).map(Self::Offset),
            Some(("time", time)) => number(time).map(Self::Time),
            _ => None,
        };
        start.ok_or_else(|| "must be `earliest`, `latest`, `offset:N` or `time:MILLISECONDS`".to_owned())
    }
}

/// What happens where the broker no longer has the committed offset, or the topic was deleted
/// and made again under its name.
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

/// Which records of a partition are handled in order, one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Order {
    /// All of them.
    #[default]
    Partition,
    /// Those of one key. Others go side by side, `concurrency` at once in the process. A
    /// record that takes long or fails holds back its key only. Records without a key are
    /// one key.
    Key,
    /// None: each goes by itself, `concurrency` at once. Only copies of one event, by its
    /// declared identity, go one after the other.
    None,
}

/// How often a record is handled, whatever ends the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Guarantee {
    /// Its offset is committed when it is done. With a transaction or where it is noted what
    /// was done, its effects count once.
    #[default]
    AtLeastOnce,
    /// Its offset is committed before its handler is called: what is in the handler's hands
    /// when the process ends, or loses its partition, is lost. For work that is worse done
    /// twice than not at all, and cannot tell. Needs `order = "partition"`.
    AtMostOnceLosingWorkInFlight,
}

/// How the span of a call of the handler stands to the producer's span, where the record
/// carries one (`traceparent`).
///
/// Spans need the feature `otel`; see [`middleware::Trace`](crate::middleware::Trace).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TraceMode {
    /// It begins a trace of its own, with a link to the producer's span. The default: a
    /// producer's trace ends when it has produced, however late its records are handled.
    #[default]
    Link,
    /// It is a child of the producer's span, in its trace. A call with several records
    /// has links all the same, since a span has one parent.
    Parent,
    /// There is none.
    Off,
}

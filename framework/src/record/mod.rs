//! A record that Kafka delivered, and its position.

#[cfg(feature = "postgres")]
pub(crate) mod breaks;
pub(crate) mod cloud_event;
pub(crate) mod identity;
#[cfg(feature = "json")]
pub(crate) mod json_field;
pub(crate) mod notes;
pub(crate) mod outcome;
pub(crate) mod run;
pub(crate) mod source;
pub(crate) mod unmarked;
pub(crate) mod written;

use crate::kafka::message::Message;
use std::fmt;
use std::sync::Arc;

/// A topic and one of its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    topic: Arc<str>,
    partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// What a record's timestamp says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimestampKind {
    /// When the producer made the record.
    Created,
    /// When the broker took it.
    Appended,
}

/// Where records come from: a partition, read by a group.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) partition: TopicPartition,
    /// The partition, as the identities of its records have it.
    pub(crate) place: u128,
    /// The consumer group.
    pub(crate) group: Arc<str>,
}

/// A record, as Kafka delivered it.
///
/// A view that costs nothing to copy: key and payload are borrowed from the client's fetch
/// buffer and live as long as the run. Copy data that must live longer
/// ([`Bytes`](crate::extract::Bytes) does).
#[derive(Clone, Copy)]
pub struct Record<'a> {
    message: &'a Message,
    origin: &'a Origin,
    attempt: u32,
}

impl<'a> Record<'a> {
    pub(crate) fn new(message: &'a Message, origin: &'a Origin, attempt: u32) -> Self {
        Self { message, origin, attempt }
    }

    /// The topic it was read from.
    pub fn topic(&self) -> &'a str {
        &self.origin.partition.topic
    }

    /// The partition it was read from.
    pub fn partition(&self) -> i32 {
        self.origin.partition.partition
    }

    /// The topic and the partition it was read from.
    pub fn topic_partition(&self) -> &'a TopicPartition {
        &self.origin.partition
    }

    pub(crate) fn origin(&self) -> &'a Origin {
        self.origin
    }

    /// The consumer group that reads it.
    pub fn group(&self) -> &'a str {
        &self.origin.group
    }

    /// Its offset in the partition.
    pub fn offset(&self) -> i64 {
        self.message.offset()
    }

    /// Its key; `None` if it has none.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.message.key()
    }

    /// Its value; `None` for a tombstone, which is not the same as an empty value.
    pub fn payload(&self) -> Option<&'a [u8]> {
        match self.message {
            Message::Kafka(message) => message.payload(),
            Message::Owned(message) => message.payload.as_deref(),
        }
    }

    /// Its timestamp in milliseconds since the epoch, the producer's or the broker's by the
    /// topic's setting; `None` in message formats without one.
    pub fn timestamp(&self) -> Option<i64> {
        match self.message {
            Message::Kafka(message) => message.timestamp(),
            Message::Owned(message) => message.timestamp,
        }
    }

    pub(crate) fn timestamp_kind(&self) -> TimestampKind {
        match self.message {
            Message::Kafka(message) if message.is_timestamp_of_append() => TimestampKind::Appended,
            Message::Owned(message) if message.is_timestamp_of_append => TimestampKind::Appended,
            _ => TimestampKind::Created,
        }
    }

    /// Its headers, parsed when first asked for.
    pub fn headers(&self) -> Headers<'a> {
        Headers { message: self.message }
    }

    /// The same record for its next attempt.
    pub(crate) fn again(self) -> Self {
        self.at_attempt(self.attempt.saturating_add(1))
    }

    pub(crate) fn at_attempt(self, attempt: u32) -> Self {
        Self { attempt, ..self }
    }

    /// The number of this attempt at the record, starting with 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({self})")
    }
}

/// Topic, partition and offset.
impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.origin.partition, self.offset())
    }
}

/// The headers of a record, in their order, duplicates included.
#[derive(Clone, Copy)]
pub struct Headers<'a> {
    message: &'a Message,
}

/// One header. Kafka does not promise that a name is UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    name: &'a [u8],
    value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// The name, byte for byte.
    pub fn name_bytes(&self) -> &'a [u8] {
        self.name
    }

    /// The name; `None` if it is not UTF-8.
    pub fn name(&self) -> Option<&'a str> {
        std::str::from_utf8(self.name).ok()
    }

    /// The value; `None` if it is null, which is not the same as empty.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }
}

impl<'a> Headers<'a> {
    #[cfg(all(any(test, fuzzing), feature = "schemas"))]
    pub(crate) fn of(message: &'a Message) -> Self {
        Self { message }
    }

    /// The number of headers.
    pub fn len(&self) -> usize {
        match self.message {
            Message::Kafka(message) => message.header_count(),
            Message::Owned(message) => message.headers.len(),
        }
    }

    /// Whether there are no headers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All headers, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Header<'a>> + use<'a> {
        let headers = *self;
        (0..self.len()).filter_map(move |index| headers.at(index))
    }

    /// The last value of this name: the last one counts if a name occurs twice. `None` if it is
    /// missing or null.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().rev().find(|header| header.name == name.as_bytes())?.value
    }

    /// The same, in whatever case the name is written.
    pub(crate) fn get_in_any_case(&self, name: &str) -> Option<&'a [u8]> {
        self.iter().rev().find(|header| header.name.eq_ignore_ascii_case(name.as_bytes()))?.value
    }

    /// The last value of this name, if it is UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    fn at(&self, index: usize) -> Option<Header<'a>> {
        match self.message {
            Message::Kafka(message) => message.header(index).map(|(name, value)| Header { name, value }),
            Message::Owned(message) => {
                message.headers.get(index).map(|(name, value)| Header { name, value: value.as_deref() })
            }
        }
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names only: values may be secrets.
        f.debug_list().entries(self.iter().map(|header| String::from_utf8_lossy(header.name))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::source::Source;
    use super::*;
    use crate::kafka::message::OwnedMessage;

    #[test]
    fn the_last_of_two_headers_of_one_name_counts_and_null_is_not_empty() {
        let message = Message::Owned(Box::new(OwnedMessage {
            headers: vec![
                (b"a".to_vec(), Some(b"1".to_vec())),
                (b"a".to_vec(), Some(b"2".to_vec())),
                (b"empty".to_vec(), Some(vec![])),
                (b"null".to_vec(), None),
                (b"\xff".to_vec(), None),
            ],
            ..Default::default()
        }));
        let source = Source::new(TopicPartition::new("t", 0), "g".into());
        let headers = Record::new(&message, &source, 1).headers();
        assert_eq!(headers.get("a"), Some(&b"2"[..]));
        assert_eq!(headers.get("empty"), Some(&b""[..]));
        assert_eq!(headers.get("null"), None);
        assert_eq!(headers.iter().filter(|header| header.name().is_none()).count(), 1);
    }
}

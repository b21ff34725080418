//! A record's position, and the number of the attempt.

use super::{Context, FromRecord, Rejection};
use crate::{Record, TopicPartition};
use std::fmt;

/// A record's position in its topic. Written as topic, partition and offset: `flights/3/1400`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// Topic and partition.
    pub partition: TopicPartition,
    /// The offset in the partition.
    pub offset: i64,
    /// Milliseconds since the epoch; `None` for message formats without a timestamp.
    pub timestamp: Option<i64>,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

impl<'a> FromRecord<'a> for Position {
    fn from_record(record: Record<'a>, _: &'a Context) -> Result<Self, Rejection> {
        Ok(Self {
            partition: record.topic_partition().clone(),
            offset: record.offset(),
            timestamp: record.timestamp(),
        })
    }
}

/// The number of this attempt at the record; the first is 1.
///
/// It counts the record's own failures only. A run that is repeated because another record
/// failed, or because PostgreSQL was down, adds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u32);

impl<'a> FromRecord<'a> for Attempt {
    fn from_record(record: Record<'a>, _: &'a Context) -> Result<Self, Rejection> {
        Ok(Self(record.attempt()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_written_as_a_record_is() {
        let partition = TopicPartition::new("flights", 3);
        let position = Position { partition, offset: 1400, timestamp: None };
        assert_eq!(position.to_string(), "flights/3/1400");
    }
}

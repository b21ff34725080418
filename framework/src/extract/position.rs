//! Where a record stands, and how often it was tried.

use super::{Context, FromRecord, Rejection};
use crate::{Record, TopicPartition};

/// Where a record stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// Topic and partition.
    pub partition: TopicPartition,
    /// The offset in the partition.
    pub offset: i64,
    /// Milliseconds since the epoch; `None` in formats without a timestamp.
    pub timestamp: Option<i64>,
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

/// Which attempt at a record this is; the first is 1.
///
/// It counts the failures that were the record's own: a run that is repeated
/// because a neighbour failed, or because PostgreSQL was away, adds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u32);

impl<'a> FromRecord<'a> for Attempt {
    fn from_record(record: Record<'a>, _: &'a Context) -> Result<Self, Rejection> {
        Ok(Self(record.attempt()))
    }
}

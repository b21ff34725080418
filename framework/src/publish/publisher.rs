//! Publishes in the middle of a handler.

use super::ProducerRecord;
use super::publishing::{Equals, Publishing};
use crate::{HandlerResult, Record};
use std::fmt;
use std::sync::Arc;

/// Where a published record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Its partition.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
}

/// Publishes in the middle of a handler.
///
/// Not in a handler that takes `&mut Tx`, which the compiler refuses: sent after
/// the COMMIT, a crash in between loses the record, since the redelivery is a
/// duplicate; sent before it, a rollback leaves a ghost. Write it to an outbox table
/// in the transaction.
pub struct Publisher<'a> {
    publishing: Arc<Publishing>,
    cause: Record<'a>,
    equals: Equals,
}

impl<'a> Publisher<'a> {
    pub(crate) fn because_of(cause: Record<'a>, publishing: Arc<Publishing>) -> Self {
        Self { publishing, cause, equals: Equals::of("published") }
    }

    /// Publishes a record, and waits until all in-sync replicas have it.
    ///
    /// # Errors
    /// Retryable where the broker refuses the record. Let the error out: where Kafka cannot be reached, or
    /// the topic is not there or forbidden, Onceward waits and counts no attempt.
    pub async fn publish(&self, record: ProducerRecord) -> HandlerResult<Published> {
        self.publishing.publish(record, self.cause, Some(&self.equals)).await
    }
}

impl fmt::Debug for Publisher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publisher({:?})", self.cause)
    }
}

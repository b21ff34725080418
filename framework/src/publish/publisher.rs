//! Publishes in the middle of a handler.

use super::ProducerRecord;
use super::publishing::{Equals, Publishing};
use crate::{HandlerResult, Record};
use std::fmt;
use std::sync::Arc;

/// The position of a published record.
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
/// The compiler refuses it in a handler that takes `&mut Tx`. If the record were sent after the
/// COMMIT, a crash in between would lose it, because the redelivery is a duplicate; if it were
/// sent before, a rollback would leave a record of work that did not happen. Write it to an
/// outbox table in the transaction.
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
    /// Retryable if the broker refuses the record. Return the error: if Kafka cannot be
    /// reached, or the topic does not exist or is forbidden, Onceward waits and counts no
    /// attempt.
    pub async fn publish(&self, record: ProducerRecord) -> HandlerResult<Published> {
        self.publishing.publish(record, self.cause, Some(&self.equals)).await
    }
}

impl fmt::Debug for Publisher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publisher({:?})", self.cause)
    }
}

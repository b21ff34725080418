//! Says whose fault an error of librdkafka is, and whether waiting can help. `dedupe/outage.rs` does it for
//! PostgreSQL, by the same rule:
//!
//! - **An error of Onceward's own work is no record's fault**, whatever its code: connecting, the fence,
//!   a claim, a look-up, a mark, a dead letter, a publish to a topic that is missing or forbidden. The
//!   code says only whether a server is away ([`Cause::Outage`]) or something has to be mended
//!   ([`Cause::Setup`]), which is also what a code means that no row names.
//! - **An error that the handler's own statements raise is the record's**, whatever its code, but for the
//!   few that say that the transaction met another one.
//!
//! No other place does so. docs/operations.md has the same tables.

use crate::error::trouble::Cause;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// A code and what it means.
type Row = (RDKafkaErrorCode, &'static str);

/// librdkafka's errors of a publish at which a broker is away.
const KAFKA_AWAY: [Row; 31] = [
    (RDKafkaErrorCode::BrokerTransportFailure, "connection lost"),
    (RDKafkaErrorCode::AllBrokersDown, "no broker can be reached"),
    (RDKafkaErrorCode::Resolve, "a broker's name does not resolve"),
    (RDKafkaErrorCode::MessageTimedOut, "not acknowledged in time"),
    (RDKafkaErrorCode::OperationTimedOut, "not answered in time"),
    (RDKafkaErrorCode::TimedOutQueue, "not sent in time"),
    (RDKafkaErrorCode::RequestTimedOut, "the broker gave up waiting for its replicas"),
    (RDKafkaErrorCode::QueueFull, "the producer's queue is full: nothing is acknowledged"),
    (RDKafkaErrorCode::PurgeQueue, "dropped with a producer that was made anew"),
    (RDKafkaErrorCode::PurgeInflight, "dropped with a producer that was made anew"),
    (RDKafkaErrorCode::Fatal, "the idempotent producer ended; another is made"),
    (RDKafkaErrorCode::LeaderNotAvailable, "the partition has no leader at the moment"),
    (RDKafkaErrorCode::NotLeaderForPartition, "the partition's leader has moved"),
    (RDKafkaErrorCode::BrokerNotAvailable, "the broker is not available"),
    (RDKafkaErrorCode::ReplicaNotAvailable, "a replica is not available"),
    (RDKafkaErrorCode::NetworkException, "connection lost between brokers"),
    (RDKafkaErrorCode::NotEnoughReplicas, "fewer in-sync replicas than `min.insync.replicas`"),
    (RDKafkaErrorCode::NotEnoughReplicasAfterAppend, "fewer in-sync replicas than `min.insync.replicas`"),
    (RDKafkaErrorCode::KafkaStorageError, "the broker cannot write to its disk"),
    (RDKafkaErrorCode::CoordinatorLoadInProgress, "the coordinator is starting"),
    (RDKafkaErrorCode::ThrottlingQuotaExceeded, "over the client's quota"),
    (RDKafkaErrorCode::BrokerDestroy, "dropped with a producer that was made anew"),
    (RDKafkaErrorCode::CriticalSystemResource, "this process is short of memory, threads or files"),
    (RDKafkaErrorCode::Retry, "to be tried again"),
    (RDKafkaErrorCode::Unknown, "an error that the broker has no name for"),
    (RDKafkaErrorCode::InvalidMessage, "damaged on its way"),
    (RDKafkaErrorCode::OutOfOrderSequenceNumber, "the idempotent producer lost its place"),
    (RDKafkaErrorCode::DuplicateSequenceNumber, "the idempotent producer lost its place"),
    (RDKafkaErrorCode::InvalidProducerEpoch, "the idempotent producer lost its place"),
    (RDKafkaErrorCode::UnknownProducerId, "the idempotent producer lost its place"),
    (RDKafkaErrorCode::CoordinatorNotAvailable, "the coordinator is not available"),
];

/// librdkafka's errors of a publish at which somebody has to mend something. All that stand in no table
/// are of this kind too.
const KAFKA_SETUP: [Row; 12] = [
    (RDKafkaErrorCode::UnknownTopic, "the topic does not exist: create it, or correct its name"),
    (RDKafkaErrorCode::UnknownTopicOrPartition, "the topic does not exist: create it, or correct its name"),
    (RDKafkaErrorCode::UnknownPartition, "the topic has no such partition: give it more, or name another"),
    (
        RDKafkaErrorCode::TopicAuthorizationFailed,
        "this user may not write to the topic: an ACL with WRITE is missing",
    ),
    (RDKafkaErrorCode::ClusterAuthorizationFailed, "this user may not write: an ACL is missing"),
    (RDKafkaErrorCode::Authentication, "the broker refuses the login: correct `kafka.sasl.*`"),
    (RDKafkaErrorCode::SaslAuthenticationFailed, "the broker refuses the login: correct `kafka.sasl.*`"),
    (RDKafkaErrorCode::UnsupportedSASLMechanism, "the broker does not know `kafka.sasl.mechanism`"),
    (RDKafkaErrorCode::SSL, "TLS to the broker fails: correct `kafka.ssl.*`"),
    (RDKafkaErrorCode::InvalidRequiredAcks, "the broker refuses `acks`"),
    (RDKafkaErrorCode::UnsupportedCompressionType, "the topic does not take `kafka.compression.type`"),
    (RDKafkaErrorCode::UnsupportedForMessageFormat, "the topic's message format is too old for headers"),
];

/// librdkafka's errors of a publish that only what is published can have caused.
const KAFKA_RECORDS: [Row; 7] = [
    (RDKafkaErrorCode::MessageSizeTooLarge, "larger than the topic takes"),
    (RDKafkaErrorCode::InvalidMessageSize, "larger than the topic takes"),
    (RDKafkaErrorCode::MessageBatchTooLarge, "larger than a segment of the topic"),
    (
        RDKafkaErrorCode::InvalidRecord,
        "refused by the broker, such as one without a key in a compacted topic",
    ),
    (RDKafkaErrorCode::InvalidTimestamp, "its timestamp is outside of what the topic takes"),
    (RDKafkaErrorCode::InvalidTopic, "no topic can have this name"),
    (RDKafkaErrorCode::PolicyViolation, "refused by a policy of the broker"),
];

/// Whether a broker is away, by librdkafka's error of a request.
pub(crate) fn is_broker_away(code: RDKafkaErrorCode) -> bool {
    KAFKA_AWAY.iter().any(|(away, _)| *away == code)
}

/// Whose fault it is that something could not be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unpublished {
    /// Of what is published.
    Record,
    /// No record's, and why.
    Held(Cause, &'static str),
}

/// What an error of a publish means.
pub(crate) fn of_publish(error: &KafkaError) -> Unpublished {
    let Some(code) = error.rdkafka_error_code() else {
        return match error {
            // A client that was dropped.
            KafkaError::Canceled => {
                Unpublished::Held(Cause::Outage, "dropped with a producer that was made anew")
            }
            _ => Unpublished::Held(Cause::Setup, UNNAMED),
        };
    };
    let find = |rows: &[Row]| rows.iter().find(|(row, _)| *row == code).map(|(_, what)| *what);
    if find(&KAFKA_RECORDS).is_some() {
        Unpublished::Record
    } else if let Some(what) = find(&KAFKA_AWAY) {
        Unpublished::Held(Cause::Outage, what)
    } else {
        Unpublished::Held(Cause::Setup, find(&KAFKA_SETUP).unwrap_or(UNNAMED))
    }
}

const UNNAMED: &str = "Kafka refuses it for a reason that is not the record's";

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::types::RDKafkaRespErr;

    #[test]
    fn the_guide_has_the_same_tables() {
        let guide = include_str!("../../../docs/operations.md");
        let has = |row: String| assert!(guide.contains(&row), "docs/operations.md lacks: {row}");
        for (code, meaning) in KAFKA_AWAY.into_iter().chain(KAFKA_SETUP).chain(KAFKA_RECORDS) {
            has(format!("| `{code:?}` | {meaning} |"));
        }
    }

    /// All codes that librdkafka has.
    fn codes() -> impl Iterator<Item = RDKafkaErrorCode> {
        let known = (-200..300).filter_map(|code| RDKafkaRespErr::try_from(code).ok());
        known.map(RDKafkaErrorCode::from)
    }

    #[test]
    fn of_all_errors_of_kafka_only_those_that_the_record_can_cause_are_its_fault() {
        assert!(codes().count() > 150);
        for code in codes() {
            let rows = [&KAFKA_AWAY[..], &KAFKA_SETUP, &KAFKA_RECORDS];
            let named = rows.map(|rows| rows.iter().any(|(row, _)| *row == code));
            assert!(named.iter().filter(|named| **named).count() <= 1, "{code:?} stands in two tables");
            let right = match named {
                [_, _, true] => None,
                [true, ..] => Some(Cause::Outage),
                // What no row names waits too, and is seen.
                _ => Some(Cause::Setup),
            };
            let cause = match of_publish(&KafkaError::MessageProduction(code)) {
                Unpublished::Record => None,
                Unpublished::Held(cause, _) => Some(cause),
            };
            assert_eq!(cause, right, "{code:?}");
        }
        let canceled = of_publish(&KafkaError::Canceled);
        assert!(matches!(canceled, Unpublished::Held(Cause::Outage, _)));
        let unusable = of_publish(&KafkaError::ClientCreation(String::new()));
        assert!(matches!(unusable, Unpublished::Held(Cause::Setup, _)));
    }
}

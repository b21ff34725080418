//! Decides whose fault an error is, and whether waiting can help: the only place that does.
//!
//! - **An error of Onceward's own work is no record's fault**, whatever its code: connecting, the fence,
//!   a claim, a look-up, a mark, a dead letter, a publish to a topic that is missing or forbidden. The
//!   code says only whether a server is away ([`Cause::Outage`]) or something has to be mended
//!   ([`Cause::Setup`]), which is also what a code means that no row names.
//! - **An error that the handler's own statements raise is the record's**, whatever its code, but for the
//!   few that say that the transaction met another one.
//!
//! docs/operations.md has the same tables.

use crate::error::trouble::Cause;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// A code and what it means.
type Row<C> = (C, &'static str);

/// SQLSTATEs of Onceward's own statements, or their first two letters for a class, at which a server is
/// away.
#[cfg(any(feature = "postgres", test))]
const POSTGRES_AWAY: [Row<&str>; 14] = [
    ("08", "connection exceptions"),
    ("25006", "read-only: connected to a standby during a failover"),
    ("25P03", "idle_in_transaction_session_timeout"),
    ("25P04", "transaction_timeout"),
    ("40003", "the connection broke before the answer to a COMMIT"),
    ("53", "out of disk, memory or connections"),
    ("57014", "cancelled by somebody"),
    ("57P01", "shutdown"),
    ("57P02", "crash shutdown"),
    ("57P03", "starting up"),
    ("57P05", "idle_session_timeout"),
    ("58", "I/O errors of the server"),
    ("F0", "configuration or lock file errors of the server"),
    ("XX", "internal errors of the server"),
];

/// SQLSTATEs of Onceward's own statements at which somebody has to mend something. All that stand in
/// neither table are of this kind too.
#[cfg(any(feature = "postgres", test))]
const POSTGRES_SETUP: [Row<&str>; 7] = [
    (
        "28",
        "PostgreSQL refuses the login: correct the user and the password in `database_url`, or give the role LOGIN",
    ),
    ("3D", "the database of `database_url` does not exist"),
    ("3F", "a schema of the role's `search_path` does not exist"),
    ("42501", "the role lacks a right: grant it what Onceward's tables need"),
    ("42", "Onceward's tables are not there or not as this version needs them: run `migrate`"),
    ("55000", "the database accepts no connections, or is not ready for the statement"),
    ("57P04", "the database was dropped"),
];

/// librdkafka's errors of a publish at which a broker is away.
const KAFKA_AWAY: [Row<RDKafkaErrorCode>; 31] = [
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
const KAFKA_SETUP: [Row<RDKafkaErrorCode>; 12] = [
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
const KAFKA_RECORDS: [Row<RDKafkaErrorCode>; 7] = [
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

/// What an error of PostgreSQL means that came of Onceward's own work, and what to do.
#[cfg(feature = "postgres")]
pub(crate) fn of_postgres(sqlstate: &str) -> (Cause, &'static str) {
    let find = |rows: &[Row<&'static str>]| {
        let whole = rows.iter().find(|(code, _)| *code == sqlstate);
        whole.or_else(|| rows.iter().find(|(code, _)| sqlstate.starts_with(code))).map(|(_, what)| *what)
    };
    match find(&POSTGRES_AWAY) {
        Some(what) => (Cause::Outage, what),
        None => (
            Cause::Setup,
            find(&POSTGRES_SETUP).unwrap_or("PostgreSQL refuses a statement of Onceward's own"),
        ),
    }
}

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
    let find =
        |rows: &[Row<RDKafkaErrorCode>]| rows.iter().find(|(row, _)| *row == code).map(|(_, what)| *what);
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
        for (code, meaning) in POSTGRES_AWAY.into_iter().chain(POSTGRES_SETUP) {
            let class = if code.len() == 2 { "xxx" } else { "" };
            has(format!("| `{code}{class}` | {meaning} |"));
        }
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

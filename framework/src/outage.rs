//! Tells an outage from a failure: the one table of what is no record's fault.
//!
//! Only errors of Onceward's own clients are looked up: its connections to
//! PostgreSQL, its consumer, its producer. What a handler's own client says is the
//! handler's failure, whatever its code. What no row names is a failure that may be
//! tried again, never an outage. docs/operations.md has the same tables.

use rdkafka::error::RDKafkaErrorCode;

/// A code and what it means.
type Row<C> = (C, &'static str);

/// SQLSTATEs, or their first two letters for a class, at which Onceward waits and
/// no attempt is counted.
pub(crate) const POSTGRES: [Row<&str>; 10] = [
    ("08", "connection exceptions"),
    ("25006", "read-only: connected to a standby during a failover"),
    ("25P03", "idle_in_transaction_session_timeout"),
    ("53", "out of disk, memory or connections"),
    ("57P01", "shutdown"),
    ("57P02", "crash shutdown"),
    ("57P03", "starting up"),
    ("57P05", "idle_session_timeout"),
    ("58", "I/O errors of the server"),
    ("F0", "configuration or lock file errors of the server"),
];

/// librdkafka's errors of a publish at which Onceward waits and no attempt is
/// counted.
pub(crate) const KAFKA: [Row<RDKafkaErrorCode>; 21] = [
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
];

/// Whether PostgreSQL cannot be reached or cannot work.
#[cfg(feature = "postgres")]
pub(crate) fn is_postgres(sqlstate: &str) -> bool {
    POSTGRES.iter().any(|(code, _)| *code == sqlstate || code.len() == 2 && sqlstate.starts_with(code))
}

/// Whether Kafka cannot be reached or cannot work.
pub(crate) fn is_kafka(code: RDKafkaErrorCode) -> bool {
    KAFKA.iter().any(|(outage, _)| *outage == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_has_the_same_tables() {
        let guide = include_str!("../../docs/operations.md");
        for (code, meaning) in POSTGRES {
            let class = if code.len() == 2 { "xxx" } else { "" };
            let row = format!("| `{code}{class}` | {meaning} |");
            assert!(guide.contains(&row), "docs/operations.md lacks: {row}");
        }
        for (code, meaning) in KAFKA {
            let row = format!("| `{code:?}` | {meaning} |");
            assert!(guide.contains(&row), "docs/operations.md lacks: {row}");
        }
    }

    #[test]
    #[cfg(feature = "postgres")]
    fn what_no_row_names_is_no_outage() {
        assert!(is_postgres("08006") && is_postgres("57P01") && is_postgres("53300"));
        assert!(!is_postgres("57014") && !is_postgres("23505") && !is_postgres("") && !is_postgres("42P01"));
        assert!(is_kafka(RDKafkaErrorCode::MessageTimedOut));
        assert!(!is_kafka(RDKafkaErrorCode::MessageSizeTooLarge));
        assert!(!is_kafka(RDKafkaErrorCode::TopicAuthorizationFailed));
    }
}

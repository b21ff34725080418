//! Why there is no copy of a record yet, in one sentence: what is wrong, and what to do.

use super::make::HEADER_ROOM;
use crate::error::trouble::Cause;
use crate::kafka::client::{KafkaError, RDKafkaErrorCode};
use crate::kafka::producer::ProduceError;

/// Where looking for letters takes longer than one attempt.
pub(super) fn still_reading(topic: &str) -> ProduceError {
    let problem = format!("the letters in dead-letter topic `{topic}` are still being read");
    ProduceError::of(topic, Cause::Passing, problem, "it goes on where it was, and needs no help")
}

pub(super) fn cannot_read(topic: &str, error: KafkaError) -> ProduceError {
    let error = ProduceError::new(topic, error);
    let (cause, problem) = match error.code() {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => (
            Cause::Setup,
            format!(
                "the user may not read dead-letter topic `{topic}`, to see which letters are there already; add an \
                 ACL with READ on it"
            ),
        ),
        Some(RDKafkaErrorCode::GroupAuthorizationFailed) => (
            Cause::Setup,
            format!(
                "cannot read dead-letter topic `{topic}`: the user has no READ on the handler's group; add an ACL for it"
            ),
        ),
        // Whatever else: nobody has set anything wrong for all that is known.
        _ => (
            Cause::Outage,
            format!("cannot read dead-letter topic `{topic}`, to see which letters are there"),
        ),
    };
    error.explained(cause, problem)
}

pub(super) fn is_missing(topic: &str) -> ProduceError {
    let problem = format!(
        "dead-letter topic `{topic}` does not exist, and `dead_letter.create` is false; create it, or set that to \
         true"
    );
    ProduceError::of(topic, Cause::Setup, problem, "unknown topic")
}

/// Where the copy was sent and not taken. `size` is that of key, value and headers.
pub(super) fn not_taken(topic: &str, error: ProduceError, size: usize) -> ProduceError {
    use RDKafkaErrorCode::{
        ClusterAuthorizationFailed, InvalidRecord, PolicyViolation, TopicAuthorizationFailed,
        UnsupportedForMessageFormat,
    };
    let problem = match error.code() {
        _ if error.is_too_large() => format!(
            "dead-letter topic `{topic}` is too small for a copy of {size} bytes, also when it is compressed and \
             says only what is needed; set its `max.message.bytes` to {} or more",
            size as u64 + HEADER_ROOM
        ),
        Some(TopicAuthorizationFailed) => {
            format!("the user may not write to dead-letter topic `{topic}`; add an ACL with WRITE on it")
        }
        Some(ClusterAuthorizationFailed) => format!(
            "the user may not write to dead-letter topic `{topic}` without duplicates; add an ACL with IDEMPOTENT_WRITE on \
             the cluster, which brokers before 2.8 need"
        ),
        Some(InvalidRecord) => format!(
            "dead-letter topic `{topic}` refuses the copy; it may be compacted, and must have `cleanup.policy=delete`"
        ),
        Some(PolicyViolation) => {
            format!("a policy of the broker refuses copies in dead-letter topic `{topic}`")
        }
        Some(UnsupportedForMessageFormat) => format!(
            "dead-letter topic `{topic}` has a message format without headers; set its `message.format.version` to \
             0.11 or later"
        ),
        _ if error.is_outage() => format!("cannot write to dead-letter topic `{topic}`"),
        _ => format!("dead-letter topic `{topic}` does not take the copy; see `dead_letter` of the handler"),
    };
    let cause = error.cause();
    error.explained(cause, problem)
}

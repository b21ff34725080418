//! Creates missing dead-letter topics.

use crate::config::{DedupeKind, Resolved};
use crate::error::Error;
use crate::error::trouble::Cause;
use crate::kafka::admin::{self, NewTopic, NotMade};
use crate::kafka::client::{BaseConsumer, RDKafkaErrorCode};
use crate::kafka::client_config::ClientSettings as _;
use crate::kafka::outage;
use crate::kafka::producer::ProduceError;
use crate::kafka::topics::{self, REQUEST};

/// Room for the headers of a copy.
pub(super) const HEADER_ROOM: u64 = 64 << 10;

/// Makes a dead-letter topic with as many partitions as its source.
pub(super) async fn create(config: &Resolved, source: &str, letters: &str) -> Result<(), ProduceError> {
    tracing::info!(topic = letters, "making the dead-letter topic");
    make(config, source, letters, false).await.map_err(|error| {
        let is_outage = error.code.is_some_and(outage::is_broker_away);
        let cause = if is_outage { Cause::Outage } else { Cause::Setup };
        let problem = format!("dead-letter topic `{letters}` {}; {WAYS_OUT}", problem(&error));
        ProduceError::of(letters, cause, problem, error)
    })
}

/// Refuses a start whose dead-letter topic is missing and could not be made.
pub(super) async fn check(config: &Resolved, source: &str, letters: &str) -> Result<(), Error> {
    let problem = if config.dead_letter.creates() {
        match make(config, source, letters, true).await {
            Ok(()) => return Ok(()),
            Err(NotMade { code: Some(RDKafkaErrorCode::UnsupportedFeature), .. }) => return Ok(()),
            Err(error) => format!("it {} ({error})", problem(&error)),
        }
    } else {
        "it does not exist, and `dead_letter.create` is false".to_owned()
    };
    Err(Error::Topic { topic: letters.to_owned(), problem: format!("{problem}; {WAYS_OUT}") })
}

const WAYS_OUT: &str = "create it, name another with `dead_letter` of the handler, or set that to `none` and have failed \
                        records hold their partition";

fn problem(error: &NotMade) -> &'static str {
    use RDKafkaErrorCode::{ClusterAuthorizationFailed, TopicAuthorizationFailed};
    match error.code {
        Some(TopicAuthorizationFailed | ClusterAuthorizationFailed) => {
            "does not exist, and the user may not make it: an ACL with CREATE on the topic is missing"
        }
        _ => "does not exist and cannot be made",
    }
}

async fn make(config: &Resolved, source: &str, letters: &str, only_validate: bool) -> Result<(), NotMade> {
    let partitions = topics::layout(config, source).await?.partitions;
    let limit =
        topics::settings(config, source).await.ok().flatten().and_then(|ours| ours.max_message_bytes());
    let mut settings = vec![
        // Compaction would keep one letter of a key; it may be the brokers' default.
        ("cleanup.policy", "delete".to_owned()),
        // Another one would undo what makes copies small.
        ("compression.type", "producer".to_owned()),
    ];
    // Twice: what many similar records are compressed to together, or by another codec, is less.
    settings.extend(limit.map(|limit| ("max.message.bytes", room_for(limit).to_string())));
    if config.dedupe == DedupeKind::Postgres {
        // No longer than what was done is remembered: a letter that is sent back counts once.
        settings.push(("retention.ms", config.dedupe_window.as_millis().to_string()));
    }
    let (config, letters) = (config.clone(), letters.to_owned());
    let request = move || -> Result<(), NotMade> {
        let client: BaseConsumer = config.client().create()?;
        let topic = NewTopic { name: &letters, partitions, settings };
        admin::create(&client, &topic, only_validate, REQUEST)
    };
    let canceled = |error: Error| NotMade { code: None, reason: format!("{error:?}") };
    match topics::blocking(request).await.map_err(canceled)? {
        Err(NotMade { code: Some(RDKafkaErrorCode::TopicAlreadyExists), .. }) => Ok(()),
        made => made,
    }
}

/// The limit of a dead-letter topic that Onceward makes, by that of its source. At most Kafka's.
fn room_for(limit: u64) -> u64 {
    (limit * 2).saturating_add(HEADER_ROOM).min(i32::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_made_has_room_for_copies_that_compress_less_than_their_originals() {
        assert_eq!(room_for(1_048_588), 2 * 1_048_588 + HEADER_ROOM);
        assert_eq!(room_for(i32::MAX as u64), i32::MAX as u64);
    }

    #[test]
    fn a_right_that_is_missing_is_told_from_what_the_broker_refuses() {
        let refused = |code| problem(&NotMade { code: Some(code), reason: String::new() });
        assert!(refused(RDKafkaErrorCode::TopicAuthorizationFailed).contains("CREATE"));
        assert!(!refused(RDKafkaErrorCode::InvalidTopic).contains("CREATE"));
    }
}

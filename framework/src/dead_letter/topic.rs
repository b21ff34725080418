//! Looks at the dead-letter topics before anything is consumed, and makes those
//! that are missing when they are first needed.

use super::topic_of;
use crate::config::{DedupeKind, Resolved};
use crate::error::Error;
use crate::permission;
use crate::producer::ProduceError;
use crate::topics::{self, REQUEST, Settings};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Room for the headers of a copy.
const HEADER_ROOM: u64 = 64 << 10;

/// A dead-letter topic must not be one that its own group reads, else records go in
/// a circle.
pub(crate) fn check_circle(source: &str, letters: &str, read: &[String]) -> Result<(), Error> {
    let problem = if source == letters {
        format!("is the topic's own dead-letter topic too; name another, such as `{}`", topic_of(source))
    } else if read.iter().any(|topic| topic == letters) {
        format!(
            "is the dead-letter topic of `{source}` and read by the same group, so dead letters would go in a \
             circle; read it in another group, or set another `dead_letter`"
        )
    } else {
        return Ok(());
    };
    Err(Error::Topic { topic: letters.to_owned(), problem })
}

/// Refuses dead-letter topics that could not take what they are for.
pub(crate) async fn check_topics(config: &Resolved, pairs: &[(String, String)]) -> Result<(), Error> {
    for (source, letters) in pairs {
        if topics::is_there(config, letters).await.map_err(|error| unseen(letters, error))? {
            check_settings(config, source, letters).await?;
            check_permission(config, letters).await?;
        } else {
            check_creation(config, source, letters).await?;
        }
    }
    Ok(())
}

/// Who may not even see a topic is told so in the words of one who reads it.
fn unseen(letters: &str, error: Error) -> Error {
    match error {
        Error::Topic { .. } => Error::Topic {
            topic: letters.to_owned(),
            problem: "the user may not write dead letters to it; ACLs with WRITE on the topic are missing, and with \
                      CREATE where it is to be made; or set `dead_letter` of the handler to `none`"
                .into(),
        },
        other => other,
    }
}

async fn check_settings(config: &Resolved, source: &str, letters: &str) -> Result<(), Error> {
    let Some(theirs) = topics::settings(config, letters).await? else { return Ok(()) };
    let refused = |problem: String| Err(Error::Topic { topic: letters.to_owned(), problem });
    if theirs.is_compacted() {
        return refused(
            "a dead-letter topic must not be compacted: it would lose all but the last letter of a key; set \
             `cleanup.policy=delete`"
                .into(),
        );
    }
    let ours = topics::settings(config, source).await?;
    let (most, needed) = (theirs.max_message_bytes(), ours.as_ref().and_then(Settings::max_message_bytes));
    if let (Some(most), Some(needed)) = (most, needed)
        && most < needed
    {
        return refused(format!(
            "takes records of {most} bytes, and `{source}` has records of up to {needed}, whose copies would be held; set \
             its `max.message.bytes` to {} or more",
            needed.saturating_add(HEADER_ROOM)
        ));
    }
    if let (Some(kept), Some(source_kept)) = (theirs.retention(), ours.and_then(|ours| ours.retention()))
        && kept < source_kept
    {
        tracing::warn!(topic = letters, ?kept, "dead letters are kept for less time than their originals");
    }
    Ok(())
}

async fn check_permission(config: &Resolved, letters: &str) -> Result<(), Error> {
    let (client, topic) = (topics::client(config)?, letters.to_owned());
    let asked = topics::blocking(move || permission::may_write(&client, &topic, REQUEST)).await?;
    match asked {
        Ok(Some(false)) => Err(Error::Topic {
            topic: letters.to_owned(),
            problem: "the user may not write dead letters to it; an ACL with WRITE on the topic is missing"
                .into(),
        }),
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::debug!(topic = letters, %error, "the broker does not say who may write; not checked");
            Ok(())
        }
    }
}

async fn check_creation(config: &Resolved, source: &str, letters: &str) -> Result<(), Error> {
    let problem = if config.dead_letter.create() {
        match make(config, source, letters, true).await {
            Ok(()) => return Ok(()),
            Err(KafkaError::AdminOp(RDKafkaErrorCode::UnsupportedFeature)) => return Ok(()),
            Err(error) => format!("it does not exist and cannot be made when it is needed ({error})"),
        }
    } else {
        "it does not exist, and `dead_letter.create` is false".to_owned()
    };
    Err(Error::Topic {
        topic: letters.to_owned(),
        problem: format!(
            "{problem}; create it, name another with `dead_letter` of the handler, or set that to `none` and have \
             failed records hold their partition"
        ),
    })
}

/// Makes a dead-letter topic with as many partitions as its source.
pub(super) async fn create(config: &Resolved, source: &str, letters: &str) -> Result<(), ProduceError> {
    tracing::info!(topic = letters, "making the dead-letter topic");
    make(config, source, letters, false).await.map_err(|error| ProduceError::new(letters, error))
}

async fn make(config: &Resolved, source: &str, letters: &str, only_validate: bool) -> Result<(), KafkaError> {
    let partitions = topics::partitions(config, source).await?;
    let room =
        topics::settings(config, source).await.ok().flatten().and_then(|ours| ours.max_message_bytes());
    let room = room.map(|most| most.saturating_add(HEADER_ROOM).to_string());
    // No longer than what was done is remembered: a letter that is sent back counts once.
    let kept = (config.dedupe == DedupeKind::Postgres).then(|| config.dedupe_window.as_millis().to_string());
    let mut topic = NewTopic::new(letters, partitions, TopicReplication::Fixed(-1));
    for (name, value) in [("max.message.bytes", &room), ("retention.ms", &kept)] {
        if let Some(value) = value {
            topic = topic.set(name, value);
        }
    }
    let admin: AdminClient<DefaultClientContext> = config.client().create()?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST)).validate_only(only_validate);
    for result in admin.create_topics([&topic], &options).await? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, error)) => return Err(KafkaError::AdminOp(error)),
        }
    }
    Ok(())
}

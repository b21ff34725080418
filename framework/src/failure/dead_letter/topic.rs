//! Checks the dead-letter topics before anything is consumed.

use super::make::{self, HEADER_ROOM};
use super::topic_of;
use crate::config::{DeadLetterPartition, Resolved};
use crate::error::Error;
use crate::kafka::admin::{self, Rights};
use crate::kafka::client::KafkaError;
use crate::kafka::topics::{self, Layout, REQUEST, Settings};

/// The longest name that Kafka takes.
const LONGEST_NAME: usize = 249;

/// What the headers take without which a copy could not be sent back: two names of topics, of groups
/// and of handlers at most, and numbers.
const NEEDED_HEADERS: u64 = 2 << 10;

/// A dead-letter topic must have a name that Kafka takes, and must not be one that its own group reads, else
/// records go in a circle. `source` may be a pattern.
pub(crate) fn check_circle(source: &str, letters: &str, read: &[String]) -> Result<(), Error> {
    let is_pattern = source.starts_with('^');
    if is_pattern && letters == topic_of(source) {
        // Each of its topics has one of its own.
        return Ok(());
    }
    let problem = if source == letters {
        format!("is the topic's own dead-letter topic too; name another, such as `{}`", topic_of(source))
    } else if read.iter().any(|topic| topic == letters) {
        format!(
            "is the dead-letter topic of `{source}` and read by the same group, so dead letters would go in a \
             circle; read it in another group, or set another `dead_letter`"
        )
    } else if letters.len() > LONGEST_NAME {
        format!(
            "has {} characters, and Kafka takes {LONGEST_NAME}; name a shorter one with `dead_letter` of the handler of \
             `{source}`",
            letters.len()
        )
    } else if !is_legal(letters) && (is_legal(source) || letters != topic_of(source)) {
        // Of a source with such a name the look at the sources says so.
        format!(
            "is no name that Kafka takes: letters, digits, `.`, `_` and `-`; name another with `dead_letter` of the \
             handler of `{source}`"
        )
    } else {
        return Ok(());
    };
    Err(Error::Topic { topic: letters.to_owned(), problem })
}

fn is_legal(name: &str) -> bool {
    let is_taken = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    !matches!(name, "" | "." | "..") && name.chars().all(is_taken)
}

/// Refuses dead-letter topics that could not take what they are for.
pub(crate) async fn check_topics(config: &Resolved, pairs: &[(String, String)]) -> Result<(), Error> {
    for (source, letters) in pairs {
        if topics::is_there(config, letters).await.map_err(|error| unseen(letters, error))? {
            check_rights(config, letters).await?;
            check_layout(config, source, letters).await?;
            check_settings(config, source, letters).await?;
        } else {
            make::check(config, source, letters).await?;
        }
    }
    Ok(())
}

/// Who may not even see a topic is told so in the words of one who reads it.
fn unseen(letters: &str, error: Error) -> Error {
    match error {
        Error::Topic { .. } => refused(
            letters,
            "the user may not write dead letters to it; ACLs with WRITE and READ on the topic are missing, and with \
             CREATE where it is to be made; or set `dead_letter` of the handler to `none`"
                .to_owned(),
        ),
        other => other,
    }
}

fn refused(letters: &str, problem: String) -> Error {
    Error::Topic { topic: letters.to_owned(), problem }
}

async fn check_rights(config: &Resolved, letters: &str) -> Result<(), Error> {
    let (client, topic) = (topics::client(config)?, letters.to_owned());
    let asked = topics::blocking(move || admin::rights(&client, &topic, REQUEST)).await?;
    match asked {
        Ok(Some(rights)) => missing_right(rights).map_or(Ok(()), |problem| Err(refused(letters, problem))),
        Ok(None) => Ok(()),
        Err(error) => {
            tracing::debug!(topic = letters, %error, "the broker does not say who may write; not checked");
            Ok(())
        }
    }
}

fn missing_right(rights: Rights) -> Option<String> {
    let (doing, missing) = match rights {
        Rights { read: true, write: true } => return None,
        Rights { read: true, write: false } => {
            ("write dead letters to it", "an ACL with WRITE on the topic is")
        }
        Rights { read: false, write: true } => (
            "read it, which is how Onceward finds the letters that are there already",
            "an ACL with READ on the topic is",
        ),
        Rights { read: false, write: false } => {
            ("write dead letters to it, or read them", "ACLs with WRITE and READ on the topic are")
        }
    };
    Some(format!("the user may not {doing}; {missing} missing"))
}

async fn check_layout(config: &Resolved, source: &str, letters: &str) -> Result<(), Error> {
    let failed = |topic: &str, error: KafkaError| {
        Error::kafka(format!("look up topic `{topic}`"), &config.brokers, error)
    };
    if config.dead_letter.partitioning() != DeadLetterPartition::Source {
        return Ok(());
    }
    let ours = topics::layout(config, source).await.map_err(|error| failed(source, error))?;
    let theirs = topics::layout(config, letters).await.map_err(|error| failed(letters, error))?;
    too_few_partitions(source, ours, theirs).map_or(Ok(()), |problem| Err(refused(letters, problem)))
}

/// What is wrong where each copy is to go to the partition that its original has.
fn too_few_partitions(source: &str, ours: Layout, theirs: Layout) -> Option<String> {
    (theirs.partitions < ours.partitions).then(|| {
        format!(
            "has {} partition(s) and `{source}` has {}, so with `dead_letter.partition` = `source` copies of the others have \
             nowhere to go; give it {} partitions, or set `dead_letter.partition` to `key`",
            theirs.partitions, ours.partitions, ours.partitions
        )
    })
}

async fn check_settings(config: &Resolved, source: &str, letters: &str) -> Result<(), Error> {
    let Some(theirs) = topics::settings(config, letters).await? else { return Ok(()) };
    if theirs.is_compacted() {
        return Err(refused(
            letters,
            "a dead-letter topic must not be compacted: it would lose all but the last letter of a key; set \
             `cleanup.policy=delete`"
                .into(),
        ));
    }
    check_replicas(config, letters, &theirs).await?;
    let ours = topics::settings(config, source).await?;
    if let Some((most, ours)) = theirs.max_message_bytes().zip(ours.as_ref()) {
        let is_own = ours.is_own("max.message.bytes");
        match ours.max_message_bytes().map_or(Size::Enough, |needed| size(source, most, needed, is_own)) {
            Size::Enough => {}
            Size::Unlikely(problem) => tracing::warn!(topic = letters, "{problem}"),
            Size::TooSmall(problem) => return Err(refused(letters, problem)),
        }
    }
    if let (Some(kept), Some(source_kept)) = (theirs.retention(), ours.as_ref().and_then(Settings::retention))
        && kept < source_kept
    {
        tracing::warn!(topic = letters, ?kept, "dead letters are kept for less time than their originals");
    }
    Ok(())
}

/// A copy counts when all in-sync replicas have it, and the topic may ask for more of these than it has.
async fn check_replicas(config: &Resolved, letters: &str, theirs: &Settings) -> Result<(), Error> {
    let Some(needed) = theirs.min_insync_replicas().filter(|needed| *needed > 1) else { return Ok(()) };
    match topics::layout(config, letters).await {
        Ok(Layout { replicas, .. }) if replicas < needed => Err(refused(
            letters,
            format!(
                "has {replicas} replica(s) and its `min.insync.replicas` is {needed}, so no dead letter could be written; set \
                 it to {replicas}, or give the topic more replicas"
            ),
        )),
        _ => Ok(()),
    }
}

/// Whether the copies of a topic's records fit into its dead-letter topic.
#[derive(Debug, PartialEq, Eq)]
enum Size {
    Enough,
    /// Some copy may not fit, of a record that nobody says there is.
    Unlikely(String),
    TooSmall(String),
}

/// Compares limits. That of the source says how large its records are where somebody has set it for
/// this topic; the brokers' own is there to be far from.
fn size(source: &str, most: u64, needed: u64, is_own: bool) -> Size {
    let needed_to_repair = needed.saturating_add(NEEDED_HEADERS);
    if most >= needed.saturating_add(HEADER_ROOM) {
        return Size::Enough;
    }
    let right = needed.saturating_add(HEADER_ROOM);
    let fix = format!("set its `max.message.bytes` to {right} or more");
    if most < needed || (most < needed_to_repair && is_own) {
        return Size::TooSmall(format!(
            "takes records of {most} bytes, and `{source}` has records of up to {needed}: with the headers of a copy, \
             {} bytes too few, and the record would hold its partition; {fix}",
            right - most
        ));
    }
    Size::Unlikely(format!(
        "the dead-letter topic takes records of {most} bytes, and `{source}` has records of up to {needed}: {} bytes too few \
         for all that the copy of such a record says; one that does not fit, compressed, would hold its partition; {fix}",
        right - most
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(source: &str, letters: &str, read: &[&str]) -> String {
        let read: Vec<String> = read.iter().map(ToString::to_string).collect();
        check_circle(source, letters, &read).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn a_dead_letter_topic_must_not_be_read_by_its_own_group_which_a_pattern_never_does() {
        assert!(refusal("t", "u", &["t", "u"]).contains("circle"));
        assert!(refusal("t", "t", &["t"]).contains("own dead-letter topic too"));
        assert_eq!(refusal("^rq-.*", "rq-all.dlq", &["^rq-.*"]), "");
        assert_eq!(refusal("^rq-.*", "^rq-.*.dlq", &["^rq-.*"]), "", "each of its topics has its own");
    }

    #[test]
    fn a_name_that_kafka_does_not_take_is_refused_with_what_is_wrong() {
        let source = "t".repeat(249);
        let error = refusal(&source, &topic_of(&source), &[&source]);
        assert!(
            error.contains("253 characters") && error.contains("249") && error.contains("`dead_letter`"),
            "{error}"
        );
        assert!(!error.contains("ACL"), "{error}");
        assert!(refusal("t", "t dlq", &["t"]).contains("no name that Kafka takes"));
        assert_eq!(refusal("t", &"t".repeat(249), &["t"]), "");
    }

    #[test]
    fn each_missing_right_is_named() {
        let missing = |read, write| missing_right(Rights { read, write }).unwrap_or_default();
        assert_eq!(missing(true, true), "");
        assert!(missing(true, false).contains("WRITE") && !missing(true, false).contains("READ"));
        assert!(missing(false, true).contains("READ") && !missing(false, true).contains("WRITE"));
        assert!(missing(false, false).contains("READ") && missing(false, false).contains("WRITE"));
    }

    #[test]
    fn too_few_partitions_are_told_by_both_numbers() {
        let layout = |partitions| Layout { partitions, replicas: 1 };
        let problem = too_few_partitions("t", layout(4), layout(1)).unwrap();
        assert!(problem.contains("has 1 partition") && problem.contains("`t` has 4"), "{problem}");
        assert!(problem.contains("`dead_letter.partition`"), "{problem}");
        assert_eq!(too_few_partitions("t", layout(4), layout(4)), None);
        assert_eq!(too_few_partitions("t", layout(4), layout(5)), None);
    }

    #[test]
    fn a_limit_that_is_too_small_is_told_with_the_number_to_set() {
        let told = |size: &Size| match size {
            Size::TooSmall(problem) | Size::Unlikely(problem) => {
                problem.contains("65636") && problem.contains("65536 bytes too few")
            }
            Size::Enough => false,
        };
        let own = size("t", 100, 100, true);
        assert!(matches!(own, Size::TooSmall(_)) && told(&own), "{own:?}");
        let of_brokers = size("t", 100, 100, false);
        assert!(matches!(of_brokers, Size::Unlikely(_)) && told(&of_brokers), "{of_brokers:?}");
        assert!(matches!(size("t", 99, 100, false), Size::TooSmall(_)));
        assert!(matches!(size("t", 100 + NEEDED_HEADERS, 100, true), Size::Unlikely(_)));
        assert_eq!(size("t", 100 + HEADER_ROOM, 100, true), Size::Enough);
    }
}

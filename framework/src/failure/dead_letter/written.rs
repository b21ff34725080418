//! Finds the dead letters that a former owner has written, so that none is written twice.
//!
//! A process that is killed between the acknowledgement of a copy and the commit of
//! its record's offset leaves both: the next owner gets the record again, gives it
//! up again, and would write a second copy. So before its first letter to a topic,
//! an owner reads the letters there that are not older than the record, and reads on after a copy
//! that was not acknowledged, since the broker may have it.
//!
//! An owner that was cut off and does not know it yet may write meanwhile. So an owner of a
//! partition that somebody has had before waits a little before its first letter, unless that one has
//! noted beside the committed offset that it has left: it does so with its last commit, if none of its
//! letters was under way or in doubt. Before its own first letter an owner has that note overwritten,
//! so that it says nothing to the next one.

use super::headers::{
    GROUP, HANDLER, LAST_GROUP, LAST_HANDLER, LAST_OFFSET, LAST_PARTITION, LAST_TIMESTAMP, LAST_TOPIC,
    OFFSET, PARTITION, TIMESTAMP, TOPIC,
};
use super::{Letter, refusal};
use crate::Record;
use crate::base::sync::lock;
use crate::config::Resolved;
use crate::kafka::client::{KafkaError, RDKafkaErrorCode};
use crate::kafka::look::Progress;
use crate::kafka::producer::ProduceError;
use crate::kafka::topics;
use crate::record::source::Source;
use crate::record::written::{Letters, LookedInto, Written};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::RwLock;

/// How long one attempt at a letter reads; the next one goes on from there.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// How far apart the clocks of those who write records and letters may be.
const CLOCKS_APART: i64 = 60 * 60 * 1000;

/// An owner that was cut off may not know yet that it is none, for as long as a heartbeat
/// takes, and what it writes then stands in its queue for up to
/// [`COPIED_WITHIN`](super::COPIED_WITHIN). No fence stops a producer.
const HEARTBEAT: Duration = Duration::from_secs(4);

/// What a look into a dead-letter topic says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A copy of it is there.
    Copy,
    NoCopy,
    /// There is no such topic.
    NoTopic,
}

/// Of a partition that somebody has had before.
pub(crate) fn after_another() -> Written {
    Written::settled_at(Instant::now() + HEARTBEAT + super::COPIED_WITHIN)
}

/// Looks for a copy of this record, in what was there when the first was looked for
/// and nothing was `under_way` any more.
///
/// # Errors
/// Where the topic cannot be read, or is not read to its end yet.
pub(super) async fn find(
    config: &Resolved,
    name: &str,
    letter: &Letter<'_>,
    source: &Source,
    under_way: &RwLock<()>,
) -> Result<Found, ProduceError> {
    let mut looked_into = source.written.looked_into.lock().await;
    let topic = looked_into.entry(name.to_owned()).or_default();
    reach_back_to(topic, letter.record);
    if !topic.is_complete {
        match read(topic, config, name, source, under_way).await {
            Ok(Progress::Done) => topic.is_complete = true,
            Ok(Progress::Left(_)) => return Err(refusal::still_reading(name)),
            Err(error) if is_unknown(&error) => {
                looked_into.remove(name);
                return Ok(Found::NoTopic);
            }
            Err(error) => return Err(refusal::cannot_read(name, error)),
        }
    }
    let original = (letter.handler.to_owned(), letter.record.offset(), letter.record.timestamp());
    let is_there = lock(&topic.letters).originals.contains(&original);
    Ok(if is_there { Found::Copy } else { Found::NoCopy })
}

/// Has the next look read on in the topic.
pub(super) async fn forget(written: &Written, topic: &str) {
    if let Some(topic) = written.looked_into.lock().await.get_mut(topic) {
        topic.is_complete = false;
    }
}

/// Sees to it that letters of this record are among those that are read.
fn reach_back_to(topic: &mut LookedInto, record: Record<'_>) {
    if topic.from.is_some_and(|from| from <= record.offset()) {
        return;
    }
    let is_first = topic.from.replace(record.offset()).is_none();
    let since = record.timestamp().map(|written| written.min(now()).saturating_sub(CLOCKS_APART));
    let mut letters = lock(&topic.letters);
    let is_older = letters.look.since().is_some_and(|read| since.is_none_or(|since| since < read));
    if is_first || is_older {
        letters.look.begin_anew(since);
        topic.is_complete = false;
    }
}

/// Reads for a while.
async fn read(
    topic: &LookedInto,
    config: &Resolved,
    name: &str,
    source: &Source,
    under_way: &RwLock<()>,
) -> Result<Progress, KafkaError> {
    if !lock(&topic.letters).look.is_under_way() {
        // A partition that comes back soon may have left a copy in our own queue.
        drop(under_way.write().await);
    }
    let (config, name, letters) = (config.clone(), name.to_owned(), topic.letters.clone());
    let (partition, group) = (source.partition.clone(), source.group.clone());
    let read = move || {
        let Letters { look, originals } = &mut *lock(&letters);
        look.go_on(&config, (&name, &group), READ_WITHIN, |headers| {
            let place = Place::of(headers);
            let is_from_here = place.topic == Some(partition.topic())
                && place.partition == Some(i64::from(partition.partition()))
                && place.group == Some(&*group);
            if let (true, Some(offset)) = (is_from_here, place.offset) {
                originals.insert((place.handler.unwrap_or_default().to_owned(), offset, place.timestamp));
            }
        })
    };
    topics::blocking(read).await.unwrap_or(Err(KafkaError::Canceled))
}

/// Where the record died last of which a letter is the copy.
#[derive(Debug, PartialEq, Eq)]
struct Place<'h> {
    topic: Option<&'h str>,
    partition: Option<i64>,
    offset: Option<i64>,
    timestamp: Option<i64>,
    group: Option<&'h str>,
    handler: Option<&'h str>,
}

impl<'h> Place<'h> {
    fn of(headers: &[(&'h [u8], Option<&'h [u8]>)]) -> Self {
        let text = |name: &str| {
            let (_, value) = headers.iter().rev().find(|(header, _)| *header == name.as_bytes())?;
            std::str::from_utf8((*value)?).ok()
        };
        let number = |name| text(name)?.parse().ok();
        let [topic, partition, offset, timestamp, group, handler] = match text(LAST_TOPIC) {
            None => [TOPIC, PARTITION, OFFSET, TIMESTAMP, GROUP, HANDLER],
            Some(_) => [LAST_TOPIC, LAST_PARTITION, LAST_OFFSET, LAST_TIMESTAMP, LAST_GROUP, LAST_HANDLER],
        };
        Self {
            topic: text(topic),
            partition: number(partition),
            offset: number(offset),
            timestamp: number(timestamp),
            group: text(group),
            handler: text(handler),
        }
    }
}

/// Milliseconds since the epoch.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

fn is_unknown(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    matches!(error.rdkafka_error_code(), Some(UnknownTopic | UnknownTopicOrPartition | UnknownPartition))
}

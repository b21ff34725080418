//! Finds the dead letters that an owner before has written, so that none is written
//! twice.
//!
//! A process that is killed between the acknowledgement of a copy and the commit of
//! its record's offset leaves both: the next owner gets the record again, gives it
//! up again, and would write a second copy. So before its first letter to a topic,
//! an owner reads the newest ones there: those of records that are not committed are
//! among them. It reads them again after a copy that was not acknowledged, since the
//! broker may have it.
//!
//! An owner that was cut off and does not know it yet may write meanwhile. So an owner of a
//! partition that somebody has had before waits a little before its first letter.

use super::Letter;
use super::headers::{GROUP, HANDLER, OFFSET, PARTITION, TIMESTAMP, TOPIC};
use crate::config::Resolved;
use crate::run::Source;
use crate::topics::{self, REQUEST};
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::Offset;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, RwLock};

/// How many of the newest letters of each partition are read.
const NEWEST: i64 = 10_000;
/// How long reading them may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The dead letters of one assigned partition that are there already, a set for each
/// topic that was looked into.
#[derive(Debug, Default)]
pub(crate) struct Written {
    looked_into: Mutex<HashMap<String, HashSet<Original>>>,
    /// Until then an owner before may still write.
    settled: Option<Instant>,
}

/// An owner that was cut off may not know yet that it is none, for as long as a heartbeat
/// takes, and what it writes then stands in its queue for up to
/// [`COPIED_WITHIN`](super::COPIED_WITHIN). No fence stops a producer.
const HEARTBEAT: Duration = Duration::from_secs(4);

/// What tells one original from another: handler, offset and timestamp.
type Original = (String, i64, Option<i64>);

/// What a look into a dead-letter topic says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A copy of it is there.
    Copy,
    NoCopy,
    /// There is no such topic.
    NoTopic,
}

impl Written {
    /// Of a partition that somebody has had before.
    pub(crate) fn after_another() -> Self {
        let settled = Some(Instant::now() + HEARTBEAT + super::COPIED_WITHIN);
        Self { settled, ..Self::default() }
    }

    /// How long to wait before the first letter.
    pub(super) fn unsettled_for(&self) -> Option<Duration> {
        self.settled?.checked_duration_since(Instant::now())
    }

    /// Looks for a copy of this record, in what was there when the first was looked for
    /// and nothing was `under_way` any more.
    pub(super) async fn find(
        &self,
        config: &Resolved,
        topic: &str,
        letter: &Letter<'_>,
        under_way: &RwLock<()>,
    ) -> Result<Found, KafkaError> {
        let mut looked_into = self.looked_into.lock().await;
        if !looked_into.contains_key(topic) {
            // A partition that comes back soon may have left a copy in our own queue.
            drop(under_way.write().await);
            match look_into(config, topic, letter.record.source()).await {
                Ok(found) => looked_into.insert(topic.to_owned(), found),
                Err(error) if is_unknown(&error) => return Ok(Found::NoTopic),
                Err(error) => return Err(error),
            };
        }
        let original = (letter.handler.to_owned(), letter.record.offset(), letter.record.timestamp());
        Ok(if looked_into[topic].contains(&original) { Found::Copy } else { Found::NoCopy })
    }

    /// Has the next look read the topic again.
    pub(super) async fn forget(&self, topic: &str) {
        self.looked_into.lock().await.remove(topic);
    }
}

async fn look_into(config: &Resolved, topic: &str, source: &Source) -> Result<HashSet<Original>, KafkaError> {
    let partitions = topics::partitions(config, topic).await?;
    let (config, topic) = (config.clone(), topic.to_owned());
    let (source, group) = (source.partition.clone(), source.group.clone());
    let read = move || {
        let mut found = HashSet::new();
        read_newest(&config, &topic, partitions, |letter| {
            let from_here = text(letter, TOPIC) == Some(source.topic())
                && number(letter, PARTITION) == Some(i64::from(source.partition()))
                && text(letter, GROUP) == Some(&*group);
            if let (true, Some(offset)) = (from_here, number(letter, OFFSET)) {
                let handler = text(letter, HANDLER).unwrap_or_default().to_owned();
                found.insert((handler, offset, number(letter, TIMESTAMP)));
            }
        })?;
        Ok(found)
    };
    topics::blocking(read).await.unwrap_or(Err(KafkaError::Canceled))
}

fn is_unknown(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    matches!(error.rdkafka_error_code(), Some(UnknownTopic | UnknownTopicOrPartition | UnknownPartition))
}

/// Its polls return what goes wrong, so nobody else has to say it: the end of a partition is
/// among that.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}

fn read_newest(
    config: &Resolved,
    topic: &str,
    partitions: i32,
    mut take: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), KafkaError> {
    let mut client = config.client();
    // Its one-by-one reads do not have the trouble with these that batches have.
    client.set("enable.partition.eof", "true").set("group.id", "onceward").set("enable.auto.commit", "false");
    let client: BaseConsumer<Quiet> = client.create_with_context(Quiet)?;
    let mut list = TopicPartitionList::new();
    let mut open = 0;
    for partition in 0..partitions {
        let (low, high) = client.fetch_watermarks(topic, partition, REQUEST)?;
        if low < high {
            list.add_partition_offset(topic, partition, Offset::Offset(low.max(high - NEWEST)))?;
            open += 1;
        }
    }
    client.assign(&list)?;
    let until = Instant::now() + LIMIT;
    while open > 0 {
        match client.poll(Duration::from_millis(100)) {
            Some(Ok(letter)) => take(&letter),
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error),
            None if Instant::now() > until => {
                return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut));
            }
            None => {}
        }
    }
    Ok(())
}

fn text<'m>(letter: &'m BorrowedMessage<'_>, name: &str) -> Option<&'m str> {
    let headers = letter.headers()?;
    let header = (0..headers.count()).map(|at| headers.get(at)).find(|header| header.key == name)?;
    std::str::from_utf8(header.value?).ok()
}

fn number(letter: &BorrowedMessage<'_>, name: &str) -> Option<i64> {
    text(letter, name)?.parse().ok()
}

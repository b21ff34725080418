//! Reads a dead-letter topic up to where it ends now, a piece at a time.
//!
//! What was read stays read: a look that takes long goes on where it was, and one that is done
//! reads on from there when it is asked again.

use super::client_config::ClientSettings as _;
use super::message::header_of;
use crate::config::Resolved;
use crate::error::trouble::Rarely;
use crate::kafka::topics::REQUEST;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::Offset;
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How many of the newest letters of each partition are read at most.
const NEWEST: i64 = 10_000;

/// A look into one dead-letter topic.
#[derive(Default)]
pub(crate) struct Look {
    /// The letters that are read are not older, in milliseconds since the epoch.
    since: Option<i64>,
    /// Behind the last letter that was read, or was left out, of each partition.
    read_to: HashMap<i32, i64>,
    /// The partitions that are not read to their end, with where that was at first.
    open: Open,
    /// While it reads. A new one would wait for its broker's quota anew each time.
    client: Option<BaseConsumer<Quiet>>,
    said: Rarely,
}

/// Whether a look has read all there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Done,
    /// So many letters are left to read.
    Left(i64),
}

impl Look {
    /// The oldest letters that it reads, in milliseconds since the epoch; `None` for all.
    pub(crate) fn since(&self) -> Option<i64> {
        self.since
    }

    /// Whether it has begun, and knows how far to read.
    pub(crate) fn is_under_way(&self) -> bool {
        self.client.is_some()
    }

    /// Has it read again, from these letters on.
    pub(crate) fn begin_anew(&mut self, since: Option<i64>) {
        *self = Self::default();
        self.since = since;
    }

    /// Reads for at most this long, unless it is done sooner. `group` is one that this user may read
    /// in: librdkafka assigns no partitions without a group, and asks for its coordinator. It is never joined.
    pub(crate) fn go_on(
        &mut self,
        config: &Resolved,
        (topic, group): (&str, &str),
        within: Duration,
        mut take: impl FnMut(&[(&[u8], Option<&[u8]>)]),
    ) -> KafkaResult<Progress> {
        if self.client.is_none() {
            let client = reader(config, group)?;
            self.plan(&client, topic)?;
            self.client = Some(client);
        }
        let (until, mut failed) = (Instant::now() + within, None);
        while let (Some(client), false) = (&self.client, self.open.is_empty()) {
            match client.poll(Duration::from_millis(100)) {
                Some(Ok(letter)) => {
                    guarded(&letter, &mut take);
                    self.read_to.insert(letter.partition(), letter.offset() + 1);
                    if self.open.read(letter.partition(), letter.offset()) {
                        pause(client, topic, letter.partition());
                    }
                    failed = None;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => self.open.ended(partition),
                Some(Err(error)) if is_final(&error) => {
                    self.client = None;
                    return Err(error);
                }
                // A broker that is away for a moment: librdkafka goes on by itself.
                Some(Err(error)) => failed = Some(error),
                None => {}
            }
            if Instant::now() >= until {
                break;
            }
        }
        if let (Some(error), false) = (failed, self.open.is_empty()) {
            return Err(error);
        }
        Ok(self.progress(topic))
    }

    fn progress(&mut self, topic: &str) -> Progress {
        if self.open.is_empty() {
            self.client = None;
            return Progress::Done;
        }
        let left = self.open.left(&self.read_to);
        if self.said.count().is_some() {
            tracing::info!(
                topic,
                left,
                "reading the dead-letter topic before the first letter is written to it"
            );
        }
        Progress::Left(left)
    }

    /// Finds out which letters are to be read.
    fn plan(&mut self, client: &BaseConsumer<Quiet>, topic: &str) -> KafkaResult<()> {
        let metadata = client.fetch_metadata(Some(topic), REQUEST)?;
        let Some(found) = metadata.topics().first() else { return Ok(()) };
        if let Some(error) = found.error() {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        let partitions: Vec<i32> = found.partitions().iter().map(|partition| partition.id()).collect();
        let since = self.offsets_since(client, topic, &partitions)?;
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            let (low, high) = client.fetch_watermarks(topic, partition, REQUEST)?;
            let read_to = self.read_to.get(&partition).copied();
            let first = first_to_read((low, high), since.get(&partition).copied(), read_to);
            if first < high {
                list.add_partition_offset(topic, partition, Offset::Offset(first))?;
                self.open.add(partition, high);
            }
            self.read_to.insert(partition, first);
        }
        client.assign(&list)
    }

    /// The first offset of each partition whose letter is not older than `since`; `None` where
    /// there is none.
    fn offsets_since(
        &self,
        client: &BaseConsumer<Quiet>,
        topic: &str,
        partitions: &[i32],
    ) -> KafkaResult<HashMap<i32, Option<i64>>> {
        let Some(since) = self.since.filter(|since| *since > 0) else { return Ok(HashMap::new()) };
        let mut times = TopicPartitionList::new();
        for partition in partitions {
            times.add_partition_offset(topic, *partition, Offset::Offset(since))?;
        }
        let found = client.offsets_for_times(times, REQUEST)?;
        let offset = |offset: Offset| match offset {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        found
            .elements()
            .iter()
            .map(|element| element.error().map(|()| (element.partition(), offset(element.offset()))))
            .collect()
    }
}

impl Drop for Look {
    /// A consumer takes its time to close, and this may be the thread that serves the group.
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            let closing = std::thread::Builder::new().name("onceward-close".to_owned());
            // Without a thread, it is closed here.
            let _ = closing.spawn(|| drop(client));
        }
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Look({:?})", self.open)
    }
}

/// The first offset that is read of a partition with these ends. `since` is where the letters begin that
/// are young enough, if that was asked for, and `None` in it if there are none.
fn first_to_read((low, high): (i64, i64), since: Option<Option<i64>>, read_to: Option<i64>) -> i64 {
    let since = since.map_or(low, |since| since.unwrap_or(high));
    // Beyond the end: the topic was made anew.
    let read_to = read_to.filter(|read_to| *read_to <= high).unwrap_or(low);
    low.max(high - NEWEST).max(since).max(read_to)
}

/// Partitions that are not read to their end yet.
#[derive(Debug, Default)]
struct Open(HashMap<i32, i64>);

impl Open {
    fn add(&mut self, partition: i32, end: i64) {
        self.0.insert(partition, end);
    }

    /// Notes that a letter was read; `true` where it is the last of its partition.
    fn read(&mut self, partition: i32, offset: i64) -> bool {
        let is_last = self.0.get(&partition).is_some_and(|end| offset + 1 >= *end);
        is_last && self.0.remove(&partition).is_some()
    }

    /// Notes that the broker has no more of a partition: offsets at its end may never be delivered.
    /// It says so anew whenever there were more letters meanwhile.
    fn ended(&mut self, partition: i32) {
        self.0.remove(&partition);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn left(&self, read_to: &HashMap<i32, i64>) -> i64 {
        let left = |(partition, end): (&i32, &i64)| end - read_to.get(partition).copied().unwrap_or(*end);
        self.0.iter().map(left).sum()
    }
}

/// Its polls return what goes wrong, so nobody else has to say it: the end of a partition is
/// among that.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}

fn reader(config: &Resolved, group: &str) -> KafkaResult<BaseConsumer<Quiet>> {
    let mut client = config.client();
    // A replica may be behind, and say that its end is that of the partition.
    client.remove("client.rack");
    client
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        // Its one-by-one reads do not have the trouble with these that batches have.
        .set("enable.partition.eof", "true")
        // What retention deletes meanwhile is left out, and nothing else.
        .set("auto.offset.reset", "earliest")
        // A transaction of another producer that stays open must not hide letters behind it.
        .set("isolation.level", "read_uncommitted")
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.queue.backoff.ms", "10");
    client.create_with_context(Quiet)
}

fn pause(client: &BaseConsumer<Quiet>, topic: &str, partition: i32) {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    // Without it, more is read than is needed.
    let _ = client.pause(&list);
}

/// Whether waiting does not help.
fn is_final(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{Fatal, GroupAuthorizationFailed, TopicAuthorizationFailed};
    use RDKafkaErrorCode::{UnknownPartition, UnknownTopic, UnknownTopicOrPartition};
    let code = error.rdkafka_error_code();
    matches!(code, Some(Fatal | GroupAuthorizationFailed | TopicAuthorizationFailed))
        || matches!(code, Some(UnknownPartition | UnknownTopic | UnknownTopicOrPartition))
}

/// Hands over the headers of a letter. Anybody may write to the topic: no letter may keep the others
/// from being read.
fn guarded(letter: &BorrowedMessage<'_>, take: &mut impl FnMut(&[(&[u8], Option<&[u8]>)])) {
    let Some(headers) = letter.headers() else { return };
    let all: Vec<_> = (0..).map_while(|index| header_of(headers, index)).collect();
    if catch_unwind(AssertUnwindSafe(|| take(&all))).is_err() {
        tracing::warn!(
            partition = letter.partition(),
            offset = letter.offset(),
            "a letter cannot be read; it is left out"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_is_young_enough_and_was_not_read_before() {
        assert_eq!(first_to_read((3, 50_000), None, None), 40_000, "the newest");
        assert_eq!(first_to_read((3, 50), None, None), 3);
        assert_eq!(first_to_read((3, 50_000), Some(Some(49_000)), None), 49_000);
        assert_eq!(first_to_read((3, 50_000), Some(None), None), 50_000, "none is young enough");
        assert_eq!(first_to_read((3, 50), Some(Some(7)), Some(20)), 20);
        assert_eq!(first_to_read((30, 50), Some(Some(7)), Some(20)), 30, "retention went on");
        assert_eq!(first_to_read((0, 5), Some(Some(0)), Some(20)), 0, "the topic was made anew");
    }

    #[test]
    fn a_partition_that_grows_meanwhile_does_not_end_the_reading_of_another() {
        let mut open = Open::default();
        open.add(0, 3);
        open.add(1, 3);
        // It gets letters all the time, and its end is told anew behind each.
        for offset in 2..9 {
            open.read(0, offset);
            open.ended(0);
        }
        assert!(!open.is_empty());
        assert_eq!(open.left(&HashMap::from([(1, 1)])), 2);
        assert!(!open.read(1, 1));
        assert!(open.read(1, 2), "its last");
        assert!(open.is_empty());
    }
}

//! Gets partitions that seem to lag behind nothing, closes the hole at their end.
//!
//! Transaction markers, aborted records and compaction leave offsets that are never
//! delivered. Behind the last record they would count as lag for ever. librdkafka
//! tells of the end of a partition by an event, but in 2.12.1 a batch read that meets
//! it moves the position one too far, and the next rebalance goes on from there: past
//! a record, or out of range (librdkafka #4844). So another consumer looks, which is
//! in no group, and only where something lags while nothing comes.

use crate::partition::Partition;
use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::Offset;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How long a partition must have stood still, and how often is looked.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A partition in which nothing is in flight, and that has more offsets than were
/// delivered.
#[derive(Debug, Clone)]
pub(crate) struct Tail {
    pub(crate) partition: Arc<Partition>,
    /// All below is finished.
    pub(crate) from: i64,
}

/// Looks for holes behind the last records of a group's partitions.
#[derive(Debug)]
pub(crate) struct Tails {
    config: ClientConfig,
    runtime: Handle,
    next: Instant,
    /// What stood still at the last look.
    still: HashMap<(String, i32), i64>,
    busy: Arc<AtomicBool>,
}

impl Tails {
    /// Takes the settings of the group's consumer, for the same view of the records.
    pub(crate) fn new(consumer: &ClientConfig, runtime: Handle) -> Self {
        let mut config = consumer.clone();
        for name in ["group.instance.id", "group.protocol", "partition.assignment.strategy"] {
            config.remove(name);
        }
        let next = Instant::now() + INTERVAL;
        Self { config, runtime, next, still: HashMap::new(), busy: Arc::default() }
    }

    /// Closes the holes of partitions that stood still since the last look.
    pub(crate) fn look(&mut self, lagging: impl FnOnce() -> Vec<Tail>) {
        if Instant::now() < self.next || self.busy.load(Ordering::Acquire) {
            return;
        }
        self.next = Instant::now() + INTERVAL;
        let lagging = lagging();
        let name = |tail: &Tail| {
            let source = &tail.partition.source.partition;
            (source.topic().to_owned(), source.partition())
        };
        let stood_still: Vec<Tail> =
            lagging.iter().filter(|tail| self.still.get(&name(tail)) == Some(&tail.from)).cloned().collect();
        self.still = lagging.iter().map(|tail| (name(tail), tail.from)).collect();
        if stood_still.is_empty() {
            return;
        }
        self.busy.store(true, Ordering::Release);
        let (config, busy) = (self.config.clone(), self.busy.clone());
        self.runtime.spawn_blocking(move || {
            for tail in stood_still {
                if let Err(error) = close(&config, &tail) {
                    tracing::debug!(source = %tail.partition.source.partition, %error, "cannot look behind the last record yet");
                }
            }
            busy.store(false, Ordering::Release);
        });
    }
}

/// Reads from where the partition stands; if its end comes before any record, there
/// is only a hole.
fn close(config: &ClientConfig, tail: &Tail) -> KafkaResult<()> {
    let source = &tail.partition.source.partition;
    let consumer: BaseConsumer = config.clone().set("enable.partition.eof", "true").create()?;
    // What is read may end later than this, but not earlier.
    let (_, end) = consumer.fetch_watermarks(source.topic(), source.partition(), LIMIT)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(source.topic(), source.partition(), Offset::Offset(tail.from))?;
    consumer.assign(&list)?;
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Err(KafkaError::PartitionEOF(_))) => {
                tail.partition.offsets().close_hole(tail.from, end);
                return Ok(());
            }
            // A record after all: the group's consumer gets it too.
            Some(Ok(_)) => return Ok(()),
            Some(Err(_)) | None => {}
        }
    }
    Ok(())
}

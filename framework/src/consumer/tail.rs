//! Closes the offset gap at the end of a partition: offsets that will never be delivered would
//! count as lag.
//!
//! Transaction markers, aborted records and compaction leave offsets that are never
//! delivered. Behind the last record they would count as lag for ever. librdkafka
//! tells of the end of a partition by an event, but in 2.12.1 a batch read that meets
//! it moves the position one too far, and the next rebalance goes on from there: past
//! a record, or out of range (librdkafka #4844). So another consumer looks, which is
//! in no group, and only where something lags while nothing comes.

use crate::kafka::client::{BaseConsumer, ClientConfig, Consumer, KafkaResult, Offset, TopicPartitionList};
use crate::kafka::offsets;
use crate::kafka::offsets::Next;
use crate::worker::shared::Partition;
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
/// is only a hole up to that end. The leader may have more than the follower that answers.
fn close(config: &ClientConfig, tail: &Tail) -> KafkaResult<()> {
    let source = &tail.partition.source.partition;
    if let Some(end) = empty_until(config, source.topic(), source.partition(), tail.from)? {
        tail.partition.offsets().close_hole(tail.from, end);
    }
    Ok(())
}

/// The end of a partition, if no record lies between it and `from`. `None` where there is one,
/// or no answer.
fn empty_until(config: &ClientConfig, topic: &str, partition: i32, from: i64) -> KafkaResult<Option<i64>> {
    let consumer: BaseConsumer = config.clone().set("enable.partition.eof", "true").create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(from))?;
    consumer.assign(&list)?;
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        match offsets::read_next(&consumer, Duration::from_millis(100)) {
            Next::End(end) => return Ok(Some(end)),
            // The group's consumer gets it too.
            Next::Record => return Ok(None),
            Next::Nothing => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    #[test]
    fn only_what_was_read_as_absent_is_absent_also_where_a_follower_answers_that_is_behind() {
        let cluster = MockCluster::new(2).unwrap();
        cluster.create_topic("t", 1, 2).unwrap();
        cluster.partition_leader("t", 0, Some(1)).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers());
        let producer: BaseProducer = config.create().unwrap();
        for _ in 0..3 {
            producer.send(BaseRecord::<str, str>::to("t").payload("x")).unwrap();
            producer.flush(LIMIT).unwrap();
        }
        cluster.partition_follower("t", 0, 2).unwrap();
        cluster.follower_watermarks("t", 0, Some(0), Some(1)).unwrap();
        // The mock's follower gives the leader's last stable offset.
        config.set("isolation.level", "read_uncommitted").set("group.id", "g").set("client.rack", "r");
        let (_, leaders_end) =
            config.create::<BaseConsumer>().unwrap().fetch_watermarks("t", 0, LIMIT).unwrap();
        assert_eq!(leaders_end, 3);
        assert_eq!(empty_until(&config, "t", 0, 1).unwrap(), Some(1));
        cluster.follower_watermarks("t", 0, Some(0), None).unwrap();
        assert_eq!(empty_until(&config, "t", 0, 1).unwrap(), None);
    }
}

//! Kafka in this process.

use super::{InMemoryRecord, TestRecord, read};
use crate::config::{Config, DeadLetterConfig, GroupProtocol};
use crate::kafka::client::{
    BaseConsumer, ClientConfig, Consumer, DeliveryFuture, FutureProducer, KafkaError, KafkaResult, Offset,
    Producer, RDKafkaErrorCode, RDKafkaLogLevel, TopicPartitionList,
};
use crate::{App, Error};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long one request may take. It only costs time where the broker is gone.
const REQUEST: Duration = Duration::from_secs(10);

/// How often [`TestBroker::caught_up`] looks.
const LOOK: Duration = Duration::from_millis(20);

/// A Kafka broker in this process, on a free port of 127.0.0.1: nothing to install, started at
/// once, gone when dropped.
///
/// It is librdkafka's mock cluster. It speaks Kafka's protocol and knows consumer groups and
/// committed offsets, which is enough for a demo, an example, and a quick test of a handler
/// with retries, order and commits.
///
/// It is **not Kafka**: test your own promises with a real one. The differences:
///
/// - Nothing is written to disk. A partition keeps its newest 5 MB and drops what
///   is older without a word; there is no retention or compaction to set.
/// - There are no admin requests, permissions, passwords or TLS. So neither a
///   topic's retention nor its dead-letter topic can be looked at, and [`app`](Self::app) turns
///   these checks off. Make the dead-letter topic with [`topic`](Self::topic).
/// - Transactions of producers are accepted, but `read_committed` hides nothing.
/// - Groups of the classic protocol take from 3 s to a whole session timeout to
///   form. [`app`](Self::app) uses KIP-848, whose first member has its partitions
///   at once; a second member gets its share within 3 s.
/// - It takes commits that Kafka refuses, and refuses some that Kafka takes.
/// - A fetch that finds nothing is not woken by new records, and brings one batch
///   of a partition: its speed says nothing.
///
/// # Example
///
/// ```
/// use onceward::prelude::*;
/// use onceward::testing::{TestBroker, TestRecord, run_until};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// #[handler(topic = "flights", group = "miles")]
/// async fn on_flight(Json(distance): Json<u64>, miles: State<Arc<AtomicU64>>) -> HandlerResult {
///     miles.fetch_add(distance, Relaxed);
///     Ok(())
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let broker = TestBroker::start()?;
/// broker.topic("flights", 3)?;
/// broker.produce("flights", [TestRecord::new("1400"), TestRecord::new("1416")]).await?;
///
/// let miles = Arc::new(AtomicU64::new(0));
/// let app = broker.app().state(miles.clone()).handler(on_flight {});
/// run_until(app, broker.caught_up("miles", "flights")).await?;
/// assert_eq!(miles.load(Relaxed), 2816);
/// # Ok::<(), onceward::Error>(())
/// # }).unwrap();
/// ```
pub struct TestBroker {
    /// Has the mock cluster inside, which ends with it.
    producer: FutureProducer,
    brokers: String,
}

impl TestBroker {
    /// Starts it.
    ///
    /// # Errors
    /// If no port can be opened.
    pub fn start() -> Result<Self, Error> {
        let failed = |source| failed("start the embedded broker", "127.0.0.1", source);
        let producer: FutureProducer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            // Java's partitioner, which all clients can use.
            .set("partitioner", "murmur2_random")
            .set_log_level(RDKafkaLogLevel::Warning)
            .create()
            .map_err(failed)?;
        let brokers = producer
            .client()
            .mock_cluster()
            .ok_or_else(|| failed(KafkaError::MockCluster(RDKafkaErrorCode::Fail)))?
            .bootstrap_servers();
        Ok(Self { producer, brokers })
    }

    /// Its address, as `host:port`.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    #[cfg(test)]
    pub(crate) fn cluster(
        &self,
    ) -> rdkafka::mocking::MockCluster<'_, impl rdkafka::producer::ProducerContext> {
        self.producer.client().mock_cluster().expect("made with one")
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// If it exists already, or its name is not legal.
    pub fn topic(&self, name: &str, partitions: i32) -> Result<(), Error> {
        let cluster = self.producer.client().mock_cluster().expect("made with one");
        cluster
            .create_topic(name, partitions, 1)
            .map_err(|source| self.failed(&format!("make the topic `{name}`"), source))
    }

    /// Settings with which an application begins to handle within a second: the broker's
    /// address, the group protocol that forms a group at once, and short waits.
    pub fn config(&self) -> Config {
        Config {
            brokers: Some(self.brokers.clone()),
            group_protocol: Some(GroupProtocol::Consumer),
            // An empty fetch sleeps for so long, whatever arrives meanwhile.
            kafka: [("fetch.wait.max.ms".to_owned(), "10".to_owned())].into(),
            commit_interval: Some(Duration::from_millis(50)),
            dedupe_window_shorter_than_retention: Some(true),
            dead_letter: DeadLetterConfig { check: Some(false), ..Default::default() },
            ..Config::default()
        }
    }

    /// An application with the settings of [`config`](Self::config).
    pub fn app(&self) -> App {
        App::new().config(self.config())
    }

    /// Produces records in this order, and waits until all are acknowledged.
    ///
    /// # Errors
    /// If one is not acknowledged.
    pub async fn produce(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = TestRecord>,
    ) -> Result<(), Error> {
        let failed = |source| self.failed(&format!("produce to the topic `{topic}`"), source);
        let mut under_way = VecDeque::new();
        for record in records {
            let mut next = record.to(topic);
            loop {
                match self.producer.send_result(next) {
                    Ok(delivery) => break under_way.push_back(delivery),
                    Err((error, unsent)) => {
                        let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                        let Some(oldest) = under_way.pop_front().filter(|_| full) else {
                            return Err(failed(error));
                        };
                        acknowledged(oldest).await.map_err(failed)?;
                        next = unsent;
                    }
                }
            }
        }
        for delivery in under_way {
            acknowledged(delivery).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Waits until a group has committed all records of a topic, however long that takes.
    ///
    /// # Errors
    /// If the topic does not exist.
    pub async fn caught_up(&self, group: &str, topic: &str) -> Result<(), Error> {
        let failed = |source| self.failed(&format!("look up what `{group}` did of `{topic}`"), source);
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", group)
            .create()
            .map_err(failed)?;
        let (consumer, topic) = (Arc::new(consumer), topic.to_owned());
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let (consumer, topic) = (consumer.clone(), topic.clone());
            let looked = tokio::task::spawn_blocking(move || has_all(&consumer, &topic)).await;
            let looked = looked.map_err(|source| Error::Internal {
                what: "looking up committed offsets".into(),
                source: source.into(),
            })?;
            if looked.map_err(failed)? {
                return Ok(());
            }
        }
    }

    /// Returns the records that stand in a topic, partition by partition, in order: what a handler has
    /// published, or the dead letters of one.
    ///
    /// # Errors
    /// Where the topic is not there.
    pub async fn records(&self, topic: &str) -> Result<Vec<InMemoryRecord>, Error> {
        let (brokers, name) = (self.brokers.clone(), topic.to_owned());
        let read = tokio::task::spawn_blocking(move || read::all(&brokers, &name, REQUEST)).await;
        let read =
            read.map_err(|source| Error::Internal { what: "reading a topic".into(), source: source.into() })?;
        read.map_err(|source| self.failed(&format!("read the topic `{topic}`"), source))
    }

    fn failed(&self, action: &str, source: KafkaError) -> Error {
        failed(action, &self.brokers, source)
    }
}

impl fmt::Debug for TestBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TestBroker({})", self.brokers)
    }
}

async fn acknowledged(delivery: DeliveryFuture) -> KafkaResult<()> {
    let result = delivery.await.map_err(|_| KafkaError::Canceled)?;
    result.map(|_| ()).map_err(|(error, _)| error)
}

/// Whether the consumer's group has committed all of a topic.
fn has_all(consumer: &BaseConsumer, topic: &str) -> KafkaResult<bool> {
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST)?;
    let found = metadata.topics().first().filter(|found| found.error().is_none());
    let missing = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    let partitions = found.ok_or(missing)?.partitions();
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, partition.id());
    }
    for committed in consumer.committed_offsets(list, REQUEST)?.elements() {
        let (_, end) = consumer.fetch_watermarks(topic, committed.partition(), REQUEST)?;
        if end > 0 && committed.offset() != Offset::Offset(end) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn failed(action: &str, brokers: &str, source: KafkaError) -> Error {
    Error::kafka(action, brokers, source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::batch::Rejected;
    use crate::extract::{Context, RunExt};
    use crate::handler::{Handled, Handler, Settings};
    use crate::testing::run_until;
    use crate::{Delivery, HandlerResult, Outcome, ResultExt, Run};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts records of the topic `t`, in the group `g`.
    struct Count(Arc<AtomicUsize>);

    impl Handler for Count {
        type Args<'a> = ();

        fn settings(&self) -> Settings {
            Settings::new("count").topic("t").group("g")
        }

        fn extract<'a>(&'a self, _: Run<'a>, _: &'a Context) -> Result<(), Rejected> {
            Ok(())
        }

        async fn call<'a, 'r: 'a>(&'a self, (): (), _: Delivery<'a>) -> HandlerResult<Handled> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Handled::All(Outcome::Completed))
        }
    }

    fn records(count: usize) -> impl Iterator<Item = TestRecord> {
        (0..count).map(|n| TestRecord::new(n.to_string()).key((n % 7).to_string()))
    }

    #[tokio::test]
    async fn an_application_handles_all_there_is_and_goes_on_where_it_was() {
        let broker = TestBroker::start().unwrap();
        broker.topic("t", 3).unwrap();
        let handled = Arc::new(AtomicUsize::new(0));
        for total in [1000, 2000] {
            broker.produce("t", records(1000)).await.unwrap();
            let app = broker.app().handler(Count(handled.clone()));
            run_until(app, broker.caught_up("g", "t")).await.unwrap();
            assert_eq!(handled.load(Ordering::Relaxed), total);
        }
    }

    /// Fails for good at what is not a number.
    struct Numbers;

    impl Handler for Numbers {
        type Args<'a> = &'a [u8];

        fn settings(&self) -> Settings {
            Settings::new("numbers").topic("t").group("g")
        }

        fn extract<'a>(&'a self, run: Run<'a>, context: &'a Context) -> Result<&'a [u8], Rejected> {
            run.extract(context)
        }

        async fn call<'a, 'r: 'a>(&'a self, number: &'r [u8], _: Delivery<'a>) -> HandlerResult<Handled> {
            str::from_utf8(number)?.parse::<u32>().permanent()?;
            Ok(Handled::All(Outcome::Completed))
        }
    }

    #[tokio::test]
    async fn what_is_dead_lettered_can_be_read() {
        let broker = TestBroker::start().unwrap();
        broker.topic("t", 3).unwrap();
        broker.topic("t.dlq", 2).unwrap();
        assert!(broker.records("t.dlq").await.unwrap().is_empty());
        broker.produce("t", records(20)).await.unwrap();
        broker.produce("t", [TestRecord::new("x").key("k").header("h", "1")]).await.unwrap();
        run_until(broker.app().handler(Numbers), broker.caught_up("g", "t")).await.unwrap();
        let letters = broker.records("t.dlq").await.unwrap();
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        let letter = letter.record();
        assert_eq!(
            (letter.topic(), letter.key(), letter.payload()),
            ("t.dlq", Some(&b"k"[..]), Some(&b"x"[..]))
        );
        assert_eq!(letter.headers().get_str("h"), Some("1"));
        assert_eq!(letter.headers().get_str("onceward.dlq.topic"), Some("t"));
        let all = broker.records("t").await.unwrap();
        let places = all.iter().map(|record| (record.record().partition(), record.record().offset()));
        assert!(places.clone().is_sorted() && all.len() == 21, "{:?}", places.collect::<Vec<_>>());
        assert!(broker.records("nowhere").await.unwrap_err().to_string().contains("nowhere"));
    }

    #[tokio::test]
    async fn an_application_that_cannot_start_does_not_run_for_ever() {
        let broker = TestBroker::start().unwrap();
        broker.topic("t", 1).unwrap();
        broker.produce("t", records(1)).await.unwrap();
        let ended = run_until(broker.app(), broker.caught_up("g", "t")).await;
        assert!(ended.unwrap_err().to_string().contains("`handlers`"));
    }

    #[tokio::test]
    async fn a_topic_that_was_not_made_is_not_there() {
        let broker = TestBroker::start().unwrap();
        let error = broker.caught_up("g", "nowhere").await.unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}

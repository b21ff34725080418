//! Copies, with a broker in this process: which are there already, and which are still under way.

use super::headers::{GROUP, HANDLER, OFFSET, PARTITION, TOPIC};
use super::*;
use crate::base::drain::Drain;
use crate::error::trouble::Cause;
use crate::kafka::client_config::ClientSettings as _;
use crate::kafka::look::{Look, Progress};
use crate::kafka::message::{Message, OwnedMessage, headers_of};
use crate::record::TopicPartition;
use crate::record::run::RunClock;
use crate::record::source::Source;
use crate::{Config, IDENTITY_HEADER};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

pub(super) fn letter(record: Record<'_>) -> Letter<'_> {
    Letter {
        record,
        group: "g",
        handler: "h",
        reason: Reason::Permanent,
        class: "c",
        message: "m".to_owned(),
        schema: None,
        attempts: 1,
        first_failure: 0,
        identity: IdentitySource::default().of(record),
    }
}

/// The partition is lost and comes back while the copy stands in the producer's queue.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_in_our_own_queue_is_waited_for_before_another_is_written() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t.dlq", 1, 1).unwrap();
    let config = Config { brokers: Some(cluster.bootstrap_servers()), ..Config::default() };
    let config = config.resolve().unwrap();
    let letters = DeadLetters::new(&config, &Spans::new(config.trace)).unwrap().to(None, None);
    let message = Message::Owned(Box::new(OwnedMessage { offset: 7, ..Default::default() }));
    let assigned = || Source::new(TopicPartition::new("t", 0), "g".into());

    let (before, after) = (assigned(), assigned());
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT; 6]);
    {
        let (record, queued) = (Record::new(&message, &before, 1), letters.letters.under_way.clone());
        let letter = letter(record);
        let mut put = std::pin::pin!(letters.put(&letter, &before));
        // Until it is sent; then nobody waits for it any more.
        while queued.try_write().is_ok() {
            tokio::select! {
                put = &mut put => panic!("acknowledged too soon: {put:?}"),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
    }
    letters.put(&letter(Record::new(&message, &after, 1)), &after).await.unwrap();

    let client: BaseConsumer = config.client().create().unwrap();
    let (_, end) = client.fetch_watermarks("t.dlq", 0, crate::kafka::topics::REQUEST).unwrap();
    assert_eq!(end, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_a_partition_over_holds_the_first_letter_for_a_while_and_waits_for_nothing() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t.dlq", 1, 1).unwrap();
    let config = Config { brokers: Some(cluster.bootstrap_servers()), ..Config::default() };
    let config = config.resolve().unwrap();
    let letters = DeadLetters::new(&config, &Spans::new(config.trace)).unwrap().to(None, None);
    let message = Message::Owned(Box::new(OwnedMessage { offset: 7, ..Default::default() }));
    let clock = RunClock::start(Duration::from_secs(60), Arc::new(Drain::default()));
    let mut source = Source::new(TopicPartition::new("t", 0), "g".into());
    {
        let records = [Record::new(&message, &source, 1)];
        put(Run::new(&records, &source, &clock), &letter(records[0]), &letters).await.unwrap();
    }
    source.written = after_another();
    let records = [Record::new(&message, &source, 1)];
    let held = put(Run::new(&records, &source, &clock), &letter(records[0]), &letters).await.unwrap_err();
    assert_eq!(held.held_by().unwrap().cause, Cause::Passing);
    assert!(held.delay().is_some_and(|delay| delay > Duration::from_secs(6)), "{held:?}");
}

/// A broker with a dead-letter topic.
struct World {
    cluster: MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
    config: Resolved,
    letters: RouteLetters,
}

type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl World {
    fn new(partitions: i32, dead_letter: DeadLetterConfig) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t.dlq", partitions, 1).unwrap();
        let brokers = Some(cluster.bootstrap_servers());
        let config = Config { brokers, dead_letter, ..Config::default() }.resolve().unwrap();
        let letters = DeadLetters::new(&config, &Spans::new(config.trace)).unwrap().to(None, None);
        Self { cluster, config, letters }
    }

    /// By an owner that has just got the partition.
    async fn put(&self, partition: i32, offset: i64, headers: Headers) {
        let source = Source::new(TopicPartition::new("t", partition), "g".into());
        let message = Message::Owned(Box::new(OwnedMessage { offset, headers, ..Default::default() }));
        let record = Record::new(&message, &source, 1);
        loop {
            match self.letters.put(&letter(record), &source).await {
                Err(error) if error.cause() == Cause::Passing => {}
                put => return put.unwrap(),
            }
        }
    }

    /// Writes a letter as anybody could.
    async fn write(&self, partition: i32, headers: &[(&[u8], &[u8])]) {
        let producer: rdkafka::producer::FutureProducer = self.config.client().create().unwrap();
        let headers = headers_of(headers.iter().map(|(name, value)| (*name, Some(*value))));
        let record = FutureRecord::<[u8], [u8]>::to("t.dlq").partition(partition).payload(b"x");
        producer.send(record.headers(headers), Duration::from_secs(10)).await.unwrap();
    }

    fn count(&self, partitions: i32) -> i64 {
        let client: BaseConsumer = self.config.client().create().unwrap();
        let end =
            |partition| client.fetch_watermarks("t.dlq", partition, crate::kafka::topics::REQUEST).unwrap().1;
        (0..partitions).map(end).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_with_a_header_name_that_is_no_utf_8_keeps_nobody_from_writing_one() {
    let world = World::new(1, DeadLetterConfig::default());
    world.put(0, 7, vec![(b"\xff\xfe".to_vec(), Some(b"\xff".to_vec()))]).await;
    world
        .write(
            0,
            &[(b"\xff", b""), (TOPIC.as_bytes(), b"\xff"), (OFFSET.as_bytes(), b"9999999999999999999999")],
        )
        .await;
    world.put(0, 8, vec![]).await;
    assert_eq!(world.count(1), 3);
    world.put(0, 7, vec![]).await;
    assert_eq!(world.count(1), 3, "it is found among them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_was_sent_back_and_dies_again_is_written_once() {
    let world = World::new(1, DeadLetterConfig::default());
    let first =
        [(TOPIC, "t"), (PARTITION, "0"), (OFFSET, "7"), (GROUP, "g"), (HANDLER, "h"), (IDENTITY_HEADER, "i")];
    let sent_back: Headers =
        first.map(|(name, value)| (name.as_bytes().to_vec(), Some(value.as_bytes().to_vec()))).into();
    world.put(0, 7, vec![]).await;
    for _ in 0..2 {
        world.put(0, 20, sent_back.clone()).await;
        assert_eq!(world.count(1), 2, "the copy of its second death, once");
    }
    world.put(0, 7, vec![]).await;
    assert_eq!(world.count(1), 2, "that of its first is still found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_goes_on_where_it_was_and_reads_on_behind_what_it_has_read() {
    let world = World::new(2, DeadLetterConfig::default());
    for number in 0..30 {
        world.write(number % 2, &[(b"n", b"1")]).await;
    }
    let (mut look, mut read) = (Look::default(), 0);
    let mut go_on = |look: &mut Look| {
        let progress = look.go_on(&world.config, ("t.dlq", "g"), Duration::ZERO, |_| read += 1);
        (progress.unwrap(), read)
    };
    let mut parts = 1;
    while let (Progress::Left(left), read) = go_on(&mut look) {
        assert_eq!(i64::from(read) + left, 30, "no letter is read again");
        parts += 1;
    }
    assert!(parts > 10, "each part read one letter at most: {parts}");
    for _ in 0..3 {
        world.write(1, &[(b"n", b"1")]).await;
    }
    while go_on(&mut look).0 != Progress::Done {}
    assert_eq!(go_on(&mut look).1, 33);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_partition_the_topic_lacks_goes_to_that_of_its_key() {
    let partition = Some(DeadLetterPartition::Source);
    let world = World::new(1, DeadLetterConfig { partition, ..DeadLetterConfig::default() });
    world.put(3, 7, vec![]).await;
    world.put(3, 7, vec![]).await;
    assert_eq!(world.count(1), 1, "and is found there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_may_not_be_read_or_written_is_told_as_what_it_is() {
    let world = World::new(1, DeadLetterConfig::default());
    let source = Source::new(TopicPartition::new("t", 0), "g".into());
    let message = Message::Owned(Box::default());
    let record = Record::new(&message, &source, 1);
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    // An empty topic needs no reading.
    world.write(0, &[]).await;
    for (request, right) in [(RDKafkaApiKey::Fetch, "READ"), (RDKafkaApiKey::Produce, "WRITE")] {
        world.cluster.request_errors(request, &[refused]);
        let error = world.letters.put(&letter(record), &source).await.unwrap_err();
        assert_eq!(error.cause(), Cause::Setup);
        assert!(error.to_string().contains("`t.dlq`") && error.to_string().contains(right), "{error}");
    }
}

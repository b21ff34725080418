//! A copy that is still under way, with a broker that takes its time.

use super::*;
use crate::Config;
use crate::drain::Drain;
use crate::record::{Message, OwnedMessage, TopicPartition};
use crate::run::{RunClock, Source};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

fn letter(record: Record<'_>) -> Letter<'_> {
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
        let mut put = std::pin::pin!(letters.put(&letter));
        // Until it is sent; then nobody waits for it any more.
        while queued.try_write().is_ok() {
            tokio::select! {
                put = &mut put => panic!("acknowledged too soon: {put:?}"),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
    }
    letters.put(&letter(Record::new(&message, &after, 1))).await.unwrap();

    let client: BaseConsumer = config.client().create().unwrap();
    let (_, end) = client.fetch_watermarks("t.dlq", 0, crate::topics::REQUEST).unwrap();
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
    source.written = Written::after_another();
    let records = [Record::new(&message, &source, 1)];
    let held = put(Run::new(&records, &source, &clock), &letter(records[0]), &letters).await.unwrap_err();
    assert_eq!(held.held_by().unwrap().cause, Cause::Passing);
    assert!(held.delay().is_some_and(|delay| delay > Duration::from_secs(6)), "{held:?}");
}

//! Look-ups and commits that the broker answers with an error.

use crate::consumer::memo::{MOST_BYTES, Memo, Place};
use crate::consumer::positions::{self, LOOKUP_LIMIT};
use crate::extract::batch::Rejected;
use crate::extract::{Context, RunExt};
use crate::handler::{Handled, Handler, Settings};
use crate::kafka::admin::Teller;
use crate::testing::{TestBroker, TestRecord, run_until};
use crate::worker::ahead::Ahead;
use crate::{Delivery, Error, HandlerResult, Outcome, ResultExt, Run};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Notes the offsets of the topic `t`, in the group `g`.
#[derive(Clone, Default)]
struct Note(Arc<Mutex<Vec<i64>>>);

impl Handler for Note {
    type Args<'a> = i64;

    fn settings(&self) -> Settings {
        Settings::new("note").topic("t").group("g")
    }

    fn extract<'a>(&'a self, run: Run<'a>, _: &'a Context) -> Result<i64, Rejected> {
        Ok(run.records()[0].offset())
    }

    async fn call<'a, 'r: 'a>(&'a self, offset: i64, _: Delivery<'a>) -> HandlerResult<Handled> {
        self.0.lock().unwrap().push(offset);
        Ok(Handled::All(Outcome::Completed))
    }
}

impl Note {
    fn handled(&self) -> Vec<i64> {
        self.0.lock().unwrap().clone()
    }

    async fn count(&self, count: usize) -> Result<(), Error> {
        while self.handled().len() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

async fn with_records(count: usize) -> (TestBroker, BaseConsumer) {
    let broker = TestBroker::start().unwrap();
    broker.topic("t", 1).unwrap();
    broker.produce("t", (0..count).map(|n| TestRecord::new(n.to_string()))).await.unwrap();
    let mut config = rdkafka::ClientConfig::new();
    let client = config.set("bootstrap.servers", broker.brokers()).set("group.id", "g").create().unwrap();
    (broker, client)
}

fn written(client: &BaseConsumer) -> (i64, String) {
    let mut list = TopicPartitionList::new();
    list.add_partition("t", 0);
    positions::committed(client, &list).unwrap().remove(0).1.unwrap()
}

/// Else it would begin as if nobody had had it: what is noted would be lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_waits_until_it_can_be_looked_up_where_it_begins() {
    let (broker, client) = with_records(5).await;
    let topics = Teller::default().topics(&client, &["t"], LOOKUP_LIMIT).unwrap();
    let cluster = client.client().fetch_cluster_id(LOOKUP_LIMIT);
    let mut place = Place::new(cluster.as_deref(), "g", "t", 0);
    place.topic = topics["t"].topic.clone();
    let memo = Memo { ahead: Ahead(vec![2..3, 3..4]), ..Memo::default() };
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("t", 0, Offset::Offset(1)).unwrap();
    list.find_partition("t", 0).unwrap().set_metadata(place.text(1, &memo, MOST_BYTES));
    #[allow(clippy::disallowed_methods, reason = "as an owner before")]
    client.commit(&list, CommitMode::Sync).unwrap();

    let fails = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN;
    broker.cluster().request_errors(RDKafkaApiKey::OffsetFetch, &[fails; 2]);
    let note = Note::default();
    run_until(broker.app().handler(note.clone()), note.count(2)).await.unwrap();
    assert_eq!(note.handled(), [1, 4]);
    assert_eq!(written(&client).0, 5);
}

/// Fails for good at what is no number, and says that it was called.
#[derive(Clone, Default)]
struct Numbers(Arc<Mutex<Vec<i64>>>);

impl Handler for Numbers {
    type Args<'a> = &'a [u8];

    fn settings(&self) -> Settings {
        Settings::new("numbers").topic("t").group("g")
    }

    fn extract<'a>(&'a self, run: Run<'a>, context: &'a Context) -> Result<&'a [u8], Rejected> {
        run.extract(context)
    }

    async fn call<'a, 'r: 'a>(&'a self, payload: &'r [u8], _: Delivery<'a>) -> HandlerResult<Handled> {
        let number = std::str::from_utf8(payload)?.parse().permanent()?;
        self.0.lock().unwrap().push(number);
        Ok(Handled::All(Outcome::Completed))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_clean_end_the_first_dead_letter_waits_for_nobody() {
    let (broker, client) = with_records(1).await;
    broker.topic("t.dlq", 1).unwrap();
    let app = || broker.app().handler(Numbers::default());
    run_until(app(), broker.caught_up("g", "t")).await.unwrap();
    let (offset, text) = written(&client);
    assert!(offset == 1 && text.ends_with(" left=1"), "{text}");

    broker.produce("t", [TestRecord::new("x")]).await.unwrap();
    let begun = Instant::now();
    let lettered = async {
        broker.caught_up("g", "t").await?;
        // The partition is owned, so that nobody else may believe the note.
        let (_, text) = written(&client);
        assert!(!text.contains("left"), "{text}");
        Ok(())
    };
    run_until(app(), lettered).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    assert_eq!(broker.records("t.dlq").await.unwrap().len(), 1);
    let (offset, text) = written(&client);
    assert!(offset == 2 && text.ends_with(" left=1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_is_committed_with_less_beside_it_until_the_broker_takes_it() {
    let (broker, client) = with_records(5).await;
    let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE;
    broker.cluster().request_errors(RDKafkaApiKey::OffsetCommit, &[too_large; 5]);
    let app = || broker.app().handler(Note::default());
    run_until(app(), broker.caught_up("g", "t")).await.unwrap();
    assert_eq!(written(&client), (5, String::new()));
    broker.produce("t", [TestRecord::new("x")]).await.unwrap();
    run_until(app(), broker.caught_up("g", "t")).await.unwrap();
    let (offset, text) = written(&client);
    assert!(offset == 6 && text.starts_with("onceward/2 at=6 "), "a broker that takes all: {text}");
}

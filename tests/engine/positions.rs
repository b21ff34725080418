//! A position is believed where it was committed, and nowhere else: topics that are made anew, what other tools
//! write beside offsets, and partitions that are added.

use super::{Alarms, Seen, config, note, noting, offsets};
use onceward::prelude::*;
use onceward::{GroupProtocol, OutOfRange, Start};
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::FutureRecord;
use std::sync::{Arc, Mutex};
use support::{PATIENCE, Running, Stack, eventually, fill, stack_or_leave_out, unique};

// --- a topic that is made anew ---

/// The numbers of the new topic's records, as they were handled.
#[derive(Default, Clone)]
struct News(Arc<Mutex<Vec<i64>>>);

#[handler(topic = "overridden")]
async fn news(record: Record<'_>, payload: &[u8], news: State<News>, seen: State<Seen>) {
    if payload == b"new" {
        news.0.0.lock().unwrap().push(record.offset());
    }
    seen.note(record);
}

/// A group that reads a topic which is made anew.
struct Reader {
    group: String,
    protocol: GroupProtocol,
    out_of_range: OutOfRange,
    news: News,
    seen: Seen,
    alarms: Alarms,
}

impl Reader {
    fn new(protocol: GroupProtocol, out_of_range: OutOfRange) -> Self {
        let (news, seen, alarms) = Default::default();
        Self { group: unique("group"), protocol, out_of_range, news, seen, alarms }
    }

    fn start(&self, stack: &Stack, topic: &str, out_of_range: OutOfRange) -> Running {
        let config = config(|config| {
            config.group_protocol = Some(self.protocol);
            config.out_of_range = Some(out_of_range);
        });
        let route = news {}.route().topic(topic).group(&self.group);
        let app = App::new().brokers(&stack.brokers).config(config).handler(route);
        Running::start(self.alarms.hook(app.state(self.news.clone()).state(self.seen.clone())))
    }

    fn has_handled_all(&self) -> bool {
        let news = self.news.0.lock().unwrap();
        (0..NEW).all(|offset| news.contains(&offset))
    }
}

const OLD: i64 = 20;
const NEW: i64 = 40;

async fn make_anew(stack: &Stack, topic: &str) {
    stack.admin().delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
    let producer = stack.producer();
    // The name is free some time after that.
    let made = async || {
        let new = rdkafka::admin::NewTopic::new(topic, 1, rdkafka::admin::TopicReplication::Fixed(1));
        let results = stack.admin().create_topics([&new], &AdminOptions::new()).await.unwrap();
        results.iter().all(Result::is_ok)
    };
    eventually("the topic is made again", made).await;
    for _ in 0..NEW {
        producer.send(FutureRecord::<str, str>::to(topic).payload("new"), PATIENCE).await.unwrap();
    }
}

/// Filled past the old position before anybody looks: the broker has each offset then.
#[tokio::test(flavor = "multi_thread")]
async fn no_record_of_a_topic_that_is_made_anew_is_left_out_while_running_and_at_a_start() {
    let stack = stack_or_leave_out!();
    let topic = stack.topic("anew", 1).await;
    fill(&stack, &topic, 0, usize::try_from(OLD).unwrap()).await;
    let protocols = [GroupProtocol::Classic, GroupProtocol::Consumer];
    let settings = [OutOfRange::Stop, OutOfRange::Earliest];
    let readers: Vec<Reader> = protocols
        .into_iter()
        .flat_map(|protocol| settings.map(|setting| Reader::new(protocol, setting)))
        .collect();
    let start = |reader: &Reader| reader.start(&stack, &topic, reader.out_of_range);
    let running: Vec<Running> = readers.iter().map(start).collect();
    for reader in &readers {
        stack.caught_up(&reader.group, &topic, 1).await;
    }

    make_anew(&stack, &topic).await;
    for (reader, running) in readers.iter().zip(running) {
        let what = format!("{:?} {:?} notices", reader.protocol, reader.out_of_range);
        eventually(&what, async || reader.has_handled_all() || !reader.alarms.all().is_empty()).await;
        running.stop().await.unwrap();
    }
    for reader in &readers {
        let (alarms, protocol) = (reader.alarms.all(), reader.protocol);
        if reader.out_of_range == OutOfRange::Earliest {
            assert!(reader.has_handled_all() && alarms.is_empty(), "{protocol:?} {alarms:?}");
        }
        if reader.has_handled_all() {
            // The broker has deleted the group's offset with the topic, and this member began again.
            continue;
        }
        let again = reader.start(&stack, &topic, OutOfRange::Stop);
        eventually("it is noticed at a start", async || reader.alarms.all().len() > alarms.len()).await;
        again.stop().await.unwrap();
        let again = reader.start(&stack, &topic, OutOfRange::Earliest);
        eventually("all is handled", async || reader.has_handled_all()).await;
        stack.caught_up(&reader.group, &topic, 1).await;
        again.stop().await.unwrap();
        let alarms = reader.alarms.all().len();
        let again = reader.start(&stack, &topic, OutOfRange::Stop);
        let handled = reader.seen.count();
        fill(&stack, &topic, 0, 1).await;
        eventually("it goes on", async || reader.seen.count() > handled).await;
        again.stop().await.unwrap();
        assert_eq!(reader.alarms.all().len(), alarms, "the new topic is known now");
    }
}

// --- what other tools write ---

/// What a group has written beside its offset.
fn written(stack: &Stack, group: &str, topic: &str) -> String {
    let consumer: BaseConsumer = stack.client().set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    consumer.committed_offsets(list, PATIENCE).unwrap().elements()[0].metadata().to_owned()
}

fn write(stack: &Stack, group: &str, topic: &str, offset: i64, metadata: &str) {
    let consumer: BaseConsumer = stack.client().set("group.id", group).create().unwrap();
    let list = offsets([(0, offset)], topic);
    list.find_partition(topic, 0).unwrap().set_metadata(metadata);
    #[allow(clippy::disallowed_methods, reason = "as another tool may do")]
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn offset_metadata_counts_beside_its_own_offset_only() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("noted", 1).await, unique("group"));
    fill(&stack, &topic, 0, 10).await;
    let catch_up = async |expected: &[i64]| {
        let seen = Seen::default();
        super::catch_up(noting(&stack, &topic, &group, &seen), &stack, &group, &topic, 1).await;
        assert_eq!(seen.offsets(0), expected);
    };
    catch_up(&(0..10).collect::<Vec<_>>()).await;
    let ours = written(&stack, &group, &topic);
    assert!(ours.starts_with("onceward/2 at=10 topic="), "{ours}");

    let noted = format!("{ours} starts=3 trials=9 by=1 ahead=1.3");
    write(&stack, &group, &topic, 4, &noted);
    catch_up(&[4, 5, 6, 7, 8, 9]).await;
    let here = format!("{ours} ahead=1.3").replace("at=10", "at=4");
    write(&stack, &group, &topic, 4, &here);
    catch_up(&[4, 8, 9]).await;
    let topic_id = ours.split_once("topic=").unwrap().1.split_once(' ').unwrap().0;
    write(&stack, &group, &topic, 4, &here.replace(&format!(" topic={topic_id}"), ""));
    catch_up(&[4, 5, 6, 7, 8, 9]).await;
}

// --- partitions that are added ---

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_added_starts_at_its_first_record_also_where_the_group_started_at_the_latest() {
    let stack = stack_or_leave_out!();
    let (topic, group, seen) = (stack.topic("added", 1).await, unique("group"), Seen::default());
    fill(&stack, &topic, 0, 5).await;
    let latest = || {
        let route = note {}.route().topic(&topic).group(&group);
        let app = stack.app().state(seen.clone()).handler(route).start_at(Start::Latest);
        app.kafka("topic.metadata.refresh.interval.ms", "1000")
    };
    let add = async |count: usize| {
        let partitions = NewPartitions::new(&topic, count);
        let results = stack.admin().create_partitions([&partitions], &AdminOptions::new()).await.unwrap();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        let partition = i32::try_from(count).unwrap() - 1;
        fill(&stack, &topic, partition, 5).await;
    };
    let running = Running::start(latest());
    eventually("its start is committed", async || stack.committed(&group, &topic, 0) == Some(5)).await;
    add(2).await;
    eventually("added while it runs", async || seen.offsets(1).len() == 5).await;
    running.stop().await.unwrap();
    add(3).await;
    let running = Running::start(latest());
    eventually("added while nothing runs", async || seen.offsets(2).len() == 5).await;
    running.stop().await.unwrap();
    assert!(seen.offsets(0).is_empty(), "it was there before the group");
}

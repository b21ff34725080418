//! What is read and what is committed: where a group starts, offsets that the broker no longer has, holes,
//! failures, stuck handlers, and a broker that goes away.
#![allow(clippy::unwrap_used)] // In tests a panic is the report.

#[path = "engine/health.rs"]
mod health;
#[path = "engine/positions.rs"]
mod positions;
#[path = "engine/signals.rs"]
mod signals;

use onceward::prelude::*;
use onceward::{ConditionKind, Config, OutOfRange, Start, TopicPartition};
use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{
    Breakable, PATIENCE, Program, Running, Signal, Stack, eventually, fill, stack_or_leave_out, unique,
};
use tokio::sync::Semaphore;

/// What a handler has seen: partition, offset and attempt.
#[derive(Default, Clone)]
struct Seen(Arc<Mutex<Vec<(i32, i64, u32)>>>);

impl Seen {
    fn note(&self, record: Record<'_>) {
        self.0.lock().unwrap().push((record.partition(), record.offset(), record.attempt()));
    }

    fn offsets(&self, of: i32) -> Vec<i64> {
        let seen = self.0.lock().unwrap();
        seen.iter().filter(|(partition, ..)| *partition == of).map(|(_, offset, _)| *offset).collect()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

#[handler(topic = "overridden")]
async fn note(record: Record<'_>, seen: State<Seen>) {
    seen.note(record);
}

/// An application whose handler notes what it sees.
fn noting(stack: &Stack, topic: &str, group: &str, seen: &Seen) -> App {
    stack.app().state(seen.clone()).handler(note {}.route().topic(topic).group(group))
}

fn config(set: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    set(&mut config);
    config
}

/// Handles all there is, once, and ends.
async fn catch_up(app: App, stack: &Stack, group: &str, topic: &str, partitions: i32) {
    let running = Running::start(app);
    stack.caught_up(group, topic, partitions).await;
    running.stop().await.unwrap();
}

fn offsets(of: impl IntoIterator<Item = (i32, i64)>, topic: &str) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in of {
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    }
    list
}

// --- where a group starts ---

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_starts_where_it_is_told() {
    let stack = stack_or_leave_out!();
    // Or its old records would be deleted.
    let topic = stack.topic_with("starts", 1, &[("retention.ms", "-1")]).await;
    let producer = stack.producer();
    for offset in 0..10 {
        let record = FutureRecord::<str, str>::to(&topic).payload("x").timestamp(1_700_000_000_000 + offset);
        producer.send(record, PATIENCE).await.unwrap();
    }
    for (start, first) in [
        (None, 0),
        (Some(Start::Earliest), 0),
        (Some(Start::Offset(7)), 7),
        (Some(Start::Time(1_700_000_000_004)), 4),
    ] {
        let (group, seen) = (unique("group"), Seen::default());
        let app = noting(&stack, &topic, &group, &seen).config(config(|config| config.start = start));
        catch_up(app, &stack, &group, &topic, 1).await;
        assert_eq!(seen.offsets(0), (first..10).collect::<Vec<_>>(), "{start:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_starts_at_the_latest_record_handles_only_what_comes_later() {
    let stack = stack_or_leave_out!();
    let (topic, group, seen) = (stack.topic("latest", 1).await, unique("group"), Seen::default());
    fill(&stack, &topic, 0, 10).await;
    let running = Running::start(noting(&stack, &topic, &group, &seen).start_at(Start::Latest));
    eventually("a record that came later is handled", async || {
        fill(&stack, &topic, 0, 1).await;
        seen.count() > 0
    })
    .await;
    stack.caught_up(&group, &topic, 1).await;
    running.stop().await.unwrap();
    let seen = seen.offsets(0);
    assert!(seen[0] >= 10, "{seen:?}");
    assert!(seen.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seen:?}");
}

/// As in a partition with fewer records than the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_a_partition_does_not_have_stops_it_with_an_alarm() {
    let stack = stack_or_leave_out!();
    let (topic, group, seen) = (stack.topic("behind", 2).await, unique("group"), Seen::default());
    fill(&stack, &topic, 0, 3).await;
    fill(&stack, &topic, 1, 10).await;
    let alarms = Alarms::default();
    let app = alarms.hook(noting(&stack, &topic, &group, &seen).start_at(Start::Offset(5)));
    let running = Running::start(app);
    eventually("the alarm rings", async || alarms.all() == [(0, 5)]).await;
    eventually("the other partition is handled", async || seen.offsets(1).len() == 5).await;
    running.stop().await.unwrap();
    assert_eq!(seen.offsets(1), (5..10).collect::<Vec<_>>());
    assert!(seen.offsets(0).is_empty());
}

/// Else a restart would skip what came in between.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_group_started_is_committed_before_its_first_record() {
    let stack = stack_or_leave_out!();
    let (topic, seen) = (stack.topic("idle", 1).await, Seen::default());
    fill(&stack, &topic, 0, 10).await;
    for start in [Start::Latest, Start::Offset(10), Start::Time(i64::MAX / 4)] {
        let group = unique("group");
        let idle = Running::start(noting(&stack, &topic, &group, &seen).start_at(start));
        eventually("its start is committed", async || stack.committed(&group, &topic, 0).is_some()).await;
        idle.stop().await.unwrap();
        assert_eq!(stack.committed(&group, &topic, 0), Some(10), "{start:?}");
    }
    assert_eq!(seen.count(), 0);
}

/// What `on_out_of_range` was told: partition and offset.
#[derive(Default, Clone)]
struct Alarms(Arc<Mutex<Vec<(i32, i64)>>>);

impl Alarms {
    fn hook(&self, app: App) -> App {
        let alarms = self.clone();
        app.on_out_of_range(move |at, offset| alarms.0.lock().unwrap().push((at.partition(), offset)))
    }

    fn all(&self) -> Vec<(i32, i64)> {
        self.0.lock().unwrap().clone()
    }
}

// --- offsets that the broker does not have ---

/// A topic of two partitions with 20 records each, and a group that has handled 10 of each; then the
/// first 15 of partition 0 are deleted.
struct Deleted {
    stack: Stack,
    topic: String,
    group: String,
    seen: Seen,
}

impl Deleted {
    async fn new(stack: Stack) -> Self {
        let (topic, group) = (stack.topic("deleted", 2).await, unique("group"));
        for partition in 0..2 {
            fill(&stack, &topic, partition, 10).await;
        }
        catch_up(noting(&stack, &topic, &group, &Seen::default()), &stack, &group, &topic, 2).await;
        for partition in 0..2 {
            fill(&stack, &topic, partition, 10).await;
        }
        let before = offsets([(0, 15)], &topic);
        stack.admin().delete_records(&before, &AdminOptions::new()).await.unwrap();
        Self { stack, topic, group, seen: Seen::default() }
    }

    fn app(&self) -> App {
        noting(&self.stack, &self.topic, &self.group, &self.seen)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_offset_that_was_deleted_stops_its_partition_with_an_alarm_and_no_other() {
    let deleted = Deleted::new(stack_or_leave_out!()).await;
    let Deleted { stack, topic, group, seen } = &deleted;
    let alarms = Alarms::default();
    let app = alarms.hook(deleted.app());
    let health = app.health();
    let running = Running::start(app);
    eventually("the alarm rings", async || !alarms.all().is_empty()).await;
    eventually("it is not ready", async || !health.conditions().is_empty() && health.has_started()).await;
    let stopped = health.conditions().remove(0);
    assert_eq!(
        (stopped.kind, stopped.partition),
        (ConditionKind::Partition, Some(TopicPartition::new(&**topic, 0)))
    );
    assert!(stopped.sentence.contains("`out_of_range = ") && !health.is_ready(), "{}", stopped.sentence);
    for partition in 0..2 {
        fill(stack, topic, partition, 10).await;
    }
    eventually("the other partition goes on", async || {
        stack.committed(group, topic, 1) == Some(30) && running.is_running()
    })
    .await;
    running.stop().await.unwrap();
    assert_eq!(alarms.all(), [(0, 10)]);
    assert_eq!(seen.offsets(1), (10..30).collect::<Vec<_>>());
    assert!(seen.offsets(0).is_empty());
    assert_eq!(stack.committed(group, topic, 0), Some(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_range_earliest_goes_on_at_the_oldest_record() {
    let deleted = Deleted::new(stack_or_leave_out!()).await;
    let app = deleted.app().config(config(|config| config.out_of_range = Some(OutOfRange::Earliest)));
    catch_up(app, &deleted.stack, &deleted.group, &deleted.topic, 2).await;
    assert_eq!(deleted.seen.offsets(0), (15..20).collect::<Vec<_>>());
    assert_eq!(deleted.seen.offsets(1), (10..20).collect::<Vec<_>>());
}

/// There librdkafka takes nothing but a whole assignment anew.
#[tokio::test(flavor = "multi_thread")]
async fn out_of_range_earliest_makes_no_other_partition_repeat_where_all_are_assigned_at_once() {
    let deleted = Deleted::new(stack_or_leave_out!()).await;
    let eager = config(|config| {
        config.out_of_range = Some(OutOfRange::Earliest);
        config.kafka.insert("partition.assignment.strategy".to_owned(), "range".to_owned());
        // What is delivered is ahead of what is committed.
        config.commit_interval = Some(PATIENCE);
    });
    let running = Running::start(deleted.app().config(eager));
    eventually("all is handled", async || deleted.seen.count() >= 15).await;
    running.stop().await.unwrap();
    assert_eq!(deleted.seen.offsets(0), (15..20).collect::<Vec<_>>());
    assert_eq!(deleted.seen.offsets(1), (10..20).collect::<Vec<_>>());
    for partition in 0..2 {
        assert_eq!(deleted.stack.committed(&deleted.group, &deleted.topic, partition), Some(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_range_latest_goes_on_behind_the_newest_record() {
    let deleted = Deleted::new(stack_or_leave_out!()).await;
    let Deleted { stack, topic, group, seen } = &deleted;
    let app = deleted.app().config(config(|config| config.out_of_range = Some(OutOfRange::Latest)));
    let running = Running::start(app);
    eventually("a new record is handled", async || {
        fill(stack, topic, 0, 1).await;
        !seen.offsets(0).is_empty()
    })
    .await;
    stack.caught_up(group, topic, 2).await;
    running.stop().await.unwrap();
    assert!(seen.offsets(0)[0] >= 20, "{:?}", seen.offsets(0));
    assert_eq!(seen.offsets(1), (10..20).collect::<Vec<_>>());
}

/// As after a recovery on a replica that was behind, or in another cluster.
#[tokio::test(flavor = "multi_thread")]
async fn a_committed_offset_behind_the_end_is_out_of_range_too_and_commits_go_on_below_it() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("ahead", 1).await, unique("group"));
    fill(&stack, &topic, 0, 10).await;
    let committing: BaseConsumer = stack.client().set("group.id", &group).create().unwrap();
    #[allow(clippy::disallowed_methods, reason = "as another tool may do")]
    committing.commit(&offsets([(0, 1000)], &topic), CommitMode::Sync).unwrap();
    drop(committing);

    let (alarms, seen) = (Alarms::default(), Seen::default());
    let running = Running::start(alarms.hook(noting(&stack, &topic, &group, &seen)));
    eventually("the alarm rings", async || alarms.all() == [(0, 1000)]).await;
    running.stop().await.unwrap();
    assert_eq!(seen.count(), 0);

    let earliest = config(|config| config.out_of_range = Some(OutOfRange::Earliest));
    catch_up(noting(&stack, &topic, &group, &seen).config(earliest), &stack, &group, &topic, 1).await;
    assert_eq!(seen.offsets(0), (0..10).collect::<Vec<_>>());
}

// --- holes ---

#[tokio::test(flavor = "multi_thread")]
async fn transactions_leave_no_lag_and_aborted_ones_no_records() {
    let stack = stack_or_leave_out!();
    // One partition ends in aborted records, and one has nothing else.
    let (topic, group, seen) = (stack.topic("transactions", 2).await, unique("group"), Seen::default());
    let producer: FutureProducer =
        stack.client().set("transactional.id", unique("producer")).create().unwrap();
    let transaction = async |partition: i32, commit: bool| {
        producer.begin_transaction().unwrap();
        for _ in 0..5 {
            let record = FutureRecord::<str, str>::to(&topic).partition(partition).payload("x");
            producer.send(record, PATIENCE).await.unwrap();
        }
        let producer = producer.clone();
        let end = move || match commit {
            true => producer.commit_transaction(PATIENCE),
            false => producer.abort_transaction(PATIENCE),
        };
        tokio::task::spawn_blocking(end).await.unwrap().unwrap();
    };
    let starting = producer.clone();
    tokio::task::spawn_blocking(move || starting.init_transactions(PATIENCE)).await.unwrap().unwrap();
    for (partition, commit) in [(0, true), (0, false), (0, true), (0, false), (1, false)] {
        transaction(partition, commit).await;
    }
    let running = Running::start(noting(&stack, &topic, &group, &seen));
    stack.caught_up(&group, &topic, 2).await;
    transaction(1, true).await;
    stack.caught_up(&group, &topic, 2).await;
    running.stop().await.unwrap();
    assert_eq!(seen.offsets(0), (0..5).chain(12..17).collect::<Vec<_>>());
    assert_eq!(seen.offsets(1), (6..11).collect::<Vec<_>>());
    assert_eq!((0..2).map(|p| stack.committed(&group, &topic, p)).collect::<Vec<_>>(), [Some(24), Some(12)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_leaves_no_lag() {
    let stack = stack_or_leave_out!();
    let settings =
        [("cleanup.policy", "compact"), ("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.01")];
    let topic = stack.topic_with("compacted", 1, &settings).await;
    let (group, seen) = (unique("group"), Seen::default());
    let producer = stack.producer();
    let send = async |key: String| {
        let record = FutureRecord::<str, str>::to(&topic).key(&key).payload("x");
        producer.send(record, PATIENCE).await.unwrap();
    };
    for n in 0..100 {
        send(format!("key-{}", n % 10)).await;
    }
    let left = || {
        let stack = stack.clone();
        let topic = topic.clone();
        tokio::task::spawn_blocking(move || visible(&stack, &topic))
    };
    eventually("the cleaner has run", async || {
        // Only a segment that is closed is cleaned, and a record closes it.
        send("roll".to_owned()).await;
        left().await.unwrap().len() < 90
    })
    .await;
    // The cleaner may go on, but it never takes the newest record of a key.
    catch_up(noting(&stack, &topic, &group, &seen), &stack, &group, &topic, 1).await;
    let (seen, left) = (seen.offsets(0), left().await.unwrap());
    assert!(seen.is_sorted() && seen.len() < 90, "{seen:?}");
    assert!(left.iter().all(|offset| seen.contains(offset)), "{seen:?} lacks some of {left:?}");
}

/// The offsets that a plain consumer is given.
fn visible(stack: &Stack, topic: &str) -> BTreeSet<i64> {
    let consumer: BaseConsumer = stack.client().set("group.id", "none").create().unwrap();
    let (first, end) = consumer.fetch_watermarks(topic, 0, PATIENCE).unwrap();
    consumer.assign(&offsets([(0, first)], topic)).unwrap();
    let mut visible = BTreeSet::new();
    while visible.last().is_none_or(|last| last + 1 < end) {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            visible.insert(message.unwrap().offset());
        }
    }
    visible
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_topic_is_consumed_and_left_in_peace() {
    let stack = stack_or_leave_out!();
    let (topic, group, seen) = (stack.topic("empty", 2).await, unique("group"), Seen::default());
    let assigned = Arc::new(AtomicBool::new(false));
    let told = assigned.clone();
    let app = noting(&stack, &topic, &group, &seen).on_assigned(move |_| told.store(true, Ordering::Relaxed));
    let running = Running::start(app);
    eventually("it has its partitions", async || assigned.load(Ordering::Relaxed)).await;
    fill(&stack, &topic, 1, 1).await;
    stack.caught_up(&group, &topic, 2).await;
    running.stop().await.unwrap();
    assert_eq!(stack.committed(&group, &topic, 0), None);
    assert_eq!(seen.offsets(1), [0]);
}

// --- failures ---

/// Fails one record until told otherwise.
#[derive(Default, Clone)]
struct Healed(Arc<AtomicBool>);

#[handler(topic = "overridden")]
async fn fail_at_7(record: Record<'_>, seen: State<Seen>, healed: State<Healed>) -> HandlerResult {
    seen.note(record);
    let fails = (record.partition(), record.offset()) == (0, 7) && !healed.0.0.load(Ordering::Relaxed);
    if fails { Err(HandlerError::new("not yet").retry_after(Duration::from_millis(50))) } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_record_holds_back_its_partition_and_its_commit_until_it_succeeds_and_no_other() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("failing", 2).await, unique("group"));
    let (seen, healed) = (Seen::default(), Healed::default());
    for partition in 0..2 {
        fill(&stack, &topic, partition, 20).await;
    }
    let route = fail_at_7 {}.route().topic(&topic).group(&group).dead_letter("none");
    let running = Running::start(stack.app().state(seen.clone()).state(healed.clone()).handler(route));
    let attempts = || seen.offsets(0).iter().filter(|offset| **offset == 7).count();
    eventually("it is tried again and again", async || attempts() >= 3).await;
    fill(&stack, &topic, 1, 20).await;
    eventually("the other partition goes on", async || stack.committed(&group, &topic, 1) == Some(40)).await;
    eventually("what is before it is committed", async || stack.committed(&group, &topic, 0) == Some(7))
        .await;
    assert_eq!(*seen.offsets(0).last().unwrap(), 7, "nothing passes it");
    healed.0.store(true, Ordering::Relaxed);
    stack.caught_up(&group, &topic, 2).await;
    running.stop().await.unwrap();

    let of_partition: Vec<(i64, u32)> =
        seen.0.lock().unwrap().iter().filter(|(p, ..)| *p == 0).map(|(_, o, a)| (*o, *a)).collect();
    let tries = u32::try_from(attempts()).unwrap();
    let expected: Vec<(i64, u32)> =
        (0..7).map(|o| (o, 1)).chain((1..=tries).map(|a| (7, a))).chain((8..20).map(|o| (o, 1))).collect();
    assert_eq!(of_partition, expected);
}

// --- stuck and slow handlers ---

/// Lets records of partition 0 through only when it has permits.
#[derive(Clone)]
struct Gate(Arc<Semaphore>);

impl Gate {
    fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    fn open(&self) {
        self.0.add_permits(Semaphore::MAX_PERMITS);
    }
}

#[handler(topic = "overridden")]
async fn stuck_at_partition_0(record: Record<'_>, gate: State<Gate>, seen: State<Seen>) -> HandlerResult {
    if record.partition() == 0 {
        let _permit = gate.0.0.acquire().await?;
    }
    seen.note(record);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_handler_costs_neither_the_membership_nor_another_partition() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("stuck", 2).await, unique("group"));
    let (seen, gate, changes) = (Seen::default(), Gate::closed(), Arc::new(Mutex::new(Vec::new())));
    fill(&stack, &topic, 0, 5).await;
    let (assigned, revoked) = (changes.clone(), changes.clone());
    let app = stack
        .app()
        .state(seen.clone())
        .state(gate.clone())
        .handler(stuck_at_partition_0 {}.route().topic(&topic).group(&group))
        .on_assigned(move |partitions| assigned.lock().unwrap().push(("assigned", partitions.len())))
        .on_revoked(move |partitions| revoked.lock().unwrap().push(("revoked", partitions.len())));
    let running = Running::start(app);
    let begun = Instant::now();
    // For longer than the session of 6 s.
    let mut records = 0;
    while begun.elapsed() < Duration::from_secs(8) {
        fill(&stack, &topic, 1, 10).await;
        records += 10;
        eventually("the other partition goes on", async || seen.offsets(1).len() == records).await;
    }
    assert!(seen.offsets(0).is_empty());
    assert_eq!(*changes.lock().unwrap(), [("assigned", 2)], "it stays in the group");
    gate.open();
    stack.caught_up(&group, &topic, 2).await;
    running.stop().await.unwrap();
    assert_eq!(seen.offsets(0), (0..5).collect::<Vec<_>>());
    assert_eq!(seen.count(), records + 5, "nothing twice");
}

/// Even a handler that blocks its thread.
#[handler(topic = "overridden")]
#[allow(clippy::disallowed_methods, reason = "it holds up a thread on purpose")]
async fn block_the_thread_at_partition_0(record: Record<'_>, seen: State<Seen>) {
    if record.partition() == 0 {
        std::thread::sleep(Duration::from_secs(8));
    }
    seen.note(record);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_handler_that_blocks_its_thread_does_not_keep_the_consumer_from_polling() {
    let stack = stack_or_leave_out!();
    let (topic, group, seen) = (stack.topic("blocking", 2).await, unique("group"), Seen::default());
    fill(&stack, &topic, 0, 1).await;
    let assignments: Arc<Mutex<usize>> = Arc::default();
    let assigned = assignments.clone();
    let app = stack
        .app()
        .state(seen.clone())
        .handler(block_the_thread_at_partition_0 {}.route().topic(&topic).group(&group))
        .on_assigned(move |_| *assigned.lock().unwrap() += 1);
    let running = Running::start(app);
    while seen.offsets(0).is_empty() {
        let before = seen.count();
        fill(&stack, &topic, 1, 1).await;
        eventually("the other partition goes on", async || seen.count() > before).await;
    }
    stack.caught_up(&group, &topic, 2).await;
    running.stop().await.unwrap();
    assert_eq!((seen.offsets(0).len(), *assignments.lock().unwrap()), (1, 1));
}

#[tokio::test]
#[ignore = "a program that another test starts"]
async fn stuck_at_partition_0_with_little_memory() {
    let Ok(topic) = std::env::var("TEST_TOPIC") else { return };
    let stack = stack_or_leave_out!();
    let little = config(|config| config.max_in_flight_bytes = Some(1 << 20));
    let app = stack
        .app()
        .config(little)
        .kafka("queued.max.messages.kbytes", "1024")
        .kafka("fetch.max.bytes", "2097152")
        .state(Seen::default())
        .state(Gate::closed())
        .handler(stuck_at_partition_0 {}.route().topic(&topic).group(std::env::var("TEST_GROUP").unwrap()));
    app.run().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_stuck_handler_stays_with_the_broker() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("memory", 2).await, unique("group"));
    const BACKLOG: usize = 96 << 20;
    let payload = "x".repeat(64 << 10);
    let producer = stack.producer();
    for partition in 0..2 {
        let mut sent = Vec::new();
        for _ in 0..BACKLOG / payload.len() {
            let record = FutureRecord::<str, str>::to(&topic).partition(partition).payload(&payload);
            sent.push(producer.send_result(record).map_err(|(error, _)| error).unwrap());
        }
        for delivery in sent {
            delivery.await.unwrap().unwrap();
        }
    }
    let variables = [("TEST_TOPIC", &*topic), ("TEST_GROUP", &*group)];
    let program = Program::start("stuck_at_partition_0_with_little_memory", &variables);
    let (_, end) = stack.watermarks(&topic, 1);
    // By then it had all the time to take the other backlog in as well.
    eventually("the other partition's backlog is through", async || {
        stack.committed(&group, &topic, 1) == Some(end)
    })
    .await;
    let memory = program.memory();
    assert!(memory < BACKLOG / 2, "{} MiB of {} are in memory", memory >> 20, BACKLOG >> 20);
}

// --- commits ---

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_committed_on_an_interval_and_not_record_by_record() {
    let stack = stack_or_leave_out!();
    let (topic, group, seen) = (stack.topic("interval", 2).await, unique("group"), Seen::default());
    let app = noting(&stack, &topic, &group, &seen)
        .config(config(|config| config.commit_interval = Some(Duration::from_millis(500))));
    let running = Running::start(app);
    fill(&stack, &topic, 0, 1).await;
    eventually("it consumes", async || seen.count() == 1).await;
    let begun = Instant::now();
    let mut records = 1;
    while begun.elapsed() < Duration::from_secs(3) {
        fill(&stack, &topic, 0, 1).await;
        fill(&stack, &topic, 1, 1).await;
        records += 2;
    }
    eventually("all is handled", async || seen.count() == records).await;
    stack.caught_up(&group, &topic, 2).await;
    let most = 2 * (begun.elapsed().as_millis() as usize / 500 + 2);
    let commits = {
        let (stack, group) = (stack.clone(), group.clone());
        tokio::task::spawn_blocking(move || commits_of(&stack, &group)).await.unwrap()
    };
    running.stop().await.unwrap();
    assert!((6..=most).contains(&commits), "{commits} commits of two partitions, {records} records");
}

/// How many commits of one partition each the broker has noted for a group.
fn commits_of(stack: &Stack, group: &str) -> usize {
    let consumer: BaseConsumer = stack.client().set("group.id", "none").create().unwrap();
    let topic = "__consumer_offsets";
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let mut commits = 0;
    for partition in metadata.topics()[0].partitions() {
        let (first, end) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE).unwrap();
        if first == end {
            continue;
        }
        let reader: BaseConsumer = stack.client().set("group.id", "none").create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition.id(), Offset::Offset(first)).unwrap();
        reader.assign(&list).unwrap();
        let mut next = first;
        while next < end {
            let Some(Ok(message)) = reader.poll(Duration::from_millis(100)) else { continue };
            next = message.offset() + 1;
            // Version 0 or 1 is a commit, and 2 a group's members.
            let key = message.key().unwrap_or_default();
            let is_commit = matches!(key, [0, 0 | 1, ..]);
            let names = key.windows(group.len()).any(|part| part == group.as_bytes());
            commits += usize::from(is_commit && names && message.payload().is_some());
        }
    }
    commits
}

// --- a broker that goes away ---

#[handler(topic = "overridden")]
async fn note_slowly(record: Record<'_>, seen: State<Seen>) {
    tokio::time::sleep(Duration::from_millis(2)).await;
    seen.note(record);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_freezes_for_10_s_or_is_killed_costs_time_but_no_record() {
    let kafka = Breakable::start(stack_or_leave_out!());
    let stack = &kafka.stack;
    let (topic, group, seen) = (stack.topic("broken", 3).await, unique("group"), Seen::default());
    let route = note_slowly {}.route().topic(&topic).group(&group);
    let app = stack.app().state(seen.clone()).handler(route);
    let health = app.health();
    assert_eq!(health.problems(), ["not started: settings, topics and tables are being checked"]);
    let running = Running::start(app);
    let fill_all = async |count| {
        for partition in 0..3 {
            fill(stack, &topic, partition, count).await;
        }
    };

    fill_all(1000).await;
    eventually("it works", async || seen.count() > 100).await;
    assert!(health.is_ready(), "{health:?}");
    kafka.signal(Signal::SIGSTOP);
    let frozen = Instant::now();
    let is_noticed = || health.degraded().iter().any(|sentence| sentence.contains("Kafka does not answer"));
    eventually("its silence is noticed", async || is_noticed()).await;
    assert!(health.is_ready() && health.is_alive(), "no instance is at fault: {health:?}");
    tokio::time::sleep(Duration::from_secs(10).saturating_sub(frozen.elapsed())).await;
    kafka.signal(Signal::SIGCONT);
    stack.caught_up(&group, &topic, 3).await;
    eventually("it hears of it", async || health.degraded().is_empty()).await;

    fill_all(1000).await;
    eventually("it works again", async || seen.count() > 3100).await;
    kafka.ctl(&["stop", "kafka", "--kill"]);
    kafka.ctl(&["start", "kafka"]);
    stack.caught_up(&group, &topic, 3).await;

    assert!(running.is_running());
    running.stop().await.unwrap();
    for partition in 0..3 {
        let distinct: BTreeSet<i64> = seen.offsets(partition).into_iter().collect();
        assert!(distinct.into_iter().eq(0..2000), "partition {partition}");
    }
}

// --- records as they are ---

#[derive(Default, Clone)]
struct Unchanged(Arc<AtomicBool>);

#[handler(topic = "overridden")]
async fn hold(
    record: Record<'_>,
    payload: &[u8],
    gate: State<Gate>,
    unchanged: State<Unchanged>,
) -> HandlerResult {
    let copy = payload.to_vec();
    if record.partition() == 0 {
        let _permit = gate.0.0.acquire().await?;
    }
    let borrowed = std::ptr::eq(payload, record.payload().unwrap());
    unchanged.0.0.store(borrowed && copy == payload, Ordering::Relaxed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_borrowed_payload_stays_as_it_is_for_as_long_as_the_handler_runs() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("borrowed", 2).await, unique("group"));
    let (gate, unchanged) = (Gate::closed(), Unchanged::default());
    fill(&stack, &topic, 0, 1).await;
    let route = hold {}.route().topic(&topic).group(&group);
    let running = Running::start(stack.app().state(gate.clone()).state(unchanged.clone()).handler(route));
    // Meanwhile other buffers come and go.
    fill(&stack, &topic, 1, 10_000).await;
    eventually("the others are handled", async || stack.committed(&group, &topic, 1) == Some(10_000)).await;
    unchanged.0.store(false, Ordering::Relaxed);
    gate.open();
    stack.caught_up(&group, &topic, 2).await;
    running.stop().await.unwrap();
    assert!(unchanged.0.load(Ordering::Relaxed));
}

type Noted = Vec<(Vec<u8>, Option<Vec<u8>>)>;

#[derive(Default, Clone)]
struct AllHeaders(Arc<Mutex<Vec<Noted>>>);

#[handler(topic = "overridden")]
async fn note_headers(headers: Headers<'_>, all: State<AllHeaders>) {
    let one =
        |header: onceward::Header<'_>| (header.name_bytes().to_vec(), header.value().map(<[u8]>::to_vec));
    all.0.0.lock().unwrap().push(headers.iter().map(one).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_keep_order_duplicates_nulls_and_names_that_are_not_text() {
    let stack = stack_or_leave_out!();
    let (topic, group, all) = (stack.topic("headers", 1).await, unique("group"), AllHeaders::default());
    let headers = OwnedHeaders::new()
        .insert(Header { key: "b", value: Some("1") })
        .insert(Header::<&str> { key: "a", value: None })
        .insert(Header { key: "b", value: Some("") })
        .insert(Header { key: "", value: Some(&[0xff, 0][..]) });
    let record = FutureRecord::<str, str>::to(&topic).payload("x").headers(headers);
    stack.producer().send(record, PATIENCE).await.unwrap();
    raw::produce(&stack, &topic, b"\xff\xfe", b"\xfd");
    let route = note_headers {}.route().topic(&topic).group(&group);
    catch_up(stack.app().state(all.clone()).handler(route), &stack, &group, &topic, 1).await;
    let owned = |name: &[u8], value: Option<&[u8]>| (name.to_vec(), value.map(<[u8]>::to_vec));
    assert_eq!(
        *all.0.lock().unwrap(),
        [
            vec![
                owned(b"b", Some(b"1")),
                owned(b"a", None),
                owned(b"b", Some(b"")),
                owned(b"", Some(&[0xff, 0])),
            ],
            vec![owned(b"\xff\xfe", Some(b"\xfd"))],
        ]
    );
}

/// A header name that is not text, which `rdkafka` does not take but another producer may send.
mod raw {
    #![allow(unsafe_code, reason = "librdkafka itself")]

    use rdkafka::ClientConfig;
    use rdkafka::producer::{BaseProducer, Producer};
    use rdkafka_sys as sys;
    use std::ffi::CString;
    use std::ptr;
    use std::time::Duration;
    use support::Stack;

    pub(super) fn produce(stack: &Stack, topic: &str, name: &[u8], value: &[u8]) {
        let config: ClientConfig = stack.client();
        let producer: BaseProducer = config.create().unwrap();
        let topic = CString::new(topic).unwrap();
        let client = producer.client().native_ptr();
        // SAFETY: the client lives as long as `producer`. librdkafka copies the header and the payload; the
        // headers are its own once `producev` has succeeded.
        unsafe {
            let headers = sys::rd_kafka_headers_new(1);
            let added = sys::rd_kafka_header_add(
                headers,
                name.as_ptr().cast(),
                isize::try_from(name.len()).unwrap(),
                value.as_ptr().cast(),
                isize::try_from(value.len()).unwrap(),
            );
            assert_eq!(added, sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
            let handle = sys::rd_kafka_topic_new(client, topic.as_ptr(), ptr::null_mut());
            let produced = sys::rd_kafka_producev(
                client,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT,
                handle,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION,
                0,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
                headers,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
            );
            assert_eq!(produced, sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
            sys::rd_kafka_topic_destroy(handle);
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }
}

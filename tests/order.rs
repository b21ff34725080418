//! What is handled in order and what side by side, where the order is by key or none.
#![allow(clippy::unwrap_used)] // In tests a panic is the report.

use onceward::prelude::*;
use onceward::{Config, DedupeKind};
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::collections::{BTreeMap, HashSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};
use support::{
    PATIENCE, Program, Running, Signal, Stack, eventually, fill, produce, produce_one, read_all,
    stack_or_leave_out, unique,
};
use tokio::sync::Semaphore;

/// What handlers have seen, how many of them at once, and which keys are held back.
#[derive(Clone, Default)]
struct Desk(Arc<Inner>);

#[derive(Default)]
struct Inner {
    handled: Mutex<Vec<(String, i64)>>,
    at_once: Mutex<(usize, usize)>,
    busy: Mutex<HashSet<String>>,
    /// A panic in a handler would be tried again, and be forgotten.
    met: Mutex<Vec<String>>,
    held: Mutex<Option<(String, Arc<Semaphore>)>>,
    pause: Mutex<Duration>,
}

impl Desk {
    /// A key whose handlers wait until the semaphore has permits.
    fn holding(key: &str) -> (Self, Arc<Semaphore>) {
        let (desk, gate) = (Self::default(), Arc::new(Semaphore::new(0)));
        *desk.0.held.lock().unwrap() = Some((key.to_owned(), gate.clone()));
        (desk, gate)
    }

    fn pausing(pause: Duration) -> Self {
        let desk = Self::default();
        *desk.0.pause.lock().unwrap() = pause;
        desk
    }

    async fn work(&self, record: Record<'_>) {
        let key = String::from_utf8_lossy(record.key().unwrap_or(b"none")).into_owned();
        self.enter(&key);
        {
            let mut at_once = self.0.at_once.lock().unwrap();
            at_once.0 += 1;
            at_once.1 = at_once.1.max(at_once.0);
        }
        let held = self.0.held.lock().unwrap().clone();
        if let Some((_, gate)) = held.filter(|(held, _)| *held == key) {
            drop(gate.acquire().await.unwrap());
        }
        let pause = *self.0.pause.lock().unwrap();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        self.0.at_once.lock().unwrap().0 -= 1;
        self.0.busy.lock().unwrap().remove(&key);
        self.0.handled.lock().unwrap().push((key, record.offset()));
    }

    /// Only one is to be in a key, or in the copies of an event.
    fn enter(&self, key: &str) {
        if !self.0.busy.lock().unwrap().insert(key.to_owned()) {
            self.0.met.lock().unwrap().push(key.to_owned());
        }
    }

    fn assert_none_met(&self) {
        assert_eq!(*self.0.met.lock().unwrap(), [""; 0], "two at once");
    }

    fn count(&self) -> usize {
        self.0.handled.lock().unwrap().len()
    }

    fn most_at_once(&self) -> usize {
        self.0.at_once.lock().unwrap().1
    }

    fn by_key(&self) -> BTreeMap<String, Vec<i64>> {
        let mut keys: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for (key, offset) in &*self.0.handled.lock().unwrap() {
            keys.entry(key.clone()).or_default().push(*offset);
        }
        keys
    }

    fn assert_in_order(&self) {
        self.assert_none_met();
        for (key, offsets) in self.by_key() {
            assert!(offsets.is_sorted_by(|a, b| a < b), "{key}: {offsets:?}");
        }
    }
}

#[handler(topic = "overridden", order = "key", concurrency = 8)]
async fn by_key(record: Record<'_>, desk: State<Desk>) {
    desk.work(record).await;
}

/// A topic of one partition, a group, and an application with a handler on them.
struct Case {
    stack: Stack,
    topic: String,
    group: String,
}

impl Case {
    async fn new(stack: Stack, partitions: i32) -> Self {
        let topic = stack.topic("order", partitions).await;
        Self { stack, topic, group: unique("group") }
    }

    fn app(&self, desk: &Desk, set: impl FnOnce(&mut Config)) -> App {
        let mut config = Config::default();
        set(&mut config);
        let route = by_key {}.route().topic(&self.topic).group(&self.group);
        self.stack.app().config(config).state(desk.clone()).handler(route)
    }

    async fn caught_up(&self) {
        self.stack.caught_up(&self.group, &self.topic, 1).await;
    }

    /// What is written beside the committed offset.
    fn memo(&self) -> Option<(i64, String)> {
        let consumer: BaseConsumer = self.stack.client().set("group.id", &self.group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, 0);
        let committed = consumer.committed_offsets(list, PATIENCE).unwrap();
        let element = committed.elements().pop()?;
        match element.offset() {
            Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
            _ => None,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_in_order_and_keys_go_side_by_side_up_to_the_concurrency() {
    let case = Case::new(stack_or_leave_out!(), 2).await;
    for partition in 0..2 {
        let producer = case.stack.producer();
        // A key of one partition only, as producers have it.
        for number in 0..200 {
            let (key, payload) = (format!("{partition}-{}", number % 5), number.to_string());
            let record = rdkafka::producer::FutureRecord::<str, str>::to(&case.topic)
                .partition(partition)
                .key(&key)
                .payload(&payload);
            drop(producer.send_result(record).unwrap());
        }
        rdkafka::producer::Producer::flush(&producer, PATIENCE).unwrap();
    }
    let desk = Desk::pausing(Duration::from_millis(5));
    let running = Running::start(case.app(&desk, |_| {}));
    case.stack.caught_up(&case.group, &case.topic, 2).await;
    running.stop().await.unwrap();
    assert_eq!(desk.count(), 400);
    desk.assert_in_order();
    assert_eq!(desk.most_at_once(), 8, "over both partitions");
}

/// A partition with a backlog that wants all of the concurrency, and one with little to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_gets_its_share_of_the_concurrency_beside_one_that_wants_all_of_it() {
    let case = Case::new(stack_or_leave_out!(), 2).await;
    fill(&case.stack, &case.topic, 0, 20_000).await;
    let desk = Desk::pausing(Duration::from_millis(5));
    let running = Running::start(case.app(&desk, |_| {}));
    eventually("the backlog is worked on", async || desk.count() > 100).await;
    let producer = case.stack.producer();
    for _ in 0..10 {
        let record = rdkafka::producer::FutureRecord::<str, str>::to(&case.topic);
        drop(producer.send_result(record.partition(1).key("little").payload("1")).unwrap());
    }
    let little = || desk.by_key().get("little").map_or(0, Vec::len);
    eventually("the little is done", async || little() == 10).await;
    assert!(desk.count() < 20_000, "only once all else was done");
    running.stop().await.unwrap();
    desk.assert_in_order();
}

/// All on one thread. A task that is woken at once is one of those that wait for their turn.
#[tokio::test]
async fn quick_handlers_let_other_tasks_of_their_thread_go_first_now_and_then() {
    const RECORDS: usize = 10_000;
    let (case, desk) = (Case::new(stack_or_leave_out!(), 1).await, Desk::default());
    let records = (0..RECORDS).map(|number| (format!("key-{number}"), String::new()));
    produce(&case.stack.producer(), &case.topic, records).await;
    let running = Running::start(case.app(&desk, |_| ()));
    let (mut seen, mut most) = (0, 0);
    let watching = tokio::spawn(poll_fn(move |context| {
        let count = desk.count();
        most = most.max(count - seen);
        seen = count;
        context.waker().wake_by_ref();
        if seen < RECORDS { Poll::Pending } else { Poll::Ready(most) }
    }));
    let most = tokio::time::timeout(PATIENCE, watching).await.expect("all are handled").unwrap();
    running.stop().await.unwrap();
    assert!(most <= 1000, "{most} records before another task of the thread");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_key_holds_only_itself_and_what_is_done_ahead_is_remembered() {
    let case = Case::new(stack_or_leave_out!(), 1).await;
    fill(&case.stack, &case.topic, 0, 3000).await;
    let (desk, _gate) = Desk::holding("key-3");
    let first =
        Running::start(case.app(&desk, |config| config.shutdown_deadline = Some(Duration::from_secs(4))));
    eventually("all but the key are handled", async || desk.count() == 2700).await;
    eventually("that is committed", async || {
        // 0 to 2 are done, 3 is stuck, and of the others nine of ten.
        case.memo().is_some_and(|(offset, memo)| offset == 3 && memo.ends_with("1.9,1.6"))
    })
    .await;
    assert!(first.stop().await.unwrap_err().to_string().contains("had work left"));

    let (again, gate) = Desk::holding("key-3");
    gate.add_permits(1);
    let running = Running::start(case.app(&again, |_| {}));
    case.caught_up().await;
    running.stop().await.unwrap();
    let expected: Vec<i64> = (0..300).map(|number| number * 10 + 3).collect();
    assert_eq!(again.by_key(), BTreeMap::from([("key-3".to_owned(), expected)]));
}

/// Waits at one record, long after it has been quick.
#[handler(topic = "overridden", order = "key", concurrency = 8)]
async fn wait_at_one(record: Record<'_>, desk: State<Desk>, gate: State<Arc<Semaphore>>) {
    if record.offset() == 1503 {
        drop(gate.0.acquire().await.unwrap());
    }
    desk.work(record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_neighbours_of_a_record_that_waits_leave_its_run() {
    let case = Case::new(stack_or_leave_out!(), 1).await;
    fill(&case.stack, &case.topic, 0, 3000).await;
    let (desk, gate) = (Desk::default(), Arc::new(Semaphore::new(0)));
    let route = wait_at_one {}.route().topic(&case.topic).group(&case.group);
    let app = case.stack.app().state(desk.clone()).state(gate.clone());
    let running = Running::start(app.handler(route));
    // 150 of its key stand at and behind it.
    eventually("all others are handled", async || desk.count() == 2850).await;
    eventually("and committed", async || case.memo().is_some_and(|(offset, _)| offset == 1503)).await;
    gate.add_permits(1);
    case.caught_up().await;
    running.stop().await.unwrap();
    desk.assert_in_order();
    assert_eq!(desk.count(), 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_in_flight_behind_a_stuck_key_are_bounded() {
    let case = Case::new(stack_or_leave_out!(), 1).await;
    fill(&case.stack, &case.topic, 0, 3000).await;
    let (desk, gate) = Desk::holding("key-0");
    let running = Running::start(case.app(&desk, |config| {
        config.max_in_flight = Some(500);
        config.max_run_records = Some(100);
    }));
    eventually("it has filled up", async || desk.count() >= 450).await;
    gate.add_permits(1);
    case.caught_up().await;
    running.stop().await.unwrap();
    desk.assert_in_order();
    assert_eq!(desk.count(), 3000);
    let handled = desk.0.handled.lock().unwrap();
    let mut beside = handled.iter().take_while(|(key, _)| key != "key-0");
    assert!(beside.all(|(_, offset)| *offset < 500), "500 beyond the oldest and no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_stands_for_long_is_shown_and_makes_it_unready() {
    let case = Case::new(stack_or_leave_out!(), 1).await;
    fill(&case.stack, &case.topic, 0, 100).await;
    let (desk, gate) = Desk::holding("key-3");
    let app = case.app(&desk, |config| config.stuck_after = Some(Duration::from_secs(1)));
    let health = app.health();
    let running = Running::start(app);
    eventually("it is stuck", async || {
        health.problems().iter().any(|problem| problem.contains("/3 is unfini"))
    })
    .await;
    assert!(!health.is_ready());
    let oldest = health.oldest();
    assert_eq!((oldest.len(), oldest[0].offset, &*oldest[0].handlers[0]), (1, 3, "by_key"));
    // FNV-1a of `key-3`.
    assert_eq!(oldest[0].key_hash, Some(0x55e0_3120));
    assert!(oldest[0].age > Duration::from_secs(1));
    gate.add_permits(1);
    case.caught_up().await;
    eventually("it is ready again", async || health.is_ready() && health.oldest().is_empty()).await;
    running.stop().await.unwrap();
    assert!(!health.is_ready(), "it has ended");
}

/// Notes in a file that it was called, and is killed there.
#[handler(topic = "overridden", guarantee = "at_most_once_losing_work_in_flight")]
async fn once_at_most(record: Record<'_>) -> HandlerResult {
    use std::io::Write as _;
    let file = std::fs::File::options().append(true).open(std::env::var("TEST_FILE").unwrap())?;
    writeln!(&file, "{}", record.offset())?;
    if record.offset() == 5 && std::env::var("TEST_KILL").is_ok() {
        std::process::abort();
    }
    Ok(())
}

#[tokio::test]
#[ignore = "a program that another test starts"]
async fn program_that_handles_at_most_once() {
    let Ok(topic) = std::env::var("TEST_TOPIC") else { return };
    let stack = stack_or_leave_out!();
    let group = std::env::var("TEST_GROUP").unwrap();
    stack.app().handler(once_at_most {}.route().topic(topic).group(group)).run().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_has_to_be_asked_for_and_then_repeats_nothing() {
    let case = Case::new(stack_or_leave_out!(), 1).await;
    fill(&case.stack, &case.topic, 0, 20).await;
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(&case.group);
    std::fs::write(&file, "").unwrap();
    let variables = [
        ("TEST_TOPIC", &*case.topic),
        ("TEST_GROUP", &*case.group),
        ("TEST_FILE", file.to_str().unwrap()),
        ("TEST_KILL", "yes"),
    ];
    let start = |variables| Program::start("program_that_handles_at_most_once", variables);
    assert!(!start(&variables).ended().await.success(), "it is aborted in its sixth record");
    fill(&case.stack, &case.topic, 0, 10).await;
    let mut program = start(&variables[..3]);
    case.caught_up().await;
    let lines = || std::fs::read_to_string(&file).unwrap();
    // The last one may be committed and not handled yet.
    eventually("the last one is handled", async || lines().contains("29")).await;
    program.signal(Signal::SIGTERM);
    program.ended().await;
    let handled: Vec<i64> = lines().lines().map(|line| line.parse().unwrap()).collect();
    assert!(handled.is_sorted_by(|a, b| a < b), "none twice: {handled:?}");
    assert!(handled.starts_with(&[0, 1, 2, 3, 4, 5]), "{handled:?}");
    assert!(handled.ends_with(&(20..30).collect::<Vec<_>>()), "{handled:?}");
    std::fs::remove_file(file).unwrap();
}

/// Fails at the first attempt at one record.
#[handler(topic = "overridden", order = "key", concurrency = 4, backoff = "2s", max_backoff = "2s")]
async fn fail_once(record: Record<'_>, attempt: Attempt, desk: State<Desk>) -> HandlerResult {
    if record.payload() == Some(b"7") && attempt.0 == 1 {
        return Err(HandlerError::new("not yet").retry_after(Duration::from_secs(2)));
    }
    desk.work(record).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_tried_again_holds_only_itself() {
    let case = Case::new(stack_or_leave_out!(), 1).await;
    fill(&case.stack, &case.topic, 0, 1000).await;
    let desk = Desk::default();
    let route = fail_once {}.route().topic(&case.topic).group(&case.group);
    let started = Instant::now();
    let running = Running::start(case.stack.app().state(desk.clone()).handler(route));
    eventually("all but the key are handled", async || desk.count() == 900).await;
    let others = started.elapsed();
    case.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(desk.count(), 1000);
    desk.assert_in_order();
    assert!(started.elapsed() > others + Duration::from_millis(500), "the others did not wait for it");
}

/// Adds to a key's chain in a transaction; a poisoned record fails for good.
#[handler(topic = "overridden", order = "key")]
async fn chain(record: Record<'_>, payload: &[u8], tx: &mut Tx) -> HandlerResult {
    if payload.starts_with(b"poison") {
        return Err(HandlerError::new("poison").permanent());
    }
    sqlx::query(
        "insert into chains (key, chain) values ($1, array[$2]) \
         on conflict (key) do update set chain = chains.chain || excluded.chain",
    )
    .bind(record.key().unwrap_or_default())
    .bind(record.offset())
    .execute(tx)
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_share_transactions_and_one_without_its_dead_letter_topic_holds_only_itself() {
    let case = Case::new(stack_or_leave_out!(), 1).await;
    let (database, letters) = (case.stack.database().await, unique("letters"));
    database.execute("create table chains (key bytea primary key, chain bigint[] not null)").await;
    let payload = |number: usize| if number == 500 { "poison".to_owned() } else { number.to_string() };
    let records = (0..5000).map(|number| (format!("key-{}", number % 50), payload(number)));
    produce(&case.stack.producer(), &case.topic, records).await;
    let mut config = Config::default();
    config.dead_letter.create = Some(false);
    config.dead_letter.check = Some(false);
    let route = chain {}.route().topic(&case.topic).group(&case.group).dead_letter(&letters);
    let app = case.stack.app().config(config).database_url(&database.url).migrate(true);
    let begun =
        database.number("select xact_commit from pg_stat_database where datname = current_database()").await;
    let running = Running::start(app.handler(route));
    let done = "select coalesce(sum(cardinality(chain)), 0)::bigint from chains";
    // Of key-0, the ten before the poison.
    eventually("all others are done", async || database.number(done).await == 4910).await;
    case.stack.topic_named(&letters, 1, &[]).await;
    case.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(database.number(done).await, 4999);
    assert_eq!(read_all(&case.stack, &letters, 0).await.len(), 1);
    let unordered = "select count(*) from chains where chain <> \
                     (select array_agg(place order by place) from unnest(chain) place)";
    assert_eq!(database.number(unordered).await, 0);
    let commits = "select xact_commit from pg_stat_database where datname = current_database()";
    eventually("statistics are there", async || database.number(commits).await > begun).await;
    let commits = database.number(commits).await - begun;
    assert!(commits < 2500, "{commits} transactions for 5,000 records");
}

#[handler(topic = "overridden", order = "none", identity = header("event-id"))]
async fn by_itself(record: Record<'_>, desk: State<Desk>) {
    let copy = record.headers().get_str("event-id").unwrap().to_owned();
    desk.0.enter(&copy);
    tokio::time::sleep(Duration::from_millis(20)).await;
    desk.0.0.busy.lock().unwrap().remove(&copy);
    desk.0.0.handled.lock().unwrap().push((copy, record.offset()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_order_all_go_side_by_side_but_copies_of_one_event() {
    let case = Case::new(stack_or_leave_out!(), 1).await;
    let producer = case.stack.producer();
    for number in 0..100 {
        produce_one(&producer, &case.topic, 0, Some("x"), &[("event-id", &(number / 2).to_string())]).await;
    }
    let (desk, mut config) = (Desk::default(), Config::default());
    config.dedupe = Some(DedupeKind::Memory);
    let route = by_itself {}.route().topic(&case.topic).group(&case.group);
    let running = Running::start(case.stack.app().config(config).state(desk.clone()).handler(route));
    case.caught_up().await;
    running.stop().await.unwrap();
    desk.assert_none_met();
    assert_eq!(desk.count(), 50, "of two copies one");
    assert_eq!(desk.by_key().len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_key_are_one_key() {
    let case = Case::new(stack_or_leave_out!(), 1).await;
    let producer = case.stack.producer();
    for _ in 0..50 {
        produce_one(&producer, &case.topic, 0, Some("x"), &[]).await;
    }
    let desk = Desk::pausing(Duration::from_millis(1));
    let running = Running::start(case.app(&desk, |_| {}));
    case.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(desk.by_key(), BTreeMap::from([("none".to_owned(), (0..50).collect())]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_joins_and_leaves_repeats_and_reorders_nothing() {
    let case = Case::new(stack_or_leave_out!(), 4).await;
    let records = (0..20_000).map(|number| (format!("key-{}", number % 100), number.to_string()));
    produce(&case.stack.producer(), &case.topic, records).await;
    let desk = Desk::pausing(Duration::from_millis(2));
    let first = Running::start(case.app(&desk, |_| {}));
    for round in 1..=3 {
        eventually("work goes on", async || desk.count() > 2000 * round).await;
        let second = Running::start(case.app(&desk, |_| {}));
        eventually("work goes on", async || desk.count() > 2000 * round + 1000).await;
        second.stop().await.unwrap();
    }
    case.stack.caught_up(&case.group, &case.topic, 4).await;
    first.stop().await.unwrap();
    desk.assert_in_order();
    assert_eq!(desk.count(), 20_000);
}

//! Members that come, go and restart: what moves, what is finished before, and what is left behind.
#![allow(clippy::unwrap_used)] // In tests a panic is the report.

use onceward::prelude::*;
use onceward::{Config, Error, GroupProtocol};
use rdkafka::producer::FutureRecord;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{Program, Running, Signal, Stack, eventually, fill, stack_or_leave_out, unique};
use tokio::sync::Semaphore;

use GroupProtocol::{Classic, Consumer};

/// An application that finds out quickly who is in its group.
fn app(stack: &Stack, protocol: GroupProtocol) -> App {
    let mut config = Config::default();
    config.group_protocol = Some(protocol);
    config.commit_interval = Some(Duration::from_millis(200));
    let app = App::new().brokers(&stack.brokers).config(config);
    match protocol {
        Classic => app.kafka("session.timeout.ms", "6000").kafka("heartbeat.interval.ms", "300"),
        // The broker says how long a session is.
        _ => app,
    }
}

fn with_instance(app: App, instance: &str) -> App {
    let mut config = Config::default();
    config.instance_id = Some(instance.to_owned());
    app.config(config)
}

/// What all members have handled, in order: member, partition, offset.
#[derive(Default, Clone)]
struct Log(Arc<Mutex<Vec<(usize, i32, i64)>>>);

impl Log {
    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn of(&self, member: usize) -> usize {
        self.0.lock().unwrap().iter().filter(|(of, ..)| *of == member).count()
    }

    /// Each partition's offsets, in the order in which they were handled by whomever.
    fn partitions(&self) -> BTreeMap<i32, Vec<i64>> {
        let mut partitions: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for (_, partition, offset) in &*self.0.lock().unwrap() {
            partitions.entry(*partition).or_default().push(*offset);
        }
        partitions
    }
}

/// Which member a handler works for.
#[derive(Clone)]
struct Member(usize, Log);

impl Member {
    fn note(&self, record: Record<'_>) {
        self.1.0.lock().unwrap().push((self.0, record.partition(), record.offset()));
    }
}

#[handler(topic = "overridden")]
async fn note(record: Record<'_>, member: State<Member>) {
    member.note(record);
}

/// What a member was told of its partitions.
#[derive(Default, Clone)]
struct Told(Arc<Mutex<Vec<Change>>>);

type Change = (&'static str, BTreeSet<i32>);

impl Told {
    fn hooks(&self, app: App) -> App {
        let (assigned, revoked) = (self.clone(), self.clone());
        let names =
            |partitions: &[onceward::TopicPartition]| partitions.iter().map(|p| p.partition()).collect();
        app.on_assigned(move |partitions| assigned.0.lock().unwrap().push(("assigned", names(partitions))))
            .on_revoked(move |partitions| revoked.0.lock().unwrap().push(("revoked", names(partitions))))
    }

    /// The partitions that it has now.
    fn has(&self) -> BTreeSet<i32> {
        self.0.lock().unwrap().iter().fold(BTreeSet::new(), |has, (what, which)| match *what {
            "assigned" => &has | which,
            _ => &has - which,
        })
    }

    fn changes(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

// --- joining and leaving ---

async fn join_and_leave(protocol: GroupProtocol) {
    const PARTITIONS: i32 = 6;
    let stack = stack_or_leave_out!();
    let (topic, group, log) = (stack.topic("members", PARTITIONS).await, unique("group"), Log::default());
    let member = |number| {
        let route = note {}.route().topic(&topic).group(&group);
        app(&stack, protocol).state(Member(number, log.clone())).handler(route)
    };
    let done = Arc::new(AtomicBool::new(false));
    let load = {
        let (stack, topic, done) = (stack.clone(), topic.clone(), done.clone());
        tokio::spawn(async move {
            let producer = stack.producer();
            let mut produced = 0;
            while !done.load(Ordering::Relaxed) {
                for partition in 0..PARTITIONS {
                    let record = FutureRecord::<str, str>::to(&topic).partition(partition).payload("x");
                    producer.send(record, support::PATIENCE).await.unwrap();
                }
                produced += 1;
            }
            produced
        })
    };
    let first = Running::start(member(0));
    eventually("the first one works", async || log.of(0) > 100).await;
    for number in 1..=5 {
        let second = Running::start(member(number));
        eventually("the second one works", async || log.of(number) > 100).await;
        second.stop().await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let produced: i64 = load.await.unwrap();
    stack.caught_up(&group, &topic, PARTITIONS).await;
    first.stop().await.unwrap();
    for (partition, offsets) in log.partitions() {
        assert!(offsets.iter().copied().eq(0..produced), "partition {partition}: {}", irregular(&offsets));
    }
    assert_eq!(log.count(), usize::try_from(produced * i64::from(PARTITIONS)).unwrap());
}

fn irregular(offsets: &[i64]) -> String {
    let jumps = offsets.windows(2).filter(|pair| pair[0] + 1 != pair[1]);
    format!("{} records, and not in sequence at {:?}", offsets.len(), jumps.collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_join_and_leave_under_load_handle_all_once_in_order() {
    join_and_leave(Classic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_join_and_leave_under_load_handle_all_once_in_order_kip_848() {
    join_and_leave(Consumer).await;
}

// --- static membership ---

async fn restart(protocol: GroupProtocol) {
    let stack = stack_or_leave_out!();
    let (topic, group, log) = (stack.topic("static", 4).await, unique("group"), Log::default());
    let member = |number: usize, told: &Told| {
        let route = note {}.route().topic(&topic).group(&group);
        let app = app(&stack, protocol).state(Member(number, log.clone())).handler(route);
        told.hooks(with_instance(app, &format!("instance-{number}")))
    };
    let (one, other) = (Told::default(), Told::default());
    let first = Running::start(member(1, &one));
    let second = Running::start(member(2, &other));
    eventually("each has its half", async || one.has().len() == 2 && other.has().len() == 2).await;
    let (has, changes) = (other.has(), one.changes());

    second.stop().await.unwrap();
    let other = Told::default();
    let second = Running::start(member(2, &other));
    eventually("it has back what it had", async || other.has() == has).await;
    for partition in 0..4 {
        fill(&stack, &topic, partition, 10).await;
    }
    stack.caught_up(&group, &topic, 4).await;
    assert_eq!(one.changes(), changes, "the other member was not told of anything");
    assert_eq!((log.of(1), log.of(2)), (20, 20));
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_the_same_instance_id_moves_no_partition() {
    restart(Classic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_the_same_instance_id_moves_no_partition_kip_848() {
    restart(Consumer).await;
}

/// Runs two members with one instance id; gives the error of the one that had to go, and the other.
async fn one_too_many(protocol: GroupProtocol, old_goes: bool) {
    let stack = stack_or_leave_out!();
    let (topic, group, log) = (stack.topic("twice", 2).await, unique("group"), Log::default());
    let member = |number: usize, told: &Told| {
        let route = note {}.route().topic(&topic).group(&group);
        let app = app(&stack, protocol).state(Member(number, log.clone())).handler(route);
        told.hooks(with_instance(app, "same"))
    };
    let told = Told::default();
    let old = Running::start(member(1, &told));
    eventually("the first one has its partitions", async || told.has().len() == 2).await;
    let new = Running::start(member(2, &Told::default()));
    let (goes, stays) = if old_goes { (old, new) } else { (new, old) };
    let error = format!("{:?}", goes.ended().await.unwrap_err());
    assert!(error.contains("another member has the same `instance_id`"), "{error}");
    fill(&stack, &topic, 0, 10).await;
    stack.caught_up(&group, &topic, 2).await;
    stays.stop().await.unwrap();
    assert_eq!(log.count(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_members_with_one_instance_id_the_older_ends_with_an_error_that_says_so() {
    one_too_many(Classic, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_members_with_one_instance_id_the_newer_ends_with_an_error_that_says_so_kip_848() {
    one_too_many(Consumer, false).await;
}

// --- draining ---

/// Counts what handlers begin and finish; what is slow is up to the test.
#[derive(Default)]
struct Work {
    begun: Mutex<Vec<(i32, i64)>>,
    finished: Mutex<Vec<(i32, i64)>>,
    abandoned: AtomicUsize,
    quick: AtomicBool,
}

impl Work {
    fn begin<'w>(&'w self, record: Record<'_>) -> InWork<'w> {
        let at = (record.partition(), record.offset());
        self.begun.lock().unwrap().push(at);
        InWork { work: self, at, finished: false }
    }

    fn has_begun(&self) -> usize {
        self.begun.lock().unwrap().len()
    }

    fn finished(&self) -> Vec<(i32, i64)> {
        self.finished.lock().unwrap().clone()
    }
}

/// A record in a handler's hands.
struct InWork<'w> {
    work: &'w Work,
    at: (i32, i64),
    finished: bool,
}

impl InWork<'_> {
    fn finish(mut self) {
        self.work.finished.lock().unwrap().push(self.at);
        self.finished = true;
    }
}

impl Drop for InWork<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.work.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[handler(topic = "overridden")]
async fn take_a_second(record: Record<'_>, work: State<Arc<Work>>) {
    let in_work = work.begin(record);
    if !work.quick.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    in_work.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_handlers_hands_on_a_revoke_is_finished_and_committed() {
    let stack = stack_or_leave_out!();
    let (topic, group, work) = (stack.topic("drain", 2).await, unique("group"), Arc::new(Work::default()));
    for partition in 0..2 {
        fill(&stack, &topic, partition, 20).await;
    }
    let told = [Told::default(), Told::default()];
    let member = |told: &Told| {
        let route = take_a_second {}.route().topic(&topic).group(&group);
        told.hooks(app(&stack, Classic).state(work.clone()).handler(route))
    };
    let first = Running::start(member(&told[0]));
    eventually("both partitions are in work", async || work.has_begun() >= 2).await;
    let second = Running::start(member(&told[1]));
    eventually("the second one has a partition", async || told[1].has().len() == 1).await;
    work.quick.store(true, Ordering::Relaxed);
    stack.caught_up(&group, &topic, 2).await;
    second.stop().await.unwrap();
    first.stop().await.unwrap();
    let begun = work.begun.lock().unwrap().clone();
    assert_eq!(begun.iter().collect::<BTreeSet<_>>().len(), begun.len(), "some twice: {begun:?}");
    assert_eq!((begun.len(), work.finished().len()), (40, 40));
    assert_eq!(work.abandoned.load(Ordering::Relaxed), 0);
}

#[derive(Clone)]
struct Gate(Arc<Semaphore>);

#[handler(topic = "overridden")]
async fn wait_at_the_gate(record: Record<'_>, gate: State<Gate>, work: State<Arc<Work>>) -> HandlerResult {
    let in_work = work.begin(record);
    let _permit = gate.0.0.acquire().await?;
    in_work.finish();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_longer_than_the_drain_deadline_is_abandoned_and_done_again_by_the_new_owner() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("abandon", 2).await, unique("group"));
    for partition in 0..2 {
        fill(&stack, &topic, partition, 5).await;
    }
    let gates = [Gate(Arc::new(Semaphore::new(0))), Gate(Arc::new(Semaphore::new(1)))];
    let works = [Arc::new(Work::default()), Arc::new(Work::default())];
    let told = [Told::default(), Told::default()];
    let member = |number: usize| {
        let route = wait_at_the_gate {}.route().topic(&topic).group(&group);
        let app = app(&stack, Classic).drain_deadline(Duration::from_millis(500));
        told[number].hooks(app.state(gates[number].clone()).state(works[number].clone()).handler(route))
    };
    let first = Running::start(member(0));
    eventually("both partitions are in work", async || works[0].has_begun() == 2).await;
    let second = Running::start(member(1));
    eventually("the second one has done all of its partition", async || works[1].finished().len() == 5).await;
    let moved = *told[1].has().first().unwrap();
    assert_eq!(works[1].finished(), (0..5).map(|offset| (moved, offset)).collect::<Vec<_>>());
    assert_eq!(works[0].abandoned.load(Ordering::Relaxed), 1, "the handler is dropped");
    gates[0].0.add_permits(1);
    stack.caught_up(&group, &topic, 2).await;
    assert_eq!(works[0].finished(), (0..5).map(|offset| (1 - moved, offset)).collect::<Vec<_>>());
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

/// A thread that is blocked cannot be stopped; what it finishes late must not count.
#[handler(topic = "overridden")]
#[allow(clippy::disallowed_methods, reason = "it holds up a thread on purpose")]
async fn block_the_thread(record: Record<'_>, work: State<Arc<Work>>) {
    let in_work = work.begin(record);
    if !work.quick.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_secs(4));
    }
    in_work.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_abandoned_handler_that_cannot_be_stopped_commits_nothing() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("zombie", 1).await, unique("group"));
    fill(&stack, &topic, 0, 3).await;
    let (work, quick) = (Arc::new(Work::default()), Arc::new(Work::default()));
    quick.quick.store(true, Ordering::Relaxed);
    let member = |work: &Arc<Work>| {
        let route = block_the_thread {}.route().topic(&topic).group(&group);
        app(&stack, Classic)
            .drain_deadline(Duration::from_millis(500))
            .shutdown_deadline(Duration::from_millis(500))
            .state(work.clone())
            .handler(route)
    };
    let first = Running::start(member(&work));
    eventually("it is in work", async || work.has_begun() == 1).await;
    let begun = Instant::now();
    let error = first.stop().await.unwrap_err();
    assert!(matches!(error, Error::Unfinished { partitions: 1, .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(3), "it does not wait for the handler");
    assert_eq!(stack.committed(&group, &topic, 0), Some(0));
    let second = Running::start(member(&quick));
    stack.caught_up(&group, &topic, 1).await;
    eventually("the first one's handler is back", async || work.finished() == [(0, 0)]).await;
    assert_eq!(quick.finished(), [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(work.has_begun(), 1, "it begins nothing more");
    second.stop().await.unwrap();
}

// --- shutting down ---

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_under_load_leaves_nothing_undone_and_nothing_done_twice() {
    let stack = stack_or_leave_out!();
    let (topic, group, log) = (stack.topic("shutdown", 3).await, unique("group"), Log::default());
    for partition in 0..3 {
        fill(&stack, &topic, partition, 20_000).await;
    }
    for number in 0.. {
        let route = note {}.route().topic(&topic).group(&group);
        let app = app(&stack, Classic).state(Member(number, log.clone())).handler(route);
        let running = Running::start(app);
        eventually("it works", async || log.of(number) > 0 || log.count() == 60_000).await;
        running.stop().await.unwrap();
        if log.count() == 60_000 && number > 0 {
            break;
        }
    }
    for (partition, offsets) in log.partitions() {
        assert!(offsets.iter().copied().eq(0..20_000), "partition {partition}: {}", irregular(&offsets));
        assert_eq!(stack.committed(&group, &topic, partition), Some(20_000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_does_not_finish_within_the_shutdown_deadline_is_an_error_and_is_not_committed() {
    let stack = stack_or_leave_out!();
    let (topic, group, work) = (stack.topic("late", 2).await, unique("group"), Arc::new(Work::default()));
    for partition in 0..2 {
        fill(&stack, &topic, partition, 2).await;
    }
    let route = wait_at_the_gate {}.route().topic(&topic).group(&group);
    let gate = Gate(Arc::new(Semaphore::new(0)));
    let app = app(&stack, Classic)
        .drain_deadline(Duration::from_secs(1))
        .shutdown_deadline(Duration::from_secs(1))
        .state(gate)
        .state(work.clone())
        .handler(route);
    let running = Running::start(app);
    eventually("both partitions are in work", async || work.has_begun() == 2).await;
    let error = running.stop().await.unwrap_err();
    assert!(matches!(error, Error::Unfinished { partitions: 2, .. }), "{error:?}");
    assert!(error.to_string().contains("`shutdown_deadline`"), "{error}");
    assert_eq!((0..2).map(|p| stack.committed(&group, &topic, p)).collect::<Vec<_>>(), [Some(0), Some(0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_are_called_in_order() {
    let stack = stack_or_leave_out!();
    let (topic, group, log) = (stack.topic("hooks", 1).await, unique("group"), Log::default());
    fill(&stack, &topic, 0, 1).await;
    let called: Arc<Mutex<Vec<String>>> = Arc::default();
    let call = |name: &str| {
        let (called, log, name) = (called.clone(), log.clone(), name.to_owned());
        move || called.lock().unwrap().push(format!("{name} after {} records", log.count()))
    };
    let (start, first, second, stop) = (call("start"), call("assigned"), call("revoked"), call("stop"));
    let route = note {}.route().topic(&topic).group(&group);
    let app = app(&stack, Classic)
        .state(Member(0, log.clone()))
        .handler(route)
        .on_start(async move || {
            start();
            Ok(())
        })
        .on_assigned(move |_| first())
        .on_revoked(move |_| second())
        .on_stop(async move || {
            stop();
            Ok(())
        });
    let running = Running::start(app);
    stack.caught_up(&group, &topic, 1).await;
    running.stop().await.unwrap();
    let expected = [
        "start after 0 records",
        "assigned after 0 records",
        "revoked after 1 records",
        "stop after 1 records",
    ];
    assert_eq!(*called.lock().unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_on_start_that_fails_ends_the_application_before_it_consumes() {
    let stack = stack_or_leave_out!();
    let (topic, group, log) = (stack.topic("unstarted", 1).await, unique("group"), Log::default());
    fill(&stack, &topic, 0, 1).await;
    let route = note {}.route().topic(&topic).group(&group);
    let app = app(&stack, Classic)
        .state(Member(0, log.clone()))
        .handler(route)
        .on_start(async || Err("the cache is cold".into()));
    let error = app.run().await.unwrap_err();
    assert_eq!(format!("{error:?}"), "a hook on start failed: the cache is cold");
    assert_eq!(log.count(), 0);
}

// --- processes ---

/// The first record is done at once. The second one leaves a sign and takes for ever.
#[handler(topic = "overridden")]
async fn handle_one(record: Record<'_>) -> HandlerResult {
    if record.offset() > 0 {
        std::fs::write(sign(&std::env::var("TEST_GROUP")?), "in flight")?;
        std::future::pending::<()>().await;
    }
    Ok(())
}

fn sign(group: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(group)
}

#[tokio::test]
#[ignore = "a program that another test starts"]
async fn program_that_handles_one() {
    let (Ok(topic), Ok(group)) = (std::env::var("TEST_TOPIC"), std::env::var("TEST_GROUP")) else { return };
    let stack = stack_or_leave_out!();
    app(&stack, Classic).handler(handle_one {}.route().topic(topic).group(group)).run().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_it_cleanly_and_a_second_one_at_once() {
    let stack = stack_or_leave_out!();
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let (topic, group) = (stack.topic("signals", 1).await, unique("group"));
        fill(&stack, &topic, 0, 1).await;
        let mut program =
            Program::start("program_that_handles_one", &[("TEST_TOPIC", &topic), ("TEST_GROUP", &group)]);
        stack.caught_up(&group, &topic, 1).await;
        program.signal(signal);
        assert!(program.ended().await.success(), "{signal}: nothing was in flight");

        fill(&stack, &topic, 0, 1).await;
        let mut program =
            Program::start("program_that_handles_one", &[("TEST_TOPIC", &topic), ("TEST_GROUP", &group)]);
        eventually("the second record is in flight", async || sign(&group).exists()).await;
        // So it would wait for it until the deadline of 20 s.
        program.signal(signal);
        let begun = Instant::now();
        eventually("the second signal ends it", || {
            program.signal(signal);
            std::future::ready(program.has_ended())
        })
        .await;
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert_eq!(program.ended().await.code(), Some(code), "{signal}");
        assert_eq!(stack.committed(&group, &topic, 0), Some(1));
        std::fs::remove_file(sign(&group)).unwrap();
    }
}

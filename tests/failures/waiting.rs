//! What cannot go on waits, and nothing else does: neither its neighbours nor a shutdown.

use super::dead_letters::{effects, effects_table};
use super::*;
use onceward::middleware::{Middleware, NextRun, Outcomes, Run};
use onceward::{DeadLetterConfig, Order};
use rdkafka::admin::AdminOptions;
use rdkafka::producer::FutureRecord;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{PATIENCE, Proxy, Running, eventually, produce_one, stack_or_leave_out, text};

/// Sends payloads, each as its own key.
async fn send(world: &World, payloads: impl IntoIterator<Item = String>) {
    let producer = world.stack.producer();
    for payload in payloads {
        let record = FutureRecord::to(&world.topic).partition(0).key(&payload).payload(&payload);
        producer.send(record, PATIENCE).await.unwrap();
    }
}

#[handler(topic = "overridden", order = "key", max_attempts = 1)]
async fn write_good(payload: &[u8], tx: &mut Tx) -> HandlerResult {
    let payload = std::str::from_utf8(payload)?;
    sqlx::query("insert into effects (payload) values ($1)").bind(payload).execute(tx).await?;
    if payload.starts_with("bad") { Err("bad".into()) } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_whose_dead_letters_are_refused_hold_no_transaction_of_others() {
    let world = World::new(stack_or_leave_out!(), 1, 0).await;
    world.stack.topic_named(&world.letters, 1, &[]).await;
    let database = effects_table(&world.stack).await;
    send(&world, (0..5).map(|number| format!("bad {number}"))).await;
    let never = DeadLetterConfig::default().create(false);
    let (topic, stack) = (world.letters.clone(), world.stack.clone());
    let app = world.stack.app().database_url(&database.url).migrate(true).dead_letters(never);
    // After the checks of the start.
    let app = app.handler(world.route(write_good {})).on_start(move || async move {
        stack.admin().delete_topics(&[&topic], &AdminOptions::new()).await?;
        Ok(())
    });
    let running = Running::start(app);
    for round in 0..4 {
        send(&world, (0..5).map(|number| format!("good {round} {number}"))).await;
        eventually("all other keys are done", async || effects(&database).await.len() == 5 * (round + 1))
            .await;
    }
    assert_eq!(world.stack.committed(&world.group, &world.topic, 0).unwrap_or_default(), 0);
    world.stack.topic_named(&world.letters, 1, &[]).await;
    world.caught_up(1).await;
    running.stop().await.unwrap();
    assert_eq!((effects(&database).await.len(), world.letters().await.len()), (20, 5));
}

#[handler(
    topic = "overridden",
    guarantee = "at_most_once_losing_work_in_flight",
    dead_letter = "none",
    max_attempts = 1
)]
async fn never_works(calls: State<Calls>) -> HandlerResult {
    calls.note(0, 1);
    Err("bad".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_fails_at_most_once_is_called_once_more_at_a_shutdown() {
    let world = World::new(stack_or_leave_out!(), 1, 1).await;
    let calls = Calls::default();
    let app = world.stack.app().state(calls.clone()).handler(world.route(never_works {}));
    let running = Running::start(app);
    // From then on it waits for longer than the shutdown takes.
    eventually("it fails", async || calls.of(0) >= 5).await;
    let before = calls.of(0);
    running.stop().await.unwrap();
    let more = calls.of(0) - before;
    assert!(more <= 1, "{more} calls after the shutdown has begun");
}

/// Fails once, by chance, when the other group has failed for long.
#[handler(topic = "overridden", max_attempts = 3)]
async fn fail_once(attempt: Attempt, calls: State<Calls>, others: State<Failures>) -> HandlerResult {
    eventually("the other group fails", async || others.count() >= 5).await;
    calls.note(0, attempt.0);
    if calls.of(0) == 1 { Err("a hiccup".into()) } else { Ok(()) }
}

#[derive(Clone, Default)]
struct Failures(Arc<AtomicUsize>);

impl Failures {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[handler(topic = "overridden", dead_letter = "none", max_attempts = 3)]
async fn fail_on(failures: State<Failures>) -> HandlerResult {
    failures.add();
    Err("bad".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_of_one_group_are_not_those_of_another() {
    let world = World::new(stack_or_leave_out!(), 1, 0).await;
    let (calls, failures) = (Calls::default(), Failures::default());
    let other = world.route(fail_on {}).group(unique("other"));
    let app = world.app(world.route(fail_once {}), &calls).state(failures.clone()).handler(other);
    let running = Running::start(app);
    produce_one(&world.stack.producer(), &world.topic, 0, Some("1"), &[]).await;
    world.caught_up(1).await;
    running.stop().await.unwrap();
    assert_eq!(calls.all(), [(0, 1), (0, 2)], "whatever the other counts");
}

/// Cuts the connection to PostgreSQL while it works, the first time.
#[handler(topic = "overridden")]
async fn cut_off(payload: &[u8], calls: State<Calls>, proxy: State<Arc<Proxy>>) -> HandlerResult {
    calls.note(number(payload)?, 1);
    if calls.all().len() == 1 {
        proxy.close();
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_cannot_be_noted_is_not_done_again_by_the_same_owner() {
    for order in [Order::Partition, Order::Key] {
        let world = World::new(stack_or_leave_out!(), 1, 0).await;
        let database = world.stack.database().await;
        let proxy = Arc::new(Proxy::before(&world.stack.database_url).await);
        let calls = Calls::default();
        let app = world.stack.app().database_url(proxy.url(&database.url)).migrate(true);
        let app = app.state(calls.clone()).state(proxy.clone());
        let running = Running::start(app.handler(world.route(cut_off {}).order(order)));
        send(&world, (0..3).map(|number| number.to_string())).await;
        eventually("it works", async || !calls.all().is_empty()).await;
        // How long it is away.
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.open();
        world.caught_up(1).await;
        running.stop().await.unwrap();
        let mut all = calls.all();
        all.sort_unstable();
        assert_eq!(all, [(0, 1), (1, 1), (2, 1)], "{order:?}");
        assert_eq!(database.number("select count(*) from onceward_dedupe").await, 3);
    }
}

/// Panics around the runs that hold a certain record.
struct Panics;

impl Middleware for Panics {
    async fn call<'a, N: NextRun>(&'a self, run: Run<'a>, next: &'a N) -> Outcomes {
        assert!(!run.iter().any(|record| record.payload() == Some(b"2")), "not this one");
        next.run(run).await
    }
}

#[handler(topic = "overridden", max_attempts = 3)]
async fn count(payload: &[u8], calls: State<Calls>) -> HandlerResult {
    calls.note(number(payload)?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_middleware_that_panics_around_a_run_fails_the_one_record() {
    for order in [Order::Partition, Order::Key] {
        let world = World::new(stack_or_leave_out!(), 1, 0).await;
        let calls = Calls::default();
        send(&world, (0..5).map(|number| number.to_string())).await;
        let app = world.app(world.route(count {}).order(order).around(Panics), &calls);
        let running = Running::start(app);
        world.caught_up(1).await;
        running.stop().await.unwrap();
        let mut all = calls.all();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all, [(0, 1), (1, 1), (3, 1), (4, 1)]);
        let letters = world.letters().await;
        assert_eq!(numbers(&letters), [2]);
        assert_eq!(text(&letters[0], "onceward.dlq.reason"), "max_attempts");
        assert_eq!(text(&letters[0], "onceward.dlq.attempts"), "3");
    }
}

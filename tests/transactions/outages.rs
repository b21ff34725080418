//! What is nobody's fault: a network that breaks, a PostgreSQL that is away, a
//! deadlock. No attempt is counted, and effects count once.

use super::*;
use std::time::Instant;
use support::stack_or_leave_out;
use support::{Break, OwnPostgres, Proxy};
use tokio::sync::Barrier;

/// Breaks the connection at five COMMITs.
async fn commits_break<H: Handler>(world: &World, handler: H, at: Break) -> Script {
    const RUN: i64 = 20;
    let (proxy, script) = (Proxy::before(&world.stack.database_url).await, Script::good());
    let app = world.app().database_url(proxy.url(&world.database.url)).state(script.clone());
    let running = Running::start(app.handler(world.route(handler)));
    for round in 0..5 {
        proxy.break_next_commit(at);
        world.send_numbers(round * RUN..(round + 1) * RUN).await;
        eventually("a COMMIT breaks", async || proxy.broken() > usize::try_from(round).unwrap()).await;
    }
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..5 * RUN).await;
    script.blames_only(&[]);
    script
}

/// The claims decide: what they hold was done.
fn each_is_handled_once(script: &Script) {
    let calls = script.calls();
    let twice = calls.iter().find(|call| script.calls_of(call.number) > 1);
    assert!(twice.is_none(), "{twice:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_counts_once() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    each_is_handled_once(&commits_break(&world, one {}, Break::AfterCommit).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_counts_once_in_batches() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    each_is_handled_once(&commits_break(&world, batch {}, Break::AfterCommit).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_lost_is_done_again() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    commits_break(&world, one {}, Break::BeforeCommit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_lost_is_done_again_in_batches() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    commits_break(&world, batch {}, Break::BeforeCommit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_that_is_away_for_10_s_counts_no_attempt() {
    let postgres = OwnPostgres::start_new();
    let stack = Stack { database_url: postgres.url(), ..stack_or_leave_out!() };
    let (world, script) = (World::new(stack, 3).await, Script::good());
    let send = async |numbers: Range<i64>| {
        let sent = |number: i64| Sent { number, partition: (number % 3) as i32, ..Sent::default() };
        world.send(numbers.map(sent)).await;
    };
    let running = Running::start(world.app().state(script.clone()).handler(world.route(slow {})));
    send(0..600).await;
    eventually("it works", async || script.calls().len() > 30).await;
    postgres.stop();
    send(600..900).await;
    // How long it is away.
    tokio::time::sleep(Duration::from_secs(10)).await;
    postgres.start();
    world.caught_up().await;
    assert!(running.is_running());
    running.stop().await.unwrap();
    world.effects_once(0..900).await;
    script.blames_only(&[]);
}

#[handler(topic = "overridden")]
async fn slow(
    payload: &[u8],
    Attempt(attempt): Attempt,
    script: State<Script>,
    tx: &mut Tx,
) -> HandlerResult {
    // The work that it stands for takes so long.
    tokio::time::sleep(Duration::from_millis(2)).await;
    script.play(number(payload)?, attempt, tx).await
}

/// One that is found broken says that the others are too.
#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_do_not_each_cost_a_failed_run() {
    let world = World::new(stack_or_leave_out!(), 12).await;
    let (proxy, script) =
        (Proxy::before(&world.stack.database_url).await, Script::new(Misdeed::Waits, 0..12));
    let app = world.app().database_url(proxy.url(&world.database.url)).state(script.clone());
    let running = Running::start(app.handler(world.route(one {})));
    world.send((0..12).map(|number| Sent { number, partition: number as i32, ..Sent::default() })).await;
    eventually("each partition has a connection", async || script.calls().len() == 12).await;
    script.go_on();
    world.caught_up().await;
    proxy.close();
    proxy.open();
    let started = Instant::now();
    world.send_numbers(12..13).await;
    world.caught_up().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    running.stop().await.unwrap();
    world.effects_once(0..13).await;
    script.blames_only(&[]);
}

/// The first call in each partition waits in the middle for the other's.
#[derive(Clone)]
struct Crossing(Arc<(Barrier, [AtomicBool; 2])>);

#[handler(topic = "overridden")]
async fn crosses(
    position: Position,
    payload: &[u8],
    Attempt(attempt): Attempt,
    crossing: State<Crossing>,
    script: State<Script>,
    tx: &mut Tx,
) -> HandlerResult {
    let partition = position.partition.partition();
    script.play(number(payload)?, attempt, tx).await?;
    let add = "update rows set count = count + 1 where id = $1";
    sqlx::query(add).bind(partition).execute(&mut *tx).await?;
    let (both, met) = &*crossing.0.0;
    if !met[usize::try_from(partition)?].swap(true, Ordering::Relaxed) {
        both.wait().await;
    }
    sqlx::query(add).bind(1 - partition).execute(&mut *tx).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_between_two_partitions_counts_no_attempt() {
    let world = World::new(stack_or_leave_out!(), 2).await;
    world.database.execute("create table rows (id int primary key, count int not null)").await;
    world.database.execute("insert into rows values (0, 0), (1, 0)").await;
    world
        .send((0..200).map(|number| Sent { number, partition: (number % 2) as i32, ..Sent::default() }))
        .await;
    let script = Script::good();
    let crossing = Crossing(Arc::new((Barrier::new(2), Default::default())));
    let app = world.app().state(script.clone()).state(crossing).handler(world.route(crosses {}));
    let running = Running::start(app);
    world.caught_up().await;
    running.stop().await.unwrap();
    eventually("the deadlock is counted", async || {
        let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
        world.database.number(deadlocks).await > 0
    })
    .await;
    world.effects_once(0..200).await;
    assert_eq!(world.database.number("select min(count)::bigint from rows").await, 200);
    assert_eq!(world.database.number("select max(count)::bigint from rows").await, 200);
    script.blames_only(&[]);
}

/// It is not the record's fault, and Onceward's own `lock_timeout` that ended the wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_else_has_locked_for_long_counts_no_attempt() {
    let (world, script) = (World::new(stack_or_leave_out!(), 1).await, Script::new(LOCKS, [5]));
    world.database.execute("create table rows (id int primary key); insert into rows values (0)").await;
    let mut somebody = world.database.connect().await;
    somebody.execute("begin; select from rows for update").await.unwrap();
    world.send_numbers(0..10).await;
    let running = Running::start(world.app().state(script.clone()).handler(world.route(one {})));
    eventually("it is repeated", async || script.calls_of(5) >= 2).await;
    somebody.execute("commit").await.unwrap();
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..10).await;
    script.blames_only(&[]);
}

const LOCKS: Misdeed = Misdeed::FailsInSql("update rows set id = id");

/// Copies of the same events in two partitions, each time in another order.
#[tokio::test(flavor = "multi_thread")]
async fn two_partitions_that_claim_the_same_events_do_not_deadlock() {
    const COUNT: i64 = 2000;
    let world = World::new(stack_or_leave_out!(), 2).await;
    let ids: Vec<String> = (0..COUNT).map(|number| number.to_string()).collect();
    let sent = |number: i64, partition| {
        let headers = vec![("ce_source", "/test"), ("ce_id", &*ids[usize::try_from(number).unwrap()])];
        Sent { number, partition, headers, ..Sent::default() }
    };
    world.send((0..COUNT).map(|number| sent(number, 0))).await;
    world.send((0..COUNT).rev().map(|number| sent(number, 1))).await;
    let script = Script::good();
    let running = Running::start(world.app().state(script.clone()).handler(world.route(one {})));
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once(0..COUNT).await;
    script.blames_only(&[]);
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(world.database.number(deadlocks).await, 0);
}

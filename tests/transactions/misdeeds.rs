//! Handlers that do wrong to the transaction they are given.

use super::*;
use onceward::extract::{Context, FromRecord, Rejection};
use support::{OwnPostgres, stack_or_leave_out};

const COUNT: i64 = 60;

/// Whatever is done wrong at a number: all before it are done and committed, it
/// alone is charged and held, none passes it; and when it behaves all are done.
async fn holds_only_the_culprit<H: Handler>(world: &World, route: Route<H>, script: &Script, culprit: i64) {
    world.send_numbers(0..COUNT).await;
    let running = Running::start(world.app().state(script.clone()).handler(route));
    eventually("it is tried a third time", async || script.attempts(culprit) >= 3).await;
    world.committed(culprit).await;
    world.effects_once_in_order(0..culprit).await;
    assert_eq!(world.claims().await, culprit);
    script.behave();
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..COUNT).await;
    assert_eq!(world.claims().await, COUNT);
    script.blames_only(&[culprit]);
    let tried = |attempt| script.calls().iter().any(|call| (call.number, call.attempt) == (culprit, attempt));
    assert!((1..=script.attempts(culprit)).all(tried), "one attempt is charged at a time");
}

/// What stands before the culprit does not meet it again and again.
fn is_tried_little_more_often_than_charged(script: &Script, culprit: i64) {
    let (calls, attempts) = (script.calls_of(culprit), script.attempts(culprit));
    assert!(calls <= 2 * attempts as usize, "{calls} calls in {attempts} attempts");
}

async fn misdeed_of_one(world: World, misdeed: Misdeed, culprit: i64) -> Script {
    let script = Script::new(misdeed, [culprit]);
    let route = world.route(one {}).timeout(Duration::from_millis(400));
    holds_only_the_culprit(&world, route, &script, culprit).await;
    is_tried_little_more_often_than_charged(&script, culprit);
    script
}

async fn misdeed_of_a_batch(world: World, misdeed: Misdeed, culprit: i64) -> Script {
    let script = Script::new(misdeed, [culprit]);
    let route = world.route(batch {}).timeout(Duration::from_millis(400));
    holds_only_the_culprit(&world, route, &script, culprit).await;
    script
}

const DIVIDES_BY_ZERO: &str = "select 1 / 0";
const FIRST: i64 = 0;
const INSIDE: i64 = 20;
const LAST: i64 = COUNT - 1;

#[tokio::test(flavor = "multi_thread")]
async fn a_swallowed_sql_error_holds_its_own_record_inside_a_run() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    misdeed_of_one(world, Misdeed::Swallows(DIVIDES_BY_ZERO), INSIDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swallowed_sql_error_holds_its_own_record_at_the_end_of_a_run() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    misdeed_of_one(world, Misdeed::Swallows(DIVIDES_BY_ZERO), LAST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swallowed_sql_error_holds_its_own_record_in_a_batch() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    misdeed_of_a_batch(world, Misdeed::Swallows(DIVIDES_BY_ZERO), INSIDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sql_error_in_disguise_is_the_fault_of_its_own_record() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    misdeed_of_one(world, Misdeed::SwallowsAndFails(DIVIDES_BY_ZERO), INSIDE).await;
}

/// As `one`, but says nothing of what PostgreSQL said.
#[handler(topic = "overridden")]
async fn discreet(
    payload: &[u8],
    Attempt(attempt): Attempt,
    script: State<Script>,
    tx: &mut Tx,
) -> HandlerResult {
    let played = script.play(number(payload)?, attempt, tx).await;
    played.map_err(|_| HandlerError::new("it does not say why"))
}

/// The records behind it find the transaction aborted, and do not say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_swallowed_sql_error_holds_its_own_record_also_where_the_next_ones_are_in_disguise() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let script = Script::new(Misdeed::Swallows(DIVIDES_BY_ZERO), [INSIDE]);
    holds_only_the_culprit(&world, world.route(discreet {}), &script, INSIDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_statement_is_the_fault_of_its_own_record() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    misdeed_of_one(world, Misdeed::FailsInSql(DIVIDES_BY_ZERO), FIRST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_statement_is_the_fault_of_its_own_record_in_a_batch() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    misdeed_of_a_batch(world, Misdeed::FailsInSql(DIVIDES_BY_ZERO), LAST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_cannot_commit() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    misdeed_of_one(world, Misdeed::FailsInSql("commit"), INSIDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_cannot_roll_back() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    misdeed_of_one(world, Misdeed::FailsInSql("rollback"), INSIDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_cannot_commit_among_other_statements() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    const SQL: &str = "insert into effects (number) values (-1);commit;select 1";
    misdeed_of_one(world, Misdeed::FailsInSql(SQL), INSIDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_cannot_commit_in_a_batch() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    misdeed_of_a_batch(world, Misdeed::FailsInSql("commit and chain"), INSIDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_commit_that_is_ignored_changes_nothing() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let script = Script::new(Misdeed::Swallows("commit"), (0..COUNT).step_by(7));
    world.send_numbers(0..COUNT).await;
    let running = Running::start(world.app().state(script.clone()).handler(world.route(one {})));
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..COUNT).await;
    script.blames_only(&[]);
}

/// No connection on which the culprit failed is used after that.
fn each_failure_costs_a_connection(script: &Script, culprit: i64) {
    let calls = script.calls();
    let behaved = calls.iter().rposition(|call| call.number == culprit).unwrap();
    for (place, call) in calls.iter().enumerate().filter(|(_, call)| call.number == culprit) {
        let later = calls[place + 1..].iter().filter(|later| later.backend == call.backend);
        assert!(place == behaved || later.count() == 0, "{call:?} at {place}: {calls:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_of_a_panicked_handler_is_not_used_again() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let script = misdeed_of_one(world, Misdeed::Panics, INSIDE).await;
    each_failure_costs_a_connection(&script, INSIDE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_batch_is_the_fault_of_its_own_record() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let script = misdeed_of_a_batch(world, Misdeed::Panics, INSIDE).await;
    each_failure_costs_a_connection(&script, INSIDE);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_of_a_handler_that_took_too_long_is_not_used_again() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let script = misdeed_of_one(world, Misdeed::NeverEnds, INSIDE).await;
    each_failure_costs_a_connection(&script, INSIDE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_inside_a_long_statement_ends_the_statement_too() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let (database, culprit) = (world.database.clone(), INSIDE);
    let script = misdeed_of_one(world, Misdeed::FailsInSql("select pg_sleep(600)"), culprit).await;
    each_failure_costs_a_connection(&script, culprit);
    eventually("no statement is left behind", async || {
        let asleep = "select count(*) from pg_stat_activity where datname = current_database() \
                      and query like 'select pg_sleep%' and state = 'active'";
        database.number(asleep).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_the_handler_gave_up_does_no_harm() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let script = Script::new(Misdeed::Abandons("select pg_sleep(0.3)"), (0..COUNT).step_by(25));
    world.send_numbers(0..COUNT).await;
    let running = Running::start(world.app().state(script.clone()).handler(world.route(one {})));
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..COUNT).await;
    script.blames_only(&[]);
}

const ENDS_ITS_BACKEND: &str = "select pg_terminate_backend(pg_backend_pid())";

/// As an extension does that crashes. While a new connection can be had that is no outage.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_ends_its_connection_is_the_fault_of_its_own_record() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    misdeed_of_one(world, Misdeed::FailsInSql(ENDS_ITS_BACKEND), INSIDE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_ends_its_connection_is_the_fault_of_its_own_record_in_a_batch() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    misdeed_of_a_batch(world, Misdeed::FailsInSql(ENDS_ITS_BACKEND), INSIDE).await;
}

/// COMMIT finds the connection broken.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_ends_its_connection_holds_its_own_record_where_its_error_is_dropped() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let script = Script::new(Misdeed::Swallows(ENDS_ITS_BACKEND), [INSIDE]);
    holds_only_the_culprit(&world, world.route(one {}), &script, INSIDE).await;
}

/// It leaves the connection waiting for data.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_out_of_step_with_the_protocol_is_the_fault_of_its_own_record() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    misdeed_of_one(world, Misdeed::FailsInSql("copy effects (number) from stdin"), INSIDE).await;
}

/// The server ends all of its connections then, and recovers.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_crashes_the_server_is_the_fault_of_its_own_record_and_of_no_other() {
    let postgres = OwnPostgres::start_new();
    let world = World::new(Stack { database_url: postgres.url(), ..stack_or_leave_out!() }, 2).await;
    // Of the shell that runs it, that is the server's process.
    let crashes = Misdeed::FailsInSql("copy (select) to program 'kill -9 $PPID'");
    let script = Script::new(crashes, [INSIDE]);
    let sent = |number: i64| Sent { number, partition: i32::from(number >= COUNT), ..Sent::default() };
    world.send((0..2 * COUNT).map(sent)).await;
    let app = world.app().state(script.clone()).handler(world.route(one {}));
    let running = Running::start(app);
    eventually("it is charged", async || script.attempts(INSIDE) >= 2).await;
    script.behave();
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once(0..2 * COUNT).await;
    script.blames_only(&[INSIDE]);
}

/// PostgreSQL ends the transaction then; that is no outage.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_leaves_its_transaction_idle_for_too_long_is_charged() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let script = Script::new(Misdeed::Idles(Duration::from_millis(3500)), [3]);
    world.send_numbers(0..6).await;
    let app = world.app().kafka("session.timeout.ms", "3000").kafka("heartbeat.interval.ms", "500");
    let running = Running::start(app.state(script.clone()).handler(world.route(one {})));
    eventually("it is charged", async || script.attempts(3) == 2).await;
    script.behave();
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..6).await;
    script.blames_only(&[3]);
    is_tried_little_more_often_than_charged(&script, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_takes_as_long_in_its_statements_is_not_charged() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let script = Script::new(Misdeed::FailsInSql("select pg_sleep(3.5)"), [3]);
    world.send_numbers(0..6).await;
    let app = world.app().kafka("session.timeout.ms", "3000").kafka("heartbeat.interval.ms", "500");
    let running = Running::start(app.state(script.clone()).handler(world.route(one {})));
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..6).await;
    script.blames_only(&[]);
}

/// What a handler sets for its session would reach other handlers' runs, and
/// Onceward's own statements.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_cannot_set_what_outlives_its_transaction() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    misdeed_of_one(world, Misdeed::FailsInSql("select 1; SET search_path = elsewhere"), INSIDE).await;
}

/// The server would wait for data, and the connection would break each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_from_the_client_is_refused_and_the_fault_of_its_own_record() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    misdeed_of_one(world, Misdeed::FailsInSql("copy effects from stdin"), INSIDE).await;
}

#[handler(topic = "overridden")]
async fn sets(
    payload: &[u8],
    Attempt(attempt): Attempt,
    script: State<Script>,
    tx: &mut Tx,
) -> HandlerResult {
    // The work that it stands for takes so long.
    tokio::time::sleep(Duration::from_millis(5)).await;
    tx.execute("set local search_path = public; set local role none").await?;
    script.play(number(payload)?, attempt, tx).await?;
    tx.execute("set local search_path = elsewhere; set local role nobody_of_the_tests").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_handlers_transaction_change_nothing_for_others() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let role =
        "do $$ begin create role nobody_of_the_tests; exception when duplicate_object then null; end $$";
    world.database.execute(role).await;
    world.database.execute("create schema elsewhere").await;
    world.send_numbers(0..COUNT).await;
    let script = Script::new(Misdeed::Fails, [INSIDE]);
    let mut config = config();
    // So that runs end early, too.
    config.max_run_time = Some(Duration::from_millis(20));
    let app = world.app().config(config).state(script.clone()).handler(world.route(sets {}));
    let running = Running::start(app);
    eventually("it fails", async || script.attempts(INSIDE) >= 2).await;
    script.behave();
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..COUNT).await;
    script.blames_only(&[INSIDE]);
    assert!(script.calls().len() < 2 * 60, "{}", script.calls().len());
}

/// Panics at this number.
struct Brittle(i64);

impl<'a> FromRecord<'a> for Brittle {
    fn from_record(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        let number = number(record.payload().unwrap_or_default()).unwrap();
        let script = context.state::<Script>().unwrap();
        assert!(!script.is_bad(number), "as the test wants it");
        Ok(Self(number))
    }
}

#[handler(topic = "overridden")]
async fn brittle(
    Brittle(number): Brittle,
    Attempt(attempt): Attempt,
    script: State<Script>,
    tx: &mut Tx,
) -> HandlerResult {
    script.play(number, attempt, tx).await
}

#[handler(topic = "overridden")]
async fn brittle_batch(
    records: Batch<(Brittle, Attempt)>,
    script: State<Script>,
    tx: &mut Tx,
) -> HandlerResult {
    for (Brittle(number), Attempt(attempt)) in records {
        script.play(number, attempt, tx).await?;
    }
    Ok(())
}

/// A panic in code of the application's outside the handler: it holds its record,
/// as one in the handler does, and the application goes on.
async fn a_panic_outside_the_handler<H: Handler>(world: World, route: Route<H>, script: Script) {
    let witness = Witness::default();
    world.send_numbers(0..COUNT).await;
    world.send([Sent { number: COUNT, partition: 1, ..Sent::default() }]).await;
    let app = world.app().state(script.clone()).handler(route.around(witness.clone()));
    let running = Running::start(app);
    eventually("it is held", async || witness.count_at(INSIDE, "panicked") >= 2).await;
    world.committed(INSIDE).await;
    script.called(COUNT).await;
    script.behave();
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once(0..COUNT + 1).await;
    script.blames_only(&[INSIDE]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_an_extractor_holds_its_own_record() {
    let world = World::new(stack_or_leave_out!(), 2).await;
    let route = world.route(brittle {});
    a_panic_outside_the_handler(world, route, Script::new(Misdeed::Panics, [INSIDE])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_an_extractor_holds_its_own_record_in_a_batch() {
    let world = World::new(stack_or_leave_out!(), 2).await;
    let route = world.route(brittle_batch {});
    a_panic_outside_the_handler(world, route, Script::new(Misdeed::Panics, [INSIDE])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_an_identity_function_holds_its_own_record() {
    let world = World::new(stack_or_leave_out!(), 2).await;
    let script = Script::new(Misdeed::Panics, [INSIDE]);
    let panicking = script.clone();
    let route = world.route(one {}).identity(IdentitySource::function(move |record| {
        assert!(!panicking.is_bad(number(record.payload()?).ok()?), "as the test wants it");
        None
    }));
    a_panic_outside_the_handler(world, route, script).await;
}

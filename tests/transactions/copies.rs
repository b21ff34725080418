//! One event, several records: what a producer sends again, what is delivered
//! again, what is copied.

use super::*;
use onceward::{DedupeKind, IDENTITY_HEADER, REDRIVEN_HEADER};
use rdkafka::admin::AdminOptions;
use std::time::{SystemTime, UNIX_EPOCH};
use support::stack_or_leave_out;

const DAY: i64 = 24 * 60 * 60 * 1000;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// The midnight between yesterday and the day before.
fn midnight() -> i64 {
    (now() / DAY - 1) * DAY
}

/// Without a transaction its effect is the call itself.
#[handler(topic = "overridden")]
async fn plain(payload: &[u8], Attempt(attempt): Attempt, script: State<Script>) -> HandlerResult {
    script.play_without_transaction(number(payload)?, attempt)
}

#[handler(topic = "overridden")]
async fn plain_batch(records: Batch<(&[u8], Attempt)>, script: State<Script>) -> Vec<HandlerResult> {
    let play = |(payload, Attempt(attempt)): (&[u8], Attempt)| {
        script.play_without_transaction(number(payload)?, attempt)
    };
    records.into_iter().map(play).collect()
}

impl Script {
    fn play_without_transaction(&self, number: i64, attempt: u32) -> HandlerResult {
        if self.is_bad(number) {
            self.0.calls.lock().unwrap().push(Call { number, attempt, backend: -1 });
            return Err("it fails".into());
        }
        self.0.calls.lock().unwrap().push(Call { number, attempt, backend: 0 });
        Ok(())
    }

    /// The calls that went well.
    fn done(&self) -> Vec<i64> {
        self.calls().iter().filter(|call| call.backend == 0).map(|call| call.number).collect()
    }
}

fn event<'a>(ids: &'a [String], number: i64) -> Sent<'a> {
    let headers = vec![("ce_source", "/test"), ("ce_id", &*ids[usize::try_from(number).unwrap()])];
    Sent { number, headers, ..Sent::default() }
}

fn ids(count: i64) -> Vec<String> {
    (0..count).map(|number| format!("event {number}")).collect()
}

const COUNT: i64 = 60;

/// Sends each event five times: twice in a row, again later, in another partition,
/// and, some, on both sides of midnight.
async fn send_again_and_again(world: &World, app: App) {
    let ids = ids(COUNT);
    let at = |time: i64, number: i64| Sent { timestamp: Some(time), ..event(&ids, number) };
    world.send((0..40).flat_map(|number| [event(&ids, number), event(&ids, number)])).await;
    let running = Running::start(app);
    world.caught_up().await;
    world.send((0..40).map(|number| event(&ids, number))).await;
    world.caught_up().await;
    world.send((0..40).map(|number| Sent { partition: 1, ..event(&ids, number) })).await;
    world.caught_up().await;
    world.send((40..COUNT).map(|number| at(midnight() - 30_000, number))).await;
    world.caught_up().await;
    world.send((40..COUNT).map(|number| at(midnight() + 30_000, number))).await;
    world.caught_up().await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_produced_again_counts_once_in_a_transaction() {
    let (world, script) = (World::new(stack_or_leave_out!(), 2).await, Script::good());
    send_again_and_again(&world, world.app().state(script.clone()).handler(world.route(one {}))).await;
    world.effects_once_in_order(0..COUNT).await;
    assert_eq!(script.calls().len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_produced_again_counts_once_in_a_transaction_of_a_batch() {
    let (world, script) = (World::new(stack_or_leave_out!(), 2).await, Script::good());
    send_again_and_again(&world, world.app().state(script.clone()).handler(world.route(batch {}))).await;
    world.effects_once_in_order(0..COUNT).await;
    assert_eq!(script.calls().len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_produced_again_is_known_by_its_mark() {
    let (world, script) = (World::new(stack_or_leave_out!(), 2).await, Script::good());
    send_again_and_again(&world, world.app().state(script.clone()).handler(world.route(plain {}))).await;
    assert_eq!(script.done(), (0..COUNT).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_produced_again_is_known_in_memory() {
    let (world, script) = (World::new(stack_or_leave_out!(), 2).await, Script::good());
    let app = world.app().dedupe(DedupeKind::Memory).state(script.clone()).handler(world.route(plain {}));
    send_again_and_again(&world, app).await;
    assert_eq!(script.done(), (0..COUNT).collect::<Vec<_>>());
}

/// Copies may come in two partitions at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_two_partitions_have_at_once_counts_once() {
    const EVENTS: i64 = 1000;
    let (world, ids) = (World::new(stack_or_leave_out!(), 2).await, ids(EVENTS));
    world.send((0..EVENTS).map(|number| event(&ids, number))).await;
    world.send((0..EVENTS).map(|number| Sent { partition: 1, ..event(&ids, number) })).await;
    let script = Script::new(Misdeed::FailsInSql("select 1 / 0"), [3, 333]);
    let running = Running::start(world.app().state(script.clone()).handler(world.route(one {})));
    eventually("it fails", async || script.attempts(3) >= 2).await;
    script.behave();
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once(0..EVENTS).await;
}

/// A copy is as good as done only when its original is.
async fn a_copy_waits<H: Handler>(world: World, handler: H) -> Script {
    let (script, ids) = (Script::new(Misdeed::Fails, [4]), ids(10));
    world.send([0, 1, 2, 3, 4, 4, 5, 4, 6].map(|number| event(&ids, number))).await;
    let running = Running::start(world.app().state(script.clone()).handler(world.route(handler)));
    eventually("it fails", async || script.attempts(4) >= 3).await;
    world.committed(4).await;
    script.behave();
    world.caught_up().await;
    running.stop().await.unwrap();
    script
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_waits_for_its_original_that_fails() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let database = world.database.clone();
    a_copy_waits(world, one {}).await;
    assert_eq!(database.number("select count(*) from effects").await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_waits_for_its_original_that_fails_in_a_batch() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let database = world.database.clone();
    a_copy_waits(world, batch {}).await;
    assert_eq!(database.number("select count(*) from effects").await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_waits_for_its_original_that_fails_without_a_transaction() {
    let script = a_copy_waits(World::new(stack_or_leave_out!(), 1).await, plain {}).await;
    assert_eq!(script.done(), (0..7).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_waits_for_its_original_that_fails_in_a_batch_without_a_transaction() {
    let script = a_copy_waits(World::new(stack_or_leave_out!(), 1).await, plain_batch {}).await;
    let mut done = script.done();
    done.sort_unstable();
    assert_eq!(done, (0..7).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_not_marked_and_is_handled_by_the_next_instance() {
    let (world, script) = (World::new(stack_or_leave_out!(), 1).await, Script::new(Misdeed::Fails, [5]));
    world.send_numbers(0..10).await;
    let start = || Running::start(world.app().state(script.clone()).handler(world.route(plain {})));
    let first = start();
    eventually("it fails", async || script.attempts(5) >= 2).await;
    first.stop().await.unwrap();
    script.behave();
    let second = start();
    world.caught_up().await;
    second.stop().await.unwrap();
    assert_eq!(script.done(), (0..10).collect::<Vec<_>>());
}

/// Each group does its own work.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_group_did_another_does_all_the_same_also_in_memory() {
    for dedupe in [DedupeKind::Memory, DedupeKind::Postgres] {
        let (world, ids) = (World::new(stack_or_leave_out!(), 1).await, ids(20));
        let (script, other) = (Script::good(), World::new(stack_or_leave_out!(), 1).await);
        let routes = (world.route(plain {}), other.route(plain {}));
        let app = world.app().dedupe(dedupe).state(script.clone()).handler(routes.0).handler(routes.1);
        let running = Running::start(app);
        // One after the other: at once, none would find what the other did.
        for world in [&world, &other] {
            world.send((0..20).map(|number| event(&ids, number))).await;
            world.caught_up().await;
        }
        running.stop().await.unwrap();
        assert_eq!(script.done().len(), 40, "{dedupe:?}");
    }
}

/// Handles waves of records, each when the one before is done.
async fn effects_of<'a>(
    stack: Stack,
    identity: IdentitySource,
    waves: impl IntoIterator<Item = Vec<Sent<'a>>>,
) -> Vec<i64> {
    let (world, script) = (World::new(stack, 2).await, Script::good());
    let route = world.route(one {}).identity(identity);
    let running = Running::start(world.app().state(script.clone()).handler(route));
    for wave in waves {
        world.send(wave).await;
        world.caught_up().await;
    }
    running.stop().await.unwrap();
    script.blames_only(&[]);
    world.effects().await
}

fn with<'a>(number: i64, headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Sent<'a> {
    Sent { number, headers: headers.into_iter().collect(), ..Sent::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_may_tell_events_apart() {
    let id = |number, id| with(number, [("event-id", id)]);
    let waves = [
        vec![id(0, "a"), id(1, "a"), id(2, "b")],
        vec![id(3, "b"), id(4, "B"), with(5, [])],
        vec![with(5, [])],
    ];
    let effects = effects_of(stack_or_leave_out!(), IdentitySource::header("event-id"), waves).await;
    assert_eq!(effects, [0, 2, 4, 5, 5], "what has no header is told apart by its position");
}

/// What many producers send whose ids were never set.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_empty_or_the_nil_uuid_tells_no_events_apart() {
    const NIL: &str = "00000000-0000-0000-0000-000000000000";
    let wave = ["", "", " ", " ", NIL, NIL].into_iter().zip(0..);
    let wave = wave.map(|(id, number)| with(number, [("event-id", id)])).collect();
    let effects = effects_of(stack_or_leave_out!(), IdentitySource::header("event-id"), [wave]).await;
    assert_eq!(effects, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_may_tell_events_apart() {
    let identity = IdentitySource::function(|record| {
        let number: i64 = std::str::from_utf8(record.payload()?).ok()?.parse().ok()?;
        (number < 100).then(|| (number % 10).to_string())
    });
    let waves = [vec![1, 11, 2, 100], vec![21, 12, 3, 100]]
        .map(|wave| wave.into_iter().map(|n| with(n, [])).collect());
    assert_eq!(effects_of(stack_or_leave_out!(), identity, waves).await, [1, 2, 100, 3, 100]);
}

#[tokio::test(flavor = "multi_thread")]
async fn told_apart_by_position_each_record_counts() {
    let same = |number| with(number, [("ce_source", "/test"), ("ce_id", "1")]);
    let waves = [vec![same(0), same(0)], vec![same(1), Sent { partition: 1, ..same(1) }]];
    assert_eq!(effects_of(stack_or_leave_out!(), IdentitySource::Position, waves).await, [0, 0, 1, 1]);
}

/// The time inside it does not depend on the record.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_7_uuid_is_known_after_days() {
    let uuid = |time: i64| format!("{:08x}-{:04x}-7abc-8000-00000000000a", time >> 16, time & 0xffff);
    let (one, other) = (uuid(midnight() - 1), uuid(midnight()));
    let at = |number, id, time| Sent { timestamp: Some(time), ..with(number, [("event-id", id)]) };
    let waves = [
        vec![at(0, &one, midnight()), at(1, &other, midnight())],
        vec![at(2, &one, midnight() - 3 * DAY), at(3, &other, midnight() - 3 * DAY)],
        vec![at(4, &one, now()), at(5, &other, now())],
    ];
    let effects = effects_of(stack_or_leave_out!(), IdentitySource::header("event-id"), waves).await;
    assert_eq!(effects, [0, 1]);
}

/// Anyone may write headers.
#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_nobody_of_us_wrote_does_no_harm() {
    const VALID: &str = "0123456789abcdef0123456789abcdef#0123456789abcdef0123456789abcdef";
    let strange = [
        VALID,
        VALID,
        "0123456789abcdef0123456789abcdef+7@0#0123456789abcdef0123456789abcdef",
        "",
        "@",
        "x",
        "1@2",
        "0123456789abcdef0123456789abcdeg@0",
        "0123456789abcdef0123456789abcdef@",
        "0123456789abcdef0123456789abcdef@~9223372036854775807",
        "1123456789abcdef0123456789abcdef@-9223372036854775808",
        "2123456789abcdef0123456789abcdef@~-9223372036854775808",
        "3123456789abcdef0123456789abcdef@99999999999999999999",
    ];
    let carry = |value| [(IDENTITY_HEADER, value), (REDRIVEN_HEADER, "now")];
    let mut wave: Vec<_> = (0..).zip(strange).map(|(number, value)| with(number, carry(value))).collect();
    // Beside what they declare.
    let declared = |id| carry(VALID).into_iter().chain([("ce_source", "/test"), ("ce_id", id)]);
    wave.extend([with(13, declared("a")), with(14, declared("b")), with(15, declared("b"))]);
    let effects = effects_of(stack_or_leave_out!(), IdentitySource::CloudEvents, [wave]).await;
    assert_eq!(effects, (0..15).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_delivered_again_from_the_start_count_once() {
    let (world, script) = (World::new(stack_or_leave_out!(), 2).await, Script::good());
    world
        .send((0..100).map(|number| Sent { number, partition: (number % 2) as i32, ..Sent::default() }))
        .await;
    for _ in 0..2 {
        let running = Running::start(world.app().state(script.clone()).handler(world.route(one {})));
        world.caught_up().await;
        running.stop().await.unwrap();
        eventually("the group's offsets are forgotten", async || {
            let deleted = world.stack.admin().delete_groups(&[&world.group], &AdminOptions::new()).await;
            deleted.unwrap().iter().all(Result::is_ok)
        })
        .await;
    }
    assert_eq!(script.calls().len(), 100);
    world.effects_once(0..100).await;
}

/// For who asks the table what became of a record.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_of_what_was_done_names_the_record() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    // So that the topic's number is none of the usual ones.
    onceward::migrate(&world.database.url).await.unwrap();
    world.database.execute("alter table onceward_topic alter id restart with 42").await;
    let other = unique("group");
    let app = world.app().state(Script::good());
    let routes = (world.route(one {}), world.route(plain {}).group(&other));
    let running = Running::start(app.handler(routes.0).handler(routes.1));
    world.send_numbers(0..5).await;
    world.caught_up().await;
    world.stack.caught_up(&other, &world.topic, 1).await;
    running.stop().await.unwrap();
    let named = format!(
        "select count(distinct (handler, record_offset)) from onceward_dedupe d \
         join onceward_topic t on t.id = d.topic join onceward_scope s on s.id = d.scope \
         where t.name = '{}' and d.partition = 0 and d.record_offset between 0 and 4",
        world.topic
    );
    assert_eq!(world.database.number(&named).await, 10);
}

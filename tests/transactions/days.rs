//! The days under which identities are filed, which are made when they are needed.

use super::*;
use support::stack_or_leave_out;

/// 2001-02-03, in milliseconds since the epoch.
const LONG_AGO: i64 = 981_158_400_000;
/// 3000-01-01.
const FAR_OFF: i64 = 32_503_680_000_000;
const DAY: i64 = 24 * 60 * 60 * 1000;

/// A topic that keeps records of any time.
async fn world(stack: Stack) -> World {
    let any_time = [("retention.ms", "-1"), ("message.timestamp.after.max.ms", "9223372036854775807")];
    World::with_topic(stack, 1, &any_time).await
}

fn app(world: &World) -> App {
    let mut config = config();
    config.dedupe_window_shorter_than_retention = Some(true);
    world.app().config(config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_any_time_is_handled_once() {
    let (world, script) = (world(stack_or_leave_out!()).await, Script::good());
    let times = [LONG_AGO, FAR_OFF, 1, i64::MAX, LONG_AGO + DAY - 1];
    let ids = ["a", "b", "c", "d", "e"];
    let running = Running::start(app(&world).state(script.clone()).handler(world.route(one {})));
    for _copy in 0..2 {
        world
            .send((0..).zip(times).map(|(number, time)| Sent {
                number,
                timestamp: Some(time),
                headers: vec![("ce_source", "/test"), ("ce_id", ids[number as usize])],
                ..Sent::default()
            }))
            .await;
        world.caught_up().await;
    }
    running.stop().await.unwrap();
    world.effects_once_in_order(0..5).await;
    script.blames_only(&[]);
    let made = "select count(*) from pg_inherits where inhparent = 'onceward_dedupe'::regclass";
    assert_eq!(world.database.number(made).await, 4, "2001-02-02 to -04, and one for what is far off");
    let noted = "select count(*) from onceward_bucket where bucket between '2001-02-02' and '2001-02-04'";
    assert_eq!(world.database.number(noted).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_applications_may_make_the_same_days_at_once() {
    const DAYS: i64 = 40;
    let world = world(stack_or_leave_out!()).await;
    onceward::migrate(&world.database.url).await.unwrap();
    world
        .send((0..DAYS).map(|number| Sent {
            number,
            timestamp: Some(LONG_AGO + number * DAY),
            ..Sent::default()
        }))
        .await;
    let groups = [unique("group"), unique("group"), unique("group")];
    let start = |group: &String| {
        let route = world.route(one {}).group(group);
        Running::start(app(&world).state(Script::good()).handler(route))
    };
    let running: Vec<_> = groups.iter().map(start).collect();
    for group in &groups {
        world.stack.caught_up(group, &world.topic, 1).await;
    }
    for running in running {
        running.stop().await.unwrap();
    }
    let mut effects = world.effects().await;
    effects.sort_unstable();
    assert_eq!(effects, (0..DAYS * 3).map(|place| place / 3).collect::<Vec<_>>());
}

/// Days that Onceward has made, and not dropped.
async fn days(world: &World) -> i64 {
    world.database.number("select count(*) from onceward_bucket where bucket < '2002-01-01'").await
}

async fn handle(world: &World, records: impl IntoIterator<Item = (i64, i64)>) {
    world
        .send(records.into_iter().map(|(number, time)| Sent {
            number,
            timestamp: Some(time),
            ..Sent::default()
        }))
        .await;
    let running = Running::start(app(world).state(Script::good()).handler(world.route(one {})));
    world.caught_up().await;
    running.stop().await.unwrap();
}

const NOON: i64 = LONG_AGO + DAY / 2;
const WRITTEN_LONG_AGO: &str =
    "update onceward_bucket set written_at = now() - interval '20 days' where bucket = '2001-02-03'";

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_is_old_but_written_to_is_kept() {
    let world = world(stack_or_leave_out!()).await;
    handle(&world, [(0, NOON), (1, NOON + DAY)]).await;
    world.database.execute(WRITTEN_LONG_AGO).await;
    let running = Running::start(app(&world).state(Script::good()).handler(world.route(one {})));
    eventually("the one that nobody wrote to is dropped", async || days(&world).await == 1).await;
    running.stop().await.unwrap();
    assert_eq!(world.claims().await, 1);
    // It is made again when it is needed.
    handle(&world, [(2, NOON), (3, NOON + DAY)]).await;
    world.effects_once_in_order(0..4).await;
}

/// Detaching waits for transactions under way, and gives up after a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_was_interrupted_is_finished_by_the_next_instance() {
    let world = world(stack_or_leave_out!()).await;
    handle(&world, [(0, NOON)]).await;
    world.database.execute(WRITTEN_LONG_AGO).await;
    let mut long = world.database.connect().await;
    long.execute("begin; lock table only onceward_dedupe in row exclusive mode").await.unwrap();
    let start = || Running::start(app(&world).state(Script::good()).handler(world.route(one {})));
    let first = start();
    eventually("the drop is given up half done", async || {
        let half_done = "select count(*) from pg_inherits where inhdetachpending and not exists (
                         select from pg_stat_activity where datname = current_database() and state = 'active'
                         and query like 'alter table onceward_dedupe%')";
        world.database.number(half_done).await == 1
    })
    .await;
    first.stop().await.unwrap();
    long.execute("commit").await.unwrap();
    let second = start();
    eventually("the day is dropped", async || days(&world).await == 0).await;
    second.stop().await.unwrap();
    let left = "select count(*) from pg_class where relname = 'onceward_dedupe_20010203'";
    assert_eq!(world.database.number(left).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_day_that_is_being_dropped_is_handled_without_a_failure() {
    let (world, script) = (world(stack_or_leave_out!()).await, Script::good());
    handle(&world, [(0, NOON)]).await;
    world.database.execute(WRITTEN_LONG_AGO).await;
    let mut long = world.database.connect().await;
    long.execute("begin; lock table only onceward_dedupe in row exclusive mode").await.unwrap();
    let running = Running::start(app(&world).state(script.clone()).handler(world.route(one {})));
    eventually("the drop has begun", async || {
        world.database.number("select count(*) from pg_inherits where inhdetachpending").await == 1
    })
    .await;
    world.send([Sent { number: 1, timestamp: Some(NOON), ..Sent::default() }]).await;
    script.called(1).await;
    long.execute("commit").await.unwrap();
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..2).await;
    script.blames_only(&[]);
    assert_eq!(days(&world).await, 1);
}

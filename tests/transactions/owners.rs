//! The fence: who owns a partition, by PostgreSQL's own account.

use super::*;
use onceward::{Error, Order};
use support::stack_or_leave_out;

/// It may be a process that was frozen, and the other one may be at work.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_was_fenced_gives_the_partition_up_and_does_nothing_more() {
    let (world, script) = (World::new(stack_or_leave_out!(), 2).await, Script::good());
    let send = async |numbers: Range<i64>| {
        let sent = |number: i64| Sent { number, partition: (number % 2) as i32, ..Sent::default() };
        world.send(numbers.map(sent)).await;
    };
    let running = Running::start(world.app().state(script.clone()).handler(world.route(one {})));
    send(0..50).await;
    world.caught_up().await;
    world.database.execute("update onceward_owner set token = token + 100 where partition = 0").await;
    let before = world
        .database
        .number("select xact_rollback from pg_stat_database where datname = current_database()");
    let before = before.await;
    send(50..100).await;
    eventually("it has met the new token", async || {
        let rolled_back = "select xact_rollback from pg_stat_database where datname = current_database()";
        world.database.number(rolled_back).await > before
    })
    .await;
    // The other partition goes on, also with what comes later.
    send(100..200).await;
    eventually("the other goes on", async || {
        world.database.number("select count(*) from effects where number % 2 = 1").await == 100
    })
    .await;
    running.stop().await.unwrap();
    let token = "select token from onceward_owner where partition = 0";
    assert_eq!(world.database.number(token).await, 101, "it raised none");
    assert_eq!(world.database.number("select count(*) from effects where number % 2 = 0").await, 25);
    script.blames_only(&[]);
    // The next owner, which Kafka has named.
    let next = Running::start(world.app().state(script.clone()).handler(world.route(one {})));
    world.caught_up().await;
    next.stop().await.unwrap();
    world.effects_once(0..200).await;
}

/// As a server that is restored from before, or a replica that took over without it.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_whose_token_postgresql_has_lost_notes_another_and_goes_on() {
    let (world, script) = (World::new(stack_or_leave_out!(), 1).await, Script::good());
    let running = Running::start(world.app().state(script.clone()).handler(world.route(one {})));
    for (round, loses) in
        ["delete from onceward_owner", "update onceward_owner set token = 0"].into_iter().enumerate()
    {
        let round = i64::try_from(round).unwrap();
        world.send_numbers(round * 10..(round + 1) * 10).await;
        world.caught_up().await;
        world.database.execute(loses).await;
    }
    world.send_numbers(20..30).await;
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..30).await;
    script.blames_only(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_owner_waits_for_the_open_transaction_of_the_old_one() {
    let (world, script) = (World::new(stack_or_leave_out!(), 1).await, Script::new(Misdeed::Waits, [5]));
    world.send_numbers(0..10).await;
    let running = Running::start(world.app().state(script.clone()).handler(world.route(one {})));
    script.called(5).await;
    let raise = "set lock_timeout = '200ms'; update onceward_owner set token = token + 1";
    let refused = world.database.connect().await.execute(raise).await.unwrap_err();
    assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "55P03", "{refused}");
    script.go_on();
    world.caught_up().await;
    world.database.execute(raise).await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..10).await;
}

const ORDERS: [Order; 2] = [Order::Partition, Order::Key];
const KEYS: [&str; 3] = ["a", "b", "c"];

/// Two instances of one name: Kafka gives all to the second, while the first has a
/// transaction open.
async fn taken_over(world: &World, order: Order) -> (Script, Running, Script, Running) {
    let start = |script: &Script| {
        let mut config = config();
        config.instance_id = Some("one".to_owned());
        let route = world.route(one {}).order(order);
        Running::start(world.app().config(config).state(script.clone()).handler(route))
    };
    let keys = KEYS.into_iter().cycle().map(Some);
    world.send((0..10).zip(keys).map(|(number, key)| Sent { number, key, ..Sent::default() })).await;
    let (old, new) = (Script::new(Misdeed::Waits, [5]), Script::good());
    let first = start(&old);
    old.called(5).await;
    let second = start(&new);
    eventually("the new owner waits for the old one", async || {
        let waiting = "select count(*) from pg_stat_activity \
                       where datname = current_database() and wait_event_type = 'Lock'";
        world.database.number(waiting).await > 0
    })
    .await;
    assert!(new.calls().is_empty());
    (old, first, new, second)
}

/// Each number once, and those of a key, or all of them, in order.
async fn effects_in_order(world: &World, order: Order) {
    world.effects_once(0..10).await;
    let effects = world.effects().await;
    let keys = if order == Order::Partition { 1 } else { KEYS.len() as i64 };
    for key in 0..keys {
        let of_key: Vec<_> = effects.iter().filter(|number| *number % keys == key).collect();
        assert!(of_key.is_sorted(), "{order:?}: {effects:?}");
    }
}

fn was_fenced(ended: Result<(), Error>) {
    let error = ended.unwrap_err();
    assert!(error.to_string().contains("another member has the same `instance_id`"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_owner_does_not_repeat_records_that_the_old_one_still_commits() {
    for order in ORDERS {
        let world = World::new(stack_or_leave_out!(), 1).await;
        let (old, first, new, second) = taken_over(&world, order).await;
        old.go_on();
        world.caught_up().await;
        was_fenced(first.ended().await);
        second.stop().await.unwrap();
        effects_in_order(&world, order).await;
        let before = world.effects().await.into_iter().take_while(|number| *number != 5);
        assert!(before.chain([5]).all(|number| new.calls_of(number) == 0), "{order:?}: {:?}", new.calls());
    }
}

/// `idle_in_transaction_session_timeout` is the session timeout of the consumer.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_owner_holds_the_new_one_up_for_a_session_timeout_and_commits_nothing() {
    for order in ORDERS {
        let world = World::new(stack_or_leave_out!(), 1).await;
        let (old, first, new, second) = taken_over(&world, order).await;
        new.called(5).await;
        world.caught_up().await;
        old.go_on();
        was_fenced(first.ended().await);
        second.stop().await.unwrap();
        effects_in_order(&world, order).await;
    }
}

//! A part of the flights, of which 1 % fail for good and 5 % for a while.

use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use support::{Database, Flights, Program, Running, Signal, eventually, stack_or_leave_out, text};

const PARTITIONS: i32 = 6;

/// How a flight fares, by its id: 1 % never succeed, 5 % at their third attempt.
enum Fate {
    Fails,
    FailsTwice,
    Succeeds,
}

fn fate(id: &str) -> Fate {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    match hasher.finish() % 100 {
        0 => Fate::Fails,
        1..=5 => Fate::FailsTwice,
        _ => Fate::Succeeds,
    }
}

#[handler(topic = "overridden", backoff = "1ms")]
async fn fly(
    record: Record<'_>,
    headers: Headers<'_>,
    Attempt(attempt): Attempt,
    tx: &mut Tx,
) -> HandlerResult {
    sqlx::query("insert into effects (partition, record_offset) values ($1, $2)")
        .bind(record.partition())
        .bind(record.offset())
        .execute(tx)
        .await?;
    match fate(headers.get_str("ce_id").ok_or("no ce_id")?) {
        Fate::Fails => Err(HandlerError::new("it never took off").permanent()),
        Fate::FailsTwice if attempt < 3 => Err(HandlerError::new("it is delayed")),
        _ => Ok(()),
    }
}

fn app(stack: &Stack, topic: &str, group: &str, database: &str) -> App {
    let mut config = Config::default();
    config.commit_interval = Some(Duration::from_millis(200));
    // A restart has its partitions at once.
    config.instance_id = Some("one".to_owned());
    let route = fly {}.route().topic(topic).group(group);
    stack.app().config(config).database_url(database).migrate(true).handler(route)
}

#[tokio::test]
#[ignore = "a program that another test starts"]
async fn program_that_flies() {
    let variable = |name| std::env::var(name).ok();
    let (Some(topic), Some(group)) = (variable("TEST_TOPIC"), variable("TEST_GROUP")) else { return };
    let stack = stack_or_leave_out!();
    app(&stack, &topic, &group, &std::env::var("TEST_DATABASE").unwrap()).run().await.unwrap();
}

/// A fiftieth of the planes, with all their flights, and a table for their effects.
async fn produce(stack: &Stack) -> (World, Database) {
    let flights = Flights::new(stack.clone(), PARTITIONS).await;
    let command = flights.command(&["produce", "--sample", "50", "--seed", "3"]);
    flights.start(command, "produce").succeeds().await;
    let sql = "create table effects (place bigserial, partition int not null, record_offset bigint not null)";
    flights.database.execute(sql).await;
    let Flights { stack, database, topic, group, .. } = flights;
    (World { letters: format!("{topic}.dlq"), stack, topic, group }, database)
}

/// Exactly those that fail for good are in the dead-letter topic, as they were and
/// each once; all others have had their effect once, in order.
async fn verify(world: &World, database: &Database) {
    let mut letters: BTreeMap<(i32, i64), OwnedMessage> = BTreeMap::new();
    let mut count = 0;
    for partition in 0..PARTITIONS {
        for letter in read_all(&world.stack, &world.letters, partition).await {
            let place = (
                text(&letter, "onceward.dlq.partition").parse().unwrap(),
                text(&letter, "onceward.dlq.offset").parse().unwrap(),
            );
            count += 1;
            letters.insert(place, letter);
        }
    }
    let identities: BTreeSet<&str> =
        letters.values().map(|letter| text(letter, "onceward.identity")).collect();
    assert_eq!((letters.len(), identities.len()), (count, count), "each once");
    let (mut failed, mut flights) = (0, 0);
    for partition in 0..PARTITIONS {
        let mut expected = Vec::new();
        for original in read_all(&world.stack, &world.topic, partition).await {
            flights += 1;
            if let Fate::Fails = fate(text(&original, "ce_id")) {
                failed += 1;
                let letter = letters.get(&(partition, original.offset())).expect("it is dead-lettered");
                assert_eq!((letter.key(), letter.payload()), (original.key(), original.payload()));
                assert_eq!(text(letter, "ce_id"), text(&original, "ce_id"));
                // By chance the same one may have been killed twice while it was tried alone.
                if text(letter, "onceward.dlq.reason") != "max_starts" {
                    assert_eq!(text(letter, "onceward.dlq.attempts"), "1");
                }
            } else {
                expected.push(original.offset());
            }
        }
        let query = "select record_offset from effects where partition = $1 order by place";
        let effects: Vec<i64> =
            sqlx::query_scalar(query).bind(partition).fetch_all(&mut database.connect().await).await.unwrap();
        assert!(
            effects == expected,
            "partition {partition}: {} effects of {}",
            effects.len(),
            expected.len()
        );
    }
    assert_eq!(letters.len(), failed);
    assert!(flights > 3000 && failed > 10, "{failed} of {flights}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_flights_exactly_those_that_fail_for_good_are_dead_lettered() {
    let stack = stack_or_leave_out!();
    let (world, database) = produce(&stack).await;
    let running = Running::start(app(&stack, &world.topic, &world.group, &database.url));
    world.caught_up(PARTITIONS).await;
    running.stop().await.unwrap();
    verify(&world, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_flights_exactly_those_that_fail_for_good_are_dead_lettered_with_kills() {
    const KILLS: i64 = 8;
    let stack = stack_or_leave_out!();
    let (world, database) = produce(&stack).await;
    let variables =
        [("TEST_TOPIC", &*world.topic), ("TEST_GROUP", &*world.group), ("TEST_DATABASE", &*database.url)];
    let start = || Program::start("flights::program_that_flies", &variables);
    let total: i64 = (0..PARTITIONS).map(|partition| world.stack.watermarks(&world.topic, partition).1).sum();
    let mut random = fastrand::Rng::with_seed(7);
    for kill in 1..=KILLS {
        let mut program = start();
        // At a random place of each stretch.
        let reached = (kill - 1) * total / KILLS + random.i64(0..total / KILLS);
        let count = "select coalesce(max(place), 0) from effects";
        eventually("so much is done", async || database.number(count).await >= reached).await;
        program.signal(Signal::SIGKILL);
        program.ended().await;
    }
    let program = start();
    world.caught_up(PARTITIONS).await;
    program.signal(Signal::SIGTERM);
    drop(program);
    verify(&world, &database).await;
}

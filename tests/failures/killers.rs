//! Records that end the process: found, tried alone, and put away.

use super::*;
use onceward::Route;
use std::future::ready;
use support::{Program, Running, Signal, eventually, produce_one, stack_or_leave_out, text};

/// Writes down the number, and ends the process at "abort" and at "eat".
#[handler(topic = "overridden")]
async fn dangerous(record: Record<'_>, payload: &[u8], tx: &mut Tx) -> HandlerResult {
    match payload {
        b"abort" => std::process::abort(),
        b"eat" => {
            let mut eaten: Vec<Vec<u8>> = Vec::new();
            loop {
                eaten.push(vec![0; 64 << 20]);
            }
        }
        _ => {}
    }
    sqlx::query("insert into effects (partition, number) values ($1, $2)")
        .bind(record.partition())
        .bind(i64::from(number(payload)?))
        .execute(tx)
        .await?;
    Ok(())
}

fn service(stack: &Stack, topic: &str, group: &str, database: &str) -> App {
    let route: Route<dangerous> = dangerous {}.route().topic(topic).group(group);
    stack.app().database_url(database).migrate(true).handler(route)
}

#[tokio::test]
#[ignore = "a program that another test starts"]
async fn program_that_may_die() {
    let variable = |name| std::env::var(name).ok();
    let (Some(topic), Some(group)) = (variable("TEST_TOPIC"), variable("TEST_GROUP")) else { return };
    let stack = stack_or_leave_out!();
    service(&stack, &topic, &group, &std::env::var("TEST_DATABASE").unwrap()).run().await.unwrap();
}

/// Starts the service again and again until it lives and has done all.
async fn a_killer_is_put_away(payload: &str, start: impl Fn(&str, &[(&str, &str)]) -> Program) {
    const PARTITIONS: i32 = 3;
    let stack = stack_or_leave_out!();
    let world = World::new(stack.clone(), PARTITIONS, 0).await;
    let database = stack.database().await;
    database
        .execute("create table effects (place bigserial, partition int not null, number bigint not null)")
        .await;
    let producer = stack.producer();
    for number in 0..60 {
        for partition in 0..PARTITIONS {
            let killer = partition == 1 && number == 25;
            let payload = if killer { payload.to_owned() } else { number.to_string() };
            produce_one(&producer, &world.topic, partition, Some(&payload), &[]).await;
        }
    }
    let variables =
        [("TEST_TOPIC", &*world.topic), ("TEST_GROUP", &*world.group), ("TEST_DATABASE", &*database.url)];
    let mut starts = 0;
    let mut program = loop {
        starts += 1;
        let mut program = start("killers::program_that_may_die", &variables);
        let done = || stack.committed(&world.group, &world.topic, 1) == Some(60);
        eventually("it ends, or has done all", || ready(program.has_ended() || done())).await;
        if !program.has_ended() {
            break program;
        }
        assert!(starts < 10, "the killer is not found");
    };
    world.caught_up(PARTITIONS).await;
    program.signal(Signal::SIGTERM);
    program.ended().await;
    // Three for the record, and one for the others. A start that is noted late, on a slow
    // machine, is not counted.
    assert!((4..=6).contains(&starts), "{starts} starts");

    let letters = {
        let mut letters = Vec::new();
        for partition in 0..PARTITIONS {
            letters.extend(read_all(&stack, &world.letters, partition).await);
        }
        letters
    };
    let [letter] = &letters[..] else { panic!("{} letters", letters.len()) };
    assert_eq!(letter.payload(), Some(payload.as_bytes()));
    assert_eq!(text(letter, "onceward.dlq.reason"), "max_starts");
    assert_eq!(text(letter, "onceward.dlq.attempts"), "3");
    let order = "select count(*) from (select number, lag(number) over (partition by partition order by place) as before \
                 from effects) as e where before >= number";
    assert_eq!(database.number(order).await, 0, "in order");
    assert_eq!(database.number("select count(distinct (partition, number)) from effects").await, 179);
    assert_eq!(database.number("select count(*) from effects").await, 179, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_aborts_the_process_is_found_and_put_away() {
    a_killer_is_put_away("abort", Program::start).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_takes_all_memory_is_found_and_put_away() {
    a_killer_is_put_away("eat", |test, variables| Program::start_within(8 << 20, test, variables)).await;
}

/// Starts that come to nothing condemn no record that was not tried alone, and a
/// clean end none at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_clean_end_without_progress_is_no_failed_start() {
    let world = World::new(stack_or_leave_out!(), 1, 3).await;
    #[handler(topic = "overridden", max_starts = 1)]
    async fn wait_for_ever(calls: State<Calls>) {
        calls.note(0, 1);
        std::future::pending::<()>().await;
    }
    let calls = Calls::default();
    for start in 1..=4 {
        let app = world
            .app(world.route(wait_for_ever {}), &calls)
            .drain_deadline(Duration::from_millis(100))
            .shutdown_deadline(Duration::from_millis(200));
        let running = Running::start(app);
        eventually("the first record is tried", async || calls.of(0) == start).await;
        assert!(running.stop().await.is_err(), "its work is not finished");
    }
    assert_eq!(world.stack.committed(&world.group, &world.topic, 0), Some(0));
}

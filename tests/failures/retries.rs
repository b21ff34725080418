//! What is tried again, how often, and what waits meanwhile.

use super::*;
use onceward::{ErrorPolicy, RetryPolicy};
use std::fmt;
use std::time::Instant;
use support::{Running, eventually, stack_or_leave_out, text};

/// Number 3 fails at its first two attempts.
#[handler(topic = "overridden")]
async fn fail_twice(payload: &[u8], Attempt(attempt): Attempt, calls: State<Calls>) -> HandlerResult {
    let number = number(payload)?;
    calls.note(number, attempt);
    if number == 3 && attempt < 3 { Err(HandlerError::new("not yet")) } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_fails_for_a_while_is_tried_again_in_its_place() {
    let world = World::new(stack_or_leave_out!(), 1, 6).await;
    let calls = Calls::default();
    let running = Running::start(world.app(world.route(fail_twice {}), &calls));
    world.caught_up(1).await;
    running.stop().await.unwrap();
    assert_eq!(calls.all(), [(0, 1), (1, 1), (2, 1), (3, 1), (3, 2), (3, 3), (4, 1), (5, 1)]);
}

/// Number 3 always fails.
#[handler(topic = "overridden", max_attempts = 4, backoff = "1ms")]
async fn fail_always(payload: &[u8], Attempt(attempt): Attempt, calls: State<Calls>) -> HandlerResult {
    let number = number(payload)?;
    calls.note(number, attempt);
    if number == 3 { Err(HandlerError::new("never")) } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_attempts_a_record_is_dead_lettered_and_its_partition_goes_on() {
    let world = World::new(stack_or_leave_out!(), 1, 6).await;
    let calls = Calls::default();
    let running = Running::start(world.app(world.route(fail_always {}), &calls));
    world.caught_up(1).await;
    running.stop().await.unwrap();
    assert_eq!((calls.of(3), calls.done()), (4, vec![0, 1, 2, 3, 4, 5]));
    let letters = world.letters().await;
    assert_eq!(numbers(&letters), [3]);
    let [letter] = &letters[..] else { unreachable!() };
    assert_eq!(text(letter, "onceward.dlq.attempts"), "4");
    assert_eq!(text(letter, "onceward.dlq.reason"), "max_attempts");
    assert_eq!(text(letter, "onceward.dlq.message"), "never");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_not_tried_for_longer_than_max_elapsed() {
    let world = World::new(stack_or_leave_out!(), 1, 6).await;
    let calls = Calls::default();
    let policy = RetryPolicy::default().max_attempts(u32::MAX).max_elapsed(Duration::from_millis(500));
    let begun = Instant::now();
    let running = Running::start(world.app(world.route(fail_always {}).retry(policy), &calls));
    world.caught_up(1).await;
    running.stop().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(60));
    let letters = world.letters().await;
    assert_eq!(numbers(&letters), [3]);
    assert_eq!(text(&letters[0], "onceward.dlq.reason"), "max_elapsed");
    assert!(calls.of(3) > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_partition_of_a_failing_record_waits() {
    let world = World::new(stack_or_leave_out!(), 2, 6).await;
    let calls = Calls::default();
    let policy = RetryPolicy::default().max_attempts(u32::MAX);
    #[handler(topic = "overridden")]
    async fn fail_in_partition_0(record: Record<'_>, calls: State<Calls>) -> HandlerResult {
        calls.note(u32::try_from(record.partition())?, record.attempt());
        if record.partition() == 0 { Err(HandlerError::new("never")) } else { Ok(()) }
    }
    let running = Running::start(world.app(world.route(fail_in_partition_0 {}).retry(policy), &calls));
    eventually("the other partition is done", async || {
        world.stack.committed(&world.group, &world.topic, 1) == Some(6)
    })
    .await;
    eventually("it is tried again and again", async || calls.of(0) > 5).await;
    running.stop().await.unwrap();
    assert_eq!(calls.of(1), 6);
    assert_ne!(world.stack.committed(&world.group, &world.topic, 0), Some(1));
}

/// Attempts are counted on when a partition comes back to the same process: here,
/// because another member came and went.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_survive_a_rebalance_of_the_processs_own_partitions() {
    let world = World::new(stack_or_leave_out!(), 1, 6).await;
    let (calls, other) = (Calls::default(), Calls::default());
    let policy = RetryPolicy::default().max_attempts(u32::MAX).max_backoff(Duration::from_millis(100));
    let member = |calls: &Calls| {
        let route = world.route(fail_always {}).retry(policy.clone());
        // Eager: a rebalance takes all partitions away for a moment.
        world.app(route, calls).kafka("partition.assignment.strategy", "range")
    };
    let running = Running::start(member(&calls));
    eventually("it fails", async || calls.of(3) >= 3).await;
    let before = calls.of(3);
    let joining = Running::start(member(&other));
    eventually("it goes on after the rebalance", async || calls.of(3) + other.of(3) > before + 10).await;
    joining.stop().await.unwrap();
    running.stop().await.unwrap();
    let attempts: Vec<u32> =
        calls.all().iter().filter(|(n, _)| *n == 3).map(|(_, attempt)| *attempt).collect();
    let counted = u32::try_from(attempts.len()).unwrap();
    assert_eq!(attempts, (1..=counted).collect::<Vec<_>>());
}

#[derive(Debug)]
struct Gone(u32);

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {} is gone", self.0)
    }
}

impl std::error::Error for Gone {}

/// Number 1 is gone, number 2 fails for good, number 3 cannot be parsed at first.
#[handler(topic = "overridden", backoff = "1ms")]
async fn fail_in_kinds(payload: &[u8], Attempt(attempt): Attempt, calls: State<Calls>) -> HandlerResult {
    let number = number(payload)?;
    calls.note(number, attempt);
    match number {
        1 => Err(Gone(number).into()),
        2 => Err(HandlerError::new("for good").permanent()),
        3 if attempt < 3 => Err("x".parse::<u32>().permanent().unwrap_err()),
        _ => Ok(()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_for_an_error_type_says_what_happens_without_touching_the_handler() {
    let world = World::new(stack_or_leave_out!(), 1, 6).await;
    let calls = Calls::default();
    let route = world
        .route(fail_in_kinds {})
        .on_error::<Gone>(ErrorPolicy::Skip)
        .on_error::<std::num::ParseIntError>(ErrorPolicy::Retry);
    let running = Running::start(world.app(route, &calls));
    world.caught_up(1).await;
    running.stop().await.unwrap();
    assert_eq!(calls.all(), [(0, 1), (1, 1), (2, 1), (3, 1), (3, 2), (3, 3), (4, 1), (5, 1)]);
    let letters = world.letters().await;
    assert_eq!(numbers(&letters), [2]);
    assert_eq!(text(&letters[0], "onceward.dlq.reason"), "permanent");

    let world = World::new(stack_or_leave_out!(), 1, 3).await;
    let route = world.route(fail_in_kinds {}).on_error::<Gone>(ErrorPolicy::DeadLetter);
    let running = Running::start(world.app(route, &Calls::default()));
    world.caught_up(1).await;
    running.stop().await.unwrap();
    let reasons = world.letters().await;
    assert_eq!(numbers(&reasons), [1, 2]);
    assert_eq!(text(&reasons[0], "onceward.dlq.reason"), "policy");
    assert!(text(&reasons[0], "onceward.dlq.class").ends_with("::Gone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_that_the_handler_asks_for_is_kept() {
    let world = World::new(stack_or_leave_out!(), 1, 1).await;
    #[handler(topic = "overridden")]
    async fn ask_for_a_delay(Attempt(attempt): Attempt, calls: State<Calls>) -> HandlerResult {
        calls.note(0, attempt);
        if attempt > 1 { Ok(()) } else { Err(HandlerError::new("later").retry_after(Duration::from_secs(1))) }
    }
    let calls = Calls::default();
    let running = Running::start(world.app(world.route(ask_for_a_delay {}), &calls));
    eventually("it has failed", async || calls.of(0) == 1).await;
    let failed = Instant::now();
    eventually("it is tried again", async || calls.of(0) == 2).await;
    assert!(failed.elapsed() > Duration::from_millis(800));
    running.stop().await.unwrap();
}

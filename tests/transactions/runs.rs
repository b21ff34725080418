//! Runs whose records do not all end the same: batches, and runs out of time.

use super::*;
use support::stack_or_leave_out;

const COUNT: i64 = 100;

async fn holds_the_failing_record_of_a_batch<H: Handler>(world: World, handler: H) {
    const CULPRIT: i64 = 37;
    let (script, witness) = (Script::new(Misdeed::Fails, [CULPRIT, 80]), Witness::default());
    world.send_numbers(0..COUNT).await;
    let route = world.route(handler).around(witness.clone());
    let running = Running::start(world.app().state(script.clone()).handler(route));
    eventually("it is tried a third time", async || script.attempts(CULPRIT) >= 3).await;
    world.committed(CULPRIT).await;
    world.effects_once_in_order(0..CULPRIT).await;
    eventually("it is given up", async || witness.saw(CULPRIT, "it fails")).await;
    script.blames_only(&[CULPRIT]);
    script.behave();
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..COUNT).await;
    assert_eq!(witness.count("completed"), usize::try_from(COUNT).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_record_that_a_batch_handler_does_not_name_is_found() {
    holds_the_failing_record_of_a_batch(World::new(stack_or_leave_out!(), 1).await, batch {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_record_that_a_batch_handler_names_is_the_one_that_is_held() {
    holds_the_failing_record_of_a_batch(World::new(stack_or_leave_out!(), 1).await, naming {}).await;
}

#[handler(topic = "overridden")]
async fn naming(records: Batch<(&[u8], Attempt)>, script: State<Script>, tx: &mut Tx) -> Vec<HandlerResult> {
    let mut results = Vec::new();
    for (payload, Attempt(attempt)) in records {
        results.push(script.play(number(payload).unwrap(), attempt, tx).await);
    }
    results
}

#[handler(topic = "overridden")]
async fn miscounting(records: Batch<&[u8]>, script: State<Script>, tx: &mut Tx) -> Vec<HandlerResult> {
    let wrong = script.is_bad(0);
    for payload in records.iter() {
        script.play(number(payload).unwrap(), 1, tx).await.unwrap();
    }
    let count = if wrong { records.len() + 1 } else { records.len() };
    (0..count).map(|_| Ok(())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_handler_that_returns_a_wrong_number_of_results_is_told_so() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let (script, witness) = (Script::new(Misdeed::Swallows("commit"), [0]), Witness::default());
    world.send_numbers(0..COUNT).await;
    let route = world.route(miscounting {}).around(witness.clone());
    let running = Running::start(world.app().state(script.clone()).handler(route));
    let told = "the batch handler returned 2 results for 1 records; it must return one each, in order";
    eventually("it is told", async || witness.saw(0, told)).await;
    assert!(world.effects().await.is_empty());
    script.behave();
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..COUNT).await;
}

/// To say how a record ended is not the same as to end it so.
#[handler(topic = "overridden")]
async fn pretending(
    records: Batch<&[u8]>,
    script: State<Script>,
    tx: &mut Tx,
) -> Vec<HandlerResult<Outcome>> {
    let mut results = Vec::new();
    for payload in records {
        let number = number(payload).unwrap();
        script.play(number, 1, tx).await.unwrap();
        results.push(Ok(if script.is_bad(number) { Outcome::NotReached } else { Outcome::Completed }));
    }
    results
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_handler_cannot_undo_a_record_by_saying_that_it_was_not_reached() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let (script, witness) = (Script::new(Misdeed::Swallows("commit"), [7]), Witness::default());
    world.send_numbers(0..COUNT).await;
    let route = world.route(pretending {}).around(witness.clone());
    let running = Running::start(world.app().state(script.clone()).handler(route));
    eventually("it is told", async || witness.saw(7, "a handler cannot end its records as not_reached"))
        .await;
    script.behave();
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..COUNT).await;
}

#[handler(topic = "overridden")]
async fn slow(payload: &[u8], script: State<Script>, tx: &mut Tx) -> HandlerResult {
    let number = number(payload)?;
    if number >= COUNT / 2 {
        // The work that it stands for takes so long, all of a sudden.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    script.play(number, 1, tx).await
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_a_run_had_no_time_for_are_handled_in_the_next() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let (script, witness) = (Script::good(), Witness::default());
    world.send_numbers(0..COUNT).await;
    let mut config = config();
    config.max_run_time = Some(Duration::from_millis(20));
    let route = world.route(slow {}).around(witness.clone());
    let running = Running::start(world.app().config(config).state(script.clone()).handler(route));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert!(witness.count("not_reached") > 0);
    world.effects_once_in_order(0..COUNT).await;
    assert_eq!(script.calls().len(), usize::try_from(COUNT).unwrap(), "each is handled once");
    assert_eq!(world.claims().await, COUNT);
}

/// Writes its number down, and then fails so many times as the number says.
#[handler(topic = "overridden")]
async fn moody(
    payload: &[u8],
    Attempt(attempt): Attempt,
    script: State<Script>,
    tx: &mut Tx,
) -> HandlerResult {
    let number = number(payload)?;
    script.play(number, attempt, tx).await?;
    if i64::from(attempt) <= failures(number) { Err("it fails".into()) } else { Ok(()) }
}

/// 30 of 600 numbers fail, one to four times.
fn failures(number: i64) -> i64 {
    if number % 20 == 13 { 1 + number / 20 % 4 } else { 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_fails_briefly_is_retried_in_its_run() {
    const COUNT: i64 = 600;
    let world = World::new(stack_or_leave_out!(), 1).await;
    let (script, witness) = (Script::good(), Witness::default());
    world.send_numbers(0..COUNT).await;
    let route = world.route(moody {}).around(witness.clone());
    let running = Running::start(world.app().state(script.clone()).handler(route));
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..COUNT).await;
    for number in 0..COUNT {
        let attempts = script.attempts_at(number);
        let failed: Vec<_> =
            attempts.iter().filter(|attempt| i64::from(**attempt) <= failures(number)).collect();
        // Each failure counts one attempt; a good call may be repeated for a neighbour's sake.
        assert_eq!(failed.len() as i64, failures(number), "{number}: {attempts:?}");
        assert!(attempts.is_sorted() && i64::from(attempts[attempts.len() - 1]) == failures(number) + 1);
    }
    assert_eq!(witness.count("it fails"), 1, "the first one undoes its run, the others a part of theirs");
}

#[handler(topic = "overridden")]
async fn before_any_statement(
    payload: &[u8],
    Attempt(attempt): Attempt,
    script: State<Script>,
    tx: &mut Tx,
) -> HandlerResult {
    let number = number(payload)?;
    if i64::from(attempt) <= failures(number) {
        return Err("it fails".into());
    }
    script.play(number, attempt, tx).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_before_its_first_statement_undoes_nothing() {
    const COUNT: i64 = 600;
    let world = World::new(stack_or_leave_out!(), 1).await;
    let (script, witness) = (Script::good(), Witness::default());
    world.send_numbers(0..COUNT).await;
    let route = world.route(before_any_statement {}).around(witness.clone());
    let running = Running::start(world.app().state(script.clone()).handler(route));
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..COUNT).await;
    assert_eq!(script.calls().len(), usize::try_from(COUNT).unwrap(), "no neighbour is repeated");
    assert_eq!(witness.count("it fails"), 0, "each is tried again in its run");
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_in_a_run_and_after_it_are_counted_together() {
    const CULPRIT: i64 = 37;
    let world = World::new(stack_or_leave_out!(), 1).await;
    let (script, witness) = (Script::new(Misdeed::Fails, [CULPRIT]), Witness::default());
    world.send_numbers(0..COUNT).await;
    let route = world.route(one {}).max_attempts(8).dead_letter(unique("letters")).around(witness.clone());
    let running = Running::start(world.app().state(script.clone()).handler(route));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(script.attempts_at(CULPRIT), (1..=8).collect::<Vec<_>>());
    assert_eq!(witness.count("dead_lettered"), 1);
    let mut others: Vec<_> = (0..COUNT).collect();
    others.remove(usize::try_from(CULPRIT).unwrap());
    assert_eq!(world.effects().await, others);
}

//! What code does to a transaction that takes the connection itself, and no `Tx`.

use super::*;
use sqlx::{Acquire, PgConnection};
use support::stack_or_leave_out;

const COUNT: i64 = 60;
const CULPRIT: i64 = 20;

/// As in a repository: statements that count together, in a transaction of its own as far as it knows.
async fn save(connection: &mut PgConnection, numbers: [i64; 2]) -> sqlx::Result<()> {
    let mut both = connection.begin().await?;
    for number in numbers {
        sqlx::query("insert into effects (number) values ($1)").bind(number).execute(&mut *both).await?;
    }
    both.commit().await
}

/// Writes its number down if there is none like it, by three ways to a savepoint.
#[handler(topic = "overridden")]
async fn by_repository(payload: &[u8], tx: &mut Tx) -> HandlerResult {
    let number = number(payload)?;
    save(tx.connection(), [number, 1000 + number]).await?;
    // It fails, and takes with it only what it did itself.
    assert!(save(tx.connection(), [2000 + number, number]).await.is_err());
    let mut dropped = tx.begin().await?;
    sqlx::query("insert into effects (number) values (-1)").execute(&mut *dropped).await?;
    drop(dropped);
    write_down(3000 + number, tx).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_a_repositorys_own_is_a_savepoint_of_the_runs() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.database.execute("create unique index on effects (number)").await;
    world.send_numbers(0..COUNT).await;
    let running = Running::start(world.app().handler(world.route(by_repository {})));
    world.caught_up().await;
    running.stop().await.unwrap();
    let expected = (0..COUNT).flat_map(|number| [number, 1000 + number, 3000 + number]);
    assert_eq!(world.effects().await, expected.collect::<Vec<_>>());
    assert_eq!(world.claims().await, COUNT);
    let transactions = "select count(distinct xmin::text) from onceward_dedupe_0";
    assert!((1..COUNT).contains(&world.database.number(transactions).await), "they commit as a group");
}

#[handler(topic = "overridden")]
async fn commits(payload: &[u8], tx: &mut Tx) -> HandlerResult {
    let number = number(payload)?;
    write_down(number, tx).await?;
    if number == CULPRIT {
        tx.connection().execute("commit").await?;
    }
    Ok(())
}

#[handler(topic = "overridden")]
async fn rolls_back(payload: &[u8], tx: &mut Tx) -> HandlerResult {
    let number = number(payload)?;
    write_down(number, tx).await?;
    if number == CULPRIT {
        tx.connection().execute("rollback").await?;
        // It would stand at once.
        write_down(number, tx).await?;
    }
    Ok(())
}

/// All others are done, once; the culprit is put away, with what it was.
async fn others_are_done<H: Handler>(world: World, handler: H) -> i64 {
    let letters = format!("{}.dlq", world.topic);
    world.stack.topic_named(&letters, 1, &[]).await;
    world.send_numbers(0..COUNT).await;
    let witness = Witness::default();
    let route = world.route(handler).dead_letter(&letters).around(witness.clone());
    let running = Running::start(world.app().handler(route));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(world.stack.watermarks(&letters, 0), (0, 1));
    assert!(witness.saw(CULPRIT, "dead_lettered"));
    let effects = world.effects().await;
    let of = |number| effects.iter().filter(|effect| **effect == number).count();
    assert!((0..COUNT).filter(|number| *number != CULPRIT).all(|number| of(number) == 1), "{effects:?}");
    i64::try_from(of(CULPRIT)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_on_the_connection_itself_costs_no_other_record() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    assert_eq!(others_are_done(world, commits {}).await, 1, "what it has committed stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_on_the_connection_itself_costs_no_other_record() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    assert_eq!(others_are_done(world, rolls_back {}).await, 1, "what it wrote outside stays");
}

#[tokio::test]
async fn a_handler_with_a_transaction_can_be_called_by_a_test() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let mut tx = onceward::testing::tx(&world.database.url).await.unwrap();
    one(b"7", Attempt(1), State(Script::good()), &mut tx).await.unwrap();
    save(tx.connection(), [8, 9]).await.unwrap();
    let seen: Vec<i64> =
        sqlx::query_scalar("select number from effects order by 1").fetch_all(&mut tx).await.unwrap();
    assert_eq!(seen, [7, 8, 9]);
    drop(tx);
    assert!(world.effects().await.is_empty(), "it is rolled back");
}

//! Onceward's tables: how they come to be, and which a program runs on.

use super::*;
use onceward::Error;
use onceward::by_hand::Owner;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use std::borrow::Cow;
use support::stack_or_leave_out;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn handles_all(world: &World, app: App, numbers: Range<i64>) {
    world.send_numbers(numbers).await;
    let running = Running::start(app);
    world.caught_up().await;
    running.stop().await.unwrap();
}

async fn refused(app: App) -> String {
    let error: Error = Running::start(app).ended().await.unwrap_err();
    format!("{error:?}")
}

impl World {
    fn on_tables_as_they_are(&self) -> App {
        self.app().migrate(false).state(Script::good()).handler(self.route(one {}))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_may_be_made_by_several_processes_at_once_and_again() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    for _ in 0..2 {
        let makers: Vec<_> = (0..8)
            .map(|_| {
                let url = world.database.url.clone();
                tokio::spawn(async move { onceward::migrate(&url).await })
            })
            .collect();
        for maker in makers {
            maker.await.unwrap().unwrap();
        }
    }
    handles_all(&world, world.on_tables_as_they_are(), 0..10).await;
    world.effects_once_in_order(0..10).await;
}

/// One that takes long must not fail the others that start meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_waits_while_another_makes_the_tables() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    onceward::migrate(&world.database.url).await.unwrap();
    let mut at_work = world.database.connect().await;
    let key = "hashtextextended('onceward_migrations public', 0)";
    at_work.execute(&*format!("select pg_advisory_lock({key})")).await.unwrap();
    let url = world.database.url.clone();
    let waiting = tokio::spawn(async move { onceward::migrate(&url).await });
    // Longer than any lock is waited for otherwise.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!waiting.is_finished(), "{:?}", waiting.await);
    at_work.execute(&*format!("select pg_advisory_unlock({key})")).await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_may_have_migrations_of_its_own_with_the_same_numbers() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let migration = |version, sql: &'static str| {
        Migration::new(version, Cow::Borrowed("its own"), MigrationType::Simple, Cow::Borrowed(sql), false)
    };
    // It takes longer than any lock is waited for otherwise.
    let first = migration(1, "create table its_own (id int); select pg_sleep(2.5)");
    let second = migration(2, "alter table its_own add column more int");
    let run = async |migrations: Vec<Migration>| {
        let migrator = Migrator { migrations: Cow::Owned(migrations), ..Migrator::DEFAULT };
        migrator.run_direct(&mut world.database.connect().await).await.unwrap();
    };
    let (_, ours) = tokio::join!(run(vec![first.clone()]), onceward::migrate(&world.database.url));
    ours.unwrap();
    run(vec![first.clone(), second.clone()]).await;
    onceward::migrate(&world.database.url).await.unwrap();
    run(vec![first, second]).await;
    handles_all(&world, world.on_tables_as_they_are(), 0..10).await;
    world.effects_once_in_order(0..10).await;
    assert_eq!(world.database.number("select count(*) from public._sqlx_migrations").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_says_how_to_make_the_tables_that_it_misses() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let said = refused(world.on_tables_as_they_are()).await;
    let sentence = "setting `migrate`: Onceward's tables are not there and the program needs version 2; run the \
                    service's command `migrate`, or set `App::migrate(true)`";
    assert_eq!(said, sentence);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_on_newer_tables_until_they_say_that_it_is_too_old() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    onceward::migrate(&world.database.url).await.unwrap();
    world
        .database
        .execute("insert into onceward_migrations (version, checksum) values (7, 'of a newer program')")
        .await;
    handles_all(&world, world.on_tables_as_they_are(), 0..10).await;
    let migrating = world.on_tables_as_they_are().migrate(true);
    handles_all(&world, migrating, 10..20).await;
    world.effects_once_in_order(0..20).await;
    world.database.execute("update onceward_version set oldest_program = 7").await;
    let sentence = "setting `database_url`: Onceward's tables have version 7, which programs older than version 7 \
                    cannot use; this one knows version 2: deploy a newer build";
    assert_eq!(refused(world.on_tables_as_they_are()).await, sentence);
    assert_eq!(refused(world.on_tables_as_they_are().migrate(true)).await, sentence);
}

#[handler(topic = "overridden", name = "renamed")]
async fn renamed(payload: &[u8], tx: &mut Tx) -> HandlerResult {
    write_down(number(payload)?, tx).await?;
    Ok(())
}

/// As `renamed`, but knows its old name.
#[handler(topic = "overridden", name = "renamed", formerly = "one")]
async fn remembering(payload: &[u8], tx: &mut Tx) -> HandlerResult {
    write_down(number(payload)?, tx).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_handler_is_refused_until_it_gives_its_old_name_and_then_knows_what_it_did() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let event =
        |number, id| Sent { number, headers: vec![("ce_source", "/test"), ("ce_id", id)], ..Sent::default() };
    world.send([event(0, "a"), event(1, "b")]).await;
    let app = world.app().state(Script::good()).handler(world.route(one {}));
    handles_all(&world, app, 2..4).await;

    let said = refused(world.app().handler(world.route(renamed {}))).await;
    assert!(said.starts_with("handler `renamed`: it is new, and in group"), "{said}");
    assert!(said.contains("set `formerly = \"one\"`, else say `App::retired(\"one\")`"), "{said}");

    world.send([event(10, "a"), event(4, "c"), event(10, "b")]).await;
    handles_all(&world, world.app().handler(world.route(remembering {})), 5..7).await;
    world.effects_once_in_order(0..7).await;
}

/// Filed by day, an identity may have two rows, and different states in them.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_on_tables_of_version_1_is_known_after_migrate() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    onceward::migrate(&world.database.url).await.unwrap();
    world.database.execute(include_str!("../../migrations/0002_buckets.down.sql")).await;
    world
        .database
        .execute(
            "delete from onceward_migrations where version = 2; \
             select onceward_make_day(0); select onceward_make_day(1); \
             insert into onceward_scope (group_id, handler, topics) values ('g', 'h', '{t}'); \
             insert into onceward_dedupe (event_key, scope, bucket, state, topic, partition, record_offset) \
             select ('00000000-0000-0000-0000-00000000000' || k)::uuid, 1, date '1970-01-01' + day, state, 1, 0, k \
             from (values (1, 0, 0), (2, 0, 1), (3, 0, 1), (3, 1, 0)) as was (k, day, state)",
        )
        .await;
    let owner = Owner::new(&world.database.url, 0, DAY, DAY).await.unwrap();
    let back: Vec<_> = (1..5).map(|key| (key, true)).collect();
    assert_eq!(owner.seen(&back).await.unwrap(), [true, false, true, false]);
    assert_eq!(world.claims().await, 3);
    let left = "select count(*) from pg_proc where proname = 'onceward_make_day'";
    assert_eq!(world.database.number(left).await, 0);
}

/// Two handlers that share what was done would each skip what the other did.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_name_that_another_handler_still_has_is_refused() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let app = world.app().state(Script::good());
    let app = app.handler(world.route(one {}).event("a")).handler(world.route(remembering {}).event("b"));
    let said = refused(app).await;
    assert!(said.contains("handler `renamed`") && said.contains("`formerly = \"one\"`"), "{said}");
}

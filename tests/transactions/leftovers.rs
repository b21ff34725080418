//! What a handler does to its transaction ends with its record.

use super::*;
use support::{OwnPostgres, stack_or_leave_out};

/// Who meets what record 0 has left.
#[derive(Clone, Copy)]
enum Reaches {
    /// Nobody.
    NoRecord,
    /// The records of its run, but nobody behind it.
    ItsRun,
}

/// What record 0 of a partition leaves, what the others look at, and what they shall see.
struct Line {
    leaves: &'static str,
    look: &'static str,
    sees: &'static str,
    reaches: Reaches,
}

async fn play(
    line: &Line,
    payload: &[u8],
    Position { partition, .. }: Position,
    tx: &mut Tx,
) -> HandlerResult {
    let number = number(payload)?;
    let seen: String = sqlx::query_scalar(line.look).fetch_one(&mut *tx).await?;
    sqlx::query("insert into public.looks (line, number, seen) values ($1, $2, $3)")
        .bind(partition.partition())
        .bind(number)
        .bind(seen)
        .execute(&mut *tx)
        .await?;
    if number == 0 {
        tx.execute(line.leaves).await?;
    }
    Ok(())
}

/// One handler a line: each has its first run with several records.
macro_rules! lines {
    ($($name:ident: $leaves:literal, $look:literal => $sees:literal, $reaches:ident;)*) => {
        $(
            #[handler(topic = "overridden")]
            async fn $name(payload: &[u8], position: Position, tx: &mut Tx) -> HandlerResult {
                let line = Line { leaves: $leaves, look: $look, sees: $sees, reaches: Reaches::$reaches };
                play(&line, payload, position, tx).await
            }
        )*

        fn lines() -> Vec<(&'static str, Line)> {
            vec![$((
                stringify!($name),
                Line { leaves: $leaves, look: $look, sees: $sees, reaches: Reaches::$reaches },
            )),*]
        }

        fn with_lines(world: &World, app: App) -> App {
            app$(.handler(world.route($name {}).event(stringify!($name))))*
        }
    };
}

lines! {
    setting: "set local search_path = elsewhere, public",
        "select current_setting('search_path')" => "\"$user\", public", NoRecord;
    timeout: "set local statement_timeout = '50s'",
        "select current_setting('statement_timeout')" => "0", NoRecord;
    role: "set local role onceward_tests_nobody",
        "select (current_user = session_user)::text" => "true", NoRecord;
    tenant: "select set_config('app.tenant', 'of record 0', true)",
        "select coalesce(current_setting('app.tenant', true), '')" => "", NoRecord;
    tenant_of_session: "select set_config('app.tenant', 'of record 0', false)",
        "select coalesce(current_setting('app.tenant', true), '')" => "", NoRecord;
    tenant_by_function: "select use_tenant('of record 0', true)",
        "select coalesce(current_setting('app.tenant', true), '')" => "", NoRecord;
    tenant_of_session_by_function: "select use_tenant('of record 0', false)",
        "select coalesce(current_setting('app.tenant', true), '')" => "", NoRecord;
    path_by_procedure: "call go_elsewhere()",
        "select current_setting('search_path')" => "\"$user\", public", NoRecord;
    session_in_disguise: "do $$ begin execute 'set ' || 'session intervalstyle = iso_8601'; end $$",
        "select current_setting('intervalstyle')" => "postgres", NoRecord;
    temporary_table: "create temp table scratch (a int)",
        "select coalesce(to_regclass('pg_temp.scratch')::text, '')" => "", NoRecord;
    temporary_table_by_function: "select make_table()",
        "select coalesce(to_regclass('pg_temp.of_function')::text, '')" => "", NoRecord;
    cursor: "declare c cursor for select 1",
        "select count(*)::text from pg_cursors where name = 'c'" => "0", NoRecord;
    cursor_with_hold: "declare c cursor with hold for select 1",
        "select count(*)::text from pg_cursors where name = 'c'" => "0", NoRecord;
    prepared: "prepare q as select 1",
        "select count(*)::text from pg_prepared_statements where name = 'q'" => "0", NoRecord;
    advisory_lock: "select pg_advisory_lock(4711)",
        "select count(*)::text from pg_locks where locktype = 'advisory' and objid = 4711" => "0", ItsRun;
    advisory_lock_of_transaction: "select pg_advisory_xact_lock(4712)",
        "select count(*)::text from pg_locks where locktype = 'advisory' and objid = 4712" => "0", ItsRun;
    channel: "do $$ begin execute 'listen a_channel'; end $$",
        "select count(*)::text from pg_listening_channels()" => "0", ItsRun;
}

const FUNCTIONS: &str = "
create schema elsewhere;
create table looks (line int, number bigint, seen text);
grant insert on looks to public;
do $$ begin create role onceward_tests_nobody; exception when duplicate_object or unique_violation then null; end $$;
create function use_tenant(text, boolean) returns text language sql as
    $$ select set_config('app.tenant', $1, $2) $$;
create function make_table() returns void language plpgsql as
    $$ begin create temp table of_function (a int); end $$;
create procedure go_elsewhere() language plpgsql as
    $$ begin set local search_path = elsewhere, public; end $$;";

/// Sends these numbers to the partitions of some lines.
async fn send_to(world: &World, numbers: Range<i64>, with: impl Fn(&str) -> bool) {
    let names: Vec<_> = lines().iter().map(|(name, _)| *name).collect();
    let records = (0..).zip(&names).filter(|(_, name)| with(name)).flat_map(|(partition, name)| {
        numbers.clone().map(move |number| Sent {
            number,
            partition,
            headers: vec![("ce_type", *name)],
            ..Sent::default()
        })
    });
    world.send(records).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_a_handler_in_its_transaction_meet_no_other_record() {
    let lines = lines();
    let world = World::new(stack_or_leave_out!(), lines.len().try_into().unwrap()).await;
    world.database.execute(FUNCTIONS).await;
    let is_prepared = |name: &str| name == "prepared";
    // They are there before the start, so that they are one run.
    send_to(&world, 0..3, |name| !is_prepared(name)).await;
    // All use one connection after the other, so that what stays on it is met.
    let mut config = config();
    config.max_connections = Some(1);
    let running = Running::start(with_lines(&world, world.app().config(config)));
    world.caught_up().await;
    send_to(&world, 3..4, |name| !is_prepared(name)).await;
    world.caught_up().await;
    // Its connection is closed, and with it all would be gone that others have left.
    send_to(&world, 0..4, is_prepared).await;
    world.caught_up().await;
    running.stop().await.unwrap();
    let looks: Vec<(i32, i64, String)> = sqlx::query_as("select line, number, seen from looks order by 1, 2")
        .fetch_all(&mut world.database.connect().await)
        .await
        .unwrap();
    assert_eq!(looks.len(), lines.len() * 4, "each record was handled once");
    let mut wrong = Vec::new();
    for (line, number, seen) in looks {
        let (name, Line { sees, reaches, .. }) = &lines[usize::try_from(line).unwrap()];
        let may_meet_it = matches!(reaches, Reaches::ItsRun) && (1..3).contains(&number);
        if seen != *sees && !may_meet_it {
            wrong.push(format!("{name}: record {number} sees `{seen}`, not `{sees}`"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The savepoint that it goes back to is another record's.
#[handler(topic = "overridden")]
async fn goes_back(
    payload: &[u8],
    script: State<Script>,
    Attempt(attempt): Attempt,
    tx: &mut Tx,
) -> HandlerResult {
    let number = number(payload)?;
    if number == 0 {
        tx.execute("savepoint a").await?;
    }
    script.play(number, attempt, tx).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_cannot_go_back_to_a_savepoint_of_the_record_before() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let script = Script::new(Misdeed::FailsInSql("rollback to a"), [1]);
    world.send_numbers(0..3).await;
    let running = Running::start(world.app().state(script.clone()).handler(world.route(goes_back {})));
    eventually("it is tried again", async || script.attempts(1) >= 2).await;
    world.committed(1).await;
    world.effects_once_in_order(0..1).await;
    script.behave();
    world.caught_up().await;
    running.stop().await.unwrap();
    world.effects_once_in_order(0..3).await;
}

#[handler(topic = "overridden")]
async fn gives_up_durability(payload: &[u8], tx: &mut Tx) -> HandlerResult {
    tx.execute("set local synchronous_commit = off").await?;
    write_down(number(payload)?, tx).await?;
    Ok(())
}

/// The WAL is not written by itself for so long that a crash loses what no COMMIT has flushed.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_committed_for_durable_work_whatever_a_handler_sets() {
    let postgres = OwnPostgres::start_new();
    let stack = Stack { database_url: postgres.url(), ..stack_or_leave_out!() };
    let world = World::new(stack, 1).await;
    world.database.execute("alter system set wal_writer_delay = '10s'").await;
    world.database.execute("select pg_reload_conf()").await;
    world.send_numbers(0..20).await;
    let running = Running::start(world.app().handler(world.route(gives_up_durability {})));
    world.committed(20).await;
    postgres.stop();
    postgres.start();
    world.effects_once_in_order(0..20).await;
    running.stop().await.unwrap();
}

//! Makes the tables, and checks at startup that they fit the program.

use super::StoreError;
use super::postgres::{LOCK_TIMEOUT, Postgres, execute, failed};
use crate::{BoxError, Error};
use sqlx::migrate::{Migration, Migrator};
use sqlx::postgres::PgConnection;
use std::borrow::Cow;
use std::time::Duration;

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// The version of the tables that this program is written for.
fn newest() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Brings Onceward's tables in this database up to date.
///
/// Safe to call from several processes at once, and when nothing is to be done.
///
/// # Errors
/// Where the database cannot be reached or the role may not create tables.
pub async fn migrate(database_url: &str) -> Result<(), Error> {
    let postgres = Postgres::connect(database_url, 1, Duration::from_secs(60)).await?;
    apply(&postgres).await
}

pub(crate) async fn apply(postgres: &Postgres) -> Result<(), Error> {
    const ACTION: &str = "make Onceward's tables";
    let mut connection = postgres.connection(ACTION).await?;
    apply_on(connection.get()).await.map_err(failed(ACTION))?;
    postgres.put_back(connection);
    Ok(())
}

async fn apply_on(connection: &mut PgConnection) -> Result<(), BoxError> {
    // One process at a time, however long the one before takes. Not sqlx's own lock,
    // which migrations of the application hold too. A `create schema if not exists`
    // fails where another one makes the schema at the same time.
    execute(
        connection,
        "set lock_timeout = 0; select pg_advisory_lock(hashtextextended('onceward_migrations', 0))",
    )
    .await?;
    execute(connection, &format!("set lock_timeout = {}", LOCK_TIMEOUT.as_millis())).await?;
    make_tables(connection).await?;
    execute(connection, "select pg_advisory_unlock(hashtextextended('onceward_migrations', 0))").await?;
    Ok(())
}

async fn make_tables(connection: &mut PgConnection) -> Result<(), BoxError> {
    let (schema, path): (Option<String>, String) =
        sqlx::query_as("select quote_ident(current_schema()), current_setting('search_path')")
            .fetch_one(&mut *connection)
            .await?;
    let schema = schema.ok_or("no schema of the search_path exists")?;
    execute(
        connection,
        "create schema if not exists onceward_migrations; set search_path = onceward_migrations",
    )
    .await?;
    // Not `run`, whose future is not `Send` for the compiler.
    in_schema(&schema).run_direct(&mut *connection).await?;
    execute(connection, &format!("set search_path = {path}")).await?;
    Ok(())
}

/// The migrations, each with its tables in `schema`, while sqlx keeps its own
/// table in the schema `onceward_migrations`: in a shared one it would meet the application's
/// migrations, and each would call the other's unknown.
fn in_schema(schema: &str) -> Migrator {
    let moved = |migration: &Migration| Migration {
        sql: Cow::Owned(format!(
            "set local search_path = {schema};\n{}\n;set local search_path = onceward_migrations",
            migration.sql
        )),
        ..migration.clone()
    };
    Migrator {
        migrations: Cow::Owned(MIGRATOR.iter().map(moved).collect()),
        // Newer ones, of a program that is being deployed beside this one.
        ignore_missing: true,
        locking: false,
        no_tx: false,
    }
}

/// Refuses tables that this program cannot run on.
pub(crate) async fn check(postgres: &Postgres) -> Result<(), Error> {
    const ACTION: &str = "read the version of Onceward's tables";
    let mut connection = postgres.connection(ACTION).await?;
    let (version, oldest_program) = version(connection.get()).await.map_err(failed(ACTION))?;
    postgres.put_back(connection);
    let needed = newest();
    if version < needed {
        let what = if version == 0 { "are not there".to_owned() } else { format!("have version {version}") };
        return Err(Error::config(
            "migrate",
            format!(
                "Onceward's tables {what} and the program needs version {needed}; run the service's command \
                 `migrate`, or set `App::migrate(true)`"
            ),
        ));
    }
    if oldest_program > needed {
        return Err(Error::config(
            "database_url",
            format!(
                "Onceward's tables have version {version}, which programs older than version {oldest_program} \
                 cannot use; this one knows version {needed}: deploy a newer build"
            ),
        ));
    }
    Ok(())
}

/// The tables' version, and the oldest that a program may know.
async fn version(connection: &mut PgConnection) -> Result<(i64, i64), sqlx::Error> {
    let there = "select to_regclass('onceward_migrations._sqlx_migrations') is not null \
                 and to_regclass('onceward_version') is not null";
    if !sqlx::query_scalar(there).fetch_one(&mut *connection).await? {
        return Ok((0, 0));
    }
    sqlx::query_as(
        "select coalesce(max(version), 0), (select oldest_program::bigint from onceward_version) \
         from onceward_migrations._sqlx_migrations where success",
    )
    .fetch_one(connection)
    .await
}

/// The partition of a day (since 1970-01-01).
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) name: String,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    Attached,
    /// A drop was interrupted: it takes no rows.
    HalfDetached,
    /// Not there, or a table of its own.
    Apart,
}

impl Partition {
    pub(super) async fn of_day(connection: &mut PgConnection, day: i32) -> Result<Self, StoreError> {
        let (name, half_detached): (String, Option<bool>) = sqlx::query_as(
            "select name, (select inhdetachpending from pg_inherits \
             where inhparent = 'onceward_dedupe'::regclass and inhrelid = to_regclass(name)) \
             from (select 'onceward_dedupe_' || to_char(date '1970-01-01' + $1, 'YYYYMMDD')) as day (name)",
        )
        .bind(day)
        .fetch_one(connection)
        .await?;
        let state = match half_detached {
            Some(false) => State::Attached,
            Some(true) => State::HalfDetached,
            None => State::Apart,
        };
        Ok(Self { name, state })
    }
}

/// Makes the partition of a day (since 1970-01-01) and notes that it is written to.
///
/// It is made apart and then attached: `CREATE TABLE .. PARTITION OF` would lock
/// the parent against every open transaction.
pub(crate) async fn make_day(connection: &mut PgConnection, day: i32) -> Result<(), StoreError> {
    execute(connection, "begin").await?;
    // One at a time: a second maker waits here and finds the table made.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('onceward_dedupe', 0))")
        .execute(&mut *connection)
        .await?;
    let Partition { name, state } = Partition::of_day(connection, day).await?;
    let make = match state {
        State::Attached => None,
        State::HalfDetached => Some(format!("alter table onceward_dedupe detach partition {name} finalize")),
        State::Apart => {
            Some(format!("create table if not exists {name} (like onceward_dedupe including defaults)"))
        }
    };
    if let Some(make) = make {
        let attach = format!(
            "alter table onceward_dedupe attach partition {name} \
             for values from (date '1970-01-01' + {day}) to (date '1970-01-01' + {day} + 1)"
        );
        execute(connection, &format!("{make}; {attach}")).await?;
    }
    sqlx::query(
        "insert into onceward_bucket (bucket) values (date '1970-01-01' + $1) \
         on conflict (bucket) do update set written_at = now()",
    )
    .bind(day)
    .execute(&mut *connection)
    .await?;
    execute(connection, "commit").await
}

//! Makes the tables, and checks at startup that they fit the program.

use super::StoreError;
use super::postgres::{Postgres, execute};
use crate::{BoxError, Error};
use sqlx::migrate::{Migration, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::raw_sql;
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
    postgres
        .on_a_connection("make Onceward's tables", async |connection| {
            let schema: Option<String> = sqlx::query_scalar("select quote_ident(current_schema())")
                .fetch_one(&mut *connection)
                .await?;
            let schema = schema.ok_or("no schema of the search_path exists")?;
            let path: String = sqlx::query_scalar("select current_setting('search_path')")
                .fetch_one(&mut *connection)
                .await?;
            raw_sql("create schema if not exists onceward; set search_path = onceward")
                .execute(&mut *connection)
                .await?;
            in_schema(&schema).run(&mut *connection).await?;
            raw_sql(&format!("set search_path = {path}")).execute(&mut *connection).await?;
            Ok(())
        })
        .await
}

/// The migrations, each with its tables in `schema`, while sqlx keeps its own
/// table in the schema `onceward`: in a shared one it would meet the application's
/// migrations, and each would call the other's unknown.
fn in_schema(schema: &str) -> Migrator {
    let moved = |migration: &Migration| Migration {
        sql: Cow::Owned(format!(
            "set local search_path = {schema};\n{}\n;set local search_path = onceward",
            migration.sql
        )),
        ..migration.clone()
    };
    Migrator {
        migrations: Cow::Owned(MIGRATOR.iter().map(moved).collect()),
        // Newer ones, of a program that is being deployed beside this one.
        ignore_missing: true,
        locking: true,
        no_tx: false,
    }
}

/// Refuses tables that this program cannot run on.
pub(crate) async fn check(postgres: &Postgres) -> Result<(), Error> {
    let (version, oldest_program) = postgres
        .on_a_connection("read the version of Onceward's tables", async |connection| {
            let there: bool = sqlx::query_scalar(
                "select to_regclass('onceward._sqlx_migrations') is not null and to_regclass('onceward_version') is not null",
            )
            .fetch_one(&mut *connection)
            .await?;
            if !there {
                return Ok((0, 0));
            }
            let version: Option<i64> =
                sqlx::query_scalar("select max(version) from onceward._sqlx_migrations where success").fetch_one(&mut *connection).await?;
            let oldest: i32 = sqlx::query_scalar("select oldest_program from onceward_version").fetch_one(connection).await?;
            Ok::<_, BoxError>((version.unwrap_or(0), i64::from(oldest)))
        })
        .await?;
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

/// Makes the partition of a day (since 1970-01-01) and notes that it is written to.
///
/// It is made apart and then attached: `CREATE TABLE .. PARTITION OF` would lock
/// the parent against every open transaction.
pub(crate) async fn make_day(connection: &mut PgConnection, day: i32) -> Result<(), StoreError> {
    let name: String =
        sqlx::query_scalar("select 'onceward_dedupe_' || to_char(date '1970-01-01' + $1, 'YYYYMMDD')")
            .bind(day)
            .fetch_one(&mut *connection)
            .await?;
    execute(connection, "begin").await?;
    // One at a time: a second maker waits here and finds the table made.
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('onceward_dedupe', 0))")
        .execute(&mut *connection)
        .await?;
    let attached: bool = sqlx::query_scalar(
        "select exists (select from pg_inherits where inhparent = 'onceward_dedupe'::regclass and inhrelid = to_regclass($1))",
    )
    .bind(&name)
    .fetch_one(&mut *connection)
    .await?;
    if !attached {
        let make = format!(
            "create table {name} (like onceward_dedupe including defaults);
             alter table onceward_dedupe attach partition {name}
             for values from (date '1970-01-01' + {day}) to (date '1970-01-01' + {day} + 1)"
        );
        execute(connection, &make).await?;
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

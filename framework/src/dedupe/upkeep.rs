//! Keeps the ring of buckets going: opens, seals, expires and empties them when it is time.

use super::StoreError;
use super::buckets::{LOCKS, SLOTS, table};
use super::connections::execute;
use super::postgres::Postgres;
use crate::error::trouble::Rarely;
use sqlx::postgres::PgConnection;
use std::time::Duration;

/// How often due upkeep is looked for: far more often than the shortest window.
const INTERVAL: Duration = Duration::from_secs(60);

/// How long an expired bucket waits to be emptied: longer than a process looks into it after that
/// (`LOOKED_UP_EVERY`), and a run that began before.
const EMPTIED_AFTER: Duration = Duration::from_secs(5 * 60);

/// How long emptying waits for a table's lock. Meanwhile a claim would wait behind it.
const EMPTIED_WITHIN: Duration = Duration::from_millis(50);

/// Does the upkeep as long as the application runs.
pub(crate) async fn keep(postgres: &Postgres) {
    let mut failing = Rarely::default();
    loop {
        if let Err(error) = once(postgres).await
            && let Some(times) = failing.count()
        {
            tracing::warn!(%error, times, "cannot open or empty buckets of what was done; trying again in {INTERVAL:?}");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Does the due upkeep once. If several processes try, one of them does it.
pub(super) async fn once(postgres: &Postgres) -> Result<(), StoreError> {
    let mut pooled = postgres.get().await?;
    let connection = pooled.get();
    execute(connection, "begin").await?;
    let done = in_transaction(connection, postgres.window()).await;
    execute(connection, if done.is_ok() { "commit" } else { "rollback" }).await?;
    postgres.put_back(pooled);
    done
}

async fn in_transaction(connection: &mut PgConnection, window: Duration) -> Result<(), StoreError> {
    if !try_lock(connection, -1).await? {
        return Ok(());
    }
    seal(connection).await?;
    open(connection, window).await?;
    expire(connection, window).await?;
    empty(connection).await
}

async fn try_lock(connection: &mut PgConnection, number: i32) -> Result<bool, StoreError> {
    let statement = format!("select pg_try_advisory_xact_lock({LOCKS}, $1)");
    Ok(sqlx::query_scalar(&statement).bind(number).fetch_one(connection).await?)
}

/// Seals each closed bucket in which no transaction claims any more. One that comes late, after the lock is
/// free again, finds a later bucket and begins anew.
async fn seal(connection: &mut PgConnection) -> Result<(), StoreError> {
    let closed: Vec<i32> =
        sqlx::query_scalar("select bucket from onceward_bucket where closed_at is not null and not sealed")
            .fetch_all(&mut *connection)
            .await?;
    for bucket in closed {
        if try_lock(connection, bucket).await? {
            sqlx::query("update onceward_bucket set sealed = true where bucket = $1")
                .bind(bucket)
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}

/// The longest of all services' windows, this one's among them.
const WINDOW: &str = "greatest(make_interval(secs => $1), (select max(keep) from onceward_scope))";

/// Opens the next bucket once the current one is a window old. It waits for its table to be empty and
/// for the bucket before to be sealed: then no claim ever inserts into three.
async fn open(connection: &mut PgConnection, window: Duration) -> Result<(), StoreError> {
    let open = format!(
        "with last as (select bucket, opened_at from onceward_bucket order by bucket desc limit 1), \
         opened as (insert into onceward_bucket (bucket) select bucket + 1 from last \
             where opened_at <= now() - {WINDOW} \
             and not exists (select from onceward_bucket b where b.bucket < last.bucket and not b.sealed) \
             and not exists (select from onceward_bucket b where b.bucket % {SLOTS} = (last.bucket + 1) % {SLOTS}) \
             returning bucket) \
         update onceward_bucket b set closed_at = now() from opened where b.bucket = opened.bucket - 1 \
         returning opened.bucket"
    );
    let opened: Option<i32> =
        sqlx::query_scalar(&open).bind(window.as_secs_f64()).fetch_optional(connection).await?;
    if let Some(bucket) = opened {
        tracing::info!(bucket, table = table(bucket), "opened the next bucket of what was done");
    }
    Ok(())
}

/// Expires the buckets that were closed a whole window ago: their youngest row is older than that.
async fn expire(connection: &mut PgConnection, window: Duration) -> Result<(), StoreError> {
    let expire = format!(
        "update onceward_bucket set expired_at = now() \
         where sealed and expired_at is null and closed_at <= now() - {WINDOW}"
    );
    sqlx::query(&expire).bind(window.as_secs_f64()).execute(connection).await?;
    Ok(())
}

/// Empties the tables of expired buckets, which no statement names any more. If a statement of a stalled process
/// does, its table is emptied the next time.
async fn empty(connection: &mut PgConnection) -> Result<(), StoreError> {
    let old: Vec<i32> = sqlx::query_scalar(
        "select bucket from onceward_bucket where expired_at <= now() - make_interval(secs => $1)",
    )
    .bind(EMPTIED_AFTER.as_secs_f64())
    .fetch_all(&mut *connection)
    .await?;
    for bucket in old {
        let table = table(bucket);
        let begin = format!("savepoint empty; set local lock_timeout = {}", EMPTIED_WITHIN.as_millis());
        execute(connection, &begin).await?;
        let emptied = format!("truncate {table}; delete from onceward_bucket where bucket = {bucket}");
        match execute(connection, &emptied).await {
            Ok(()) => {
                tracing::info!(bucket, table, "emptied: it was closed for longer than the dedupe window")
            }
            Err(StoreError::InProgress) => execute(connection, "rollback to empty").await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

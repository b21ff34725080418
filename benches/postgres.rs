//! Shared by the cases with PostgreSQL: a database, our application on it, and the effects.

use crate::bench::Bench;
use onceward::App;
use sqlx::PgExecutor;
use std::collections::HashMap;
use support::Database;

pub const PARTITIONS: i32 = 8;

const UPSERT: &str = "insert into totals as t (key, count) values ($1, 1) \
                      on conflict (key) do update set count = t.count + 1";
const UPSERT_ALL: &str = "insert into totals as t (key, count) \
                          select * from unnest($1::text[], $2::bigint[]) as u (key, count) order by key \
                          on conflict (key) do update set count = t.count + excluded.count";

/// A database for a handler's effects. Its commits are delayed by so many microseconds: those of
/// a disk in a cloud take about 1 ms.
pub fn database(bench: &Bench, commit_delay: u32) -> Database {
    bench.runtime.block_on(async {
        let database = bench.stack.database().await;
        let name = database.url.rsplit_once('/').expect("a URL with a database").1;
        database.execute("create table totals (key text primary key, count bigint not null)").await;
        database.execute("create table done (event_key uuid primary key)").await;
        database.execute(&format!("alter database {name} set commit_delay = {commit_delay}")).await;
        database.execute(&format!("alter database {name} set commit_siblings = 0")).await;
        database
    })
}

/// Our application on it.
pub fn app(bench: &Bench, database: &Database) -> App {
    App::new().brokers(&bench.stack.brokers).database_url(&database.url).migrate(true)
}

/// The effect of one record.
pub async fn add_one(executor: impl PgExecutor<'_>, key: &str) -> sqlx::Result<()> {
    sqlx::query(UPSERT).bind(key).execute(executor).await?;
    Ok(())
}

/// The effects of many, in one statement.
pub async fn add_all<'k>(
    executor: impl PgExecutor<'_>,
    keys: impl Iterator<Item = &'k str>,
) -> sqlx::Result<()> {
    let mut counts: HashMap<&str, i64> = HashMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
    let (keys, counts): (Vec<&str>, Vec<i64>) = counts.into_iter().unzip();
    sqlx::query(UPSERT_ALL).bind(keys).bind(counts).execute(executor).await?;
    Ok(())
}

//! Effects in PostgreSQL, 8 partitions, one connection a partition on both sides:
//! a transaction a record by hand (its records already in memory, no Kafka), our
//! one-record handler, our batch handler. With PostgreSQL as it is, and with
//! `commit_delay` = 1 ms, which models a cloud disk.

use crate::engine::Count;
use crate::topics;
use harness::{Contender, Moment, Took, compare};
use onceward::prelude::*;
use onceward::{CancellationToken, TopicPartition};
use sqlx::{Connection, Executor, PgConnection};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use support::{Database, Stack, unique};
use tokio::runtime::Runtime;
use uuid::Uuid;

pub(crate) const PARTITIONS: i32 = 8;
pub(crate) const UPSERT: &str = "insert into totals as t (key, count) values ($1, 1) \
                      on conflict (key) do update set count = t.count + 1";

pub fn run(runtime: &Runtime, stack: &Stack, rounds: usize) -> Vec<String> {
    let records = 60_000;
    let topic = topics::full(runtime, stack, PARTITIONS, records, 100);
    let mut results = Vec::new();
    for (name, delay) in [("PostgreSQL as it is", 0), ("PostgreSQL, 1 ms", 1000)] {
        set_delay(runtime, stack, delay);
        let topic = &*topic;
        let by_hand = records / 15;
        let contenders: Vec<Contender<'_>> = vec![
            ("transaction a record by hand", Box::new(move || one_by_one(runtime, stack, by_hand))),
            ("onceward, one-record handler", Box::new(move || ours(runtime, stack, topic, records, false))),
            ("onceward, batch handler", Box::new(move || ours(runtime, stack, topic, records, true))),
        ];
        results.push(compare(&format!("effects, {name}"), rounds, contenders));
    }
    set_delay(runtime, stack, 0);
    results
}

fn set_delay(runtime: &Runtime, stack: &Stack, delay: u32) {
    runtime.block_on(async {
        let mut connection = PgConnection::connect(&stack.database_url).await.expect("PostgreSQL answers");
        for statement in [
            format!("alter system set commit_delay = {delay}"),
            "alter system set commit_siblings = 0".to_owned(),
            "select pg_reload_conf()".to_owned(),
        ] {
            connection.execute(&*statement).await.expect("the setting is taken");
        }
    });
}

pub(crate) async fn database(stack: &Stack) -> Database {
    let database = stack.database().await;
    database.execute("create table totals (key text primary key, count bigint not null)").await;
    database.execute("create table done (event_key uuid primary key)").await;
    database
}

fn key(number: u64) -> String {
    let partitions = PARTITIONS as u64;
    format!("k{}-{:04}", number % partitions, number / partitions % 600)
}

fn one_by_one(runtime: &Runtime, stack: &Stack, records: u64) -> Took {
    runtime.block_on(async {
        let database = database(stack).await;
        let start = Moment::now();
        let workers: Vec<_> = (0..PARTITIONS as u64)
            .map(|worker| {
                let database = database.clone();
                tokio::spawn(async move {
                    let mut connection = database.connect().await;
                    for number in (worker..records).step_by(PARTITIONS as usize) {
                        let mut tx = connection.begin().await.expect("begin");
                        let id = Uuid::from_u128(u128::from(number) << 64 | 1);
                        let claimed =
                            sqlx::query("insert into done (event_key) values ($1) on conflict do nothing")
                                .bind(id)
                                .execute(&mut *tx)
                                .await
                                .expect("claim");
                        if claimed.rows_affected() == 1 {
                            sqlx::query(UPSERT).bind(key(number)).execute(&mut *tx).await.expect("effect");
                        }
                        tx.commit().await.expect("commit");
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.expect("no panic");
        }
        start.took(records)
    })
}

#[handler(topic = "overridden", name = "effects")]
async fn one(Key(key): Key<&str>, tx: &mut Tx) -> HandlerResult {
    sqlx::query(UPSERT).bind(key).execute(tx).await?;
    Ok(())
}

#[handler(topic = "overridden", name = "effects")]
async fn many(keys: Batch<Key<&str>>, tx: &mut Tx) -> HandlerResult {
    let mut counts: HashMap<&str, i64> = HashMap::new();
    for Key(key) in keys.iter() {
        *counts.entry(key).or_default() += 1;
    }
    let (keys, counts): (Vec<&str>, Vec<i64>) = counts.into_iter().unzip();
    sqlx::query(
        "insert into totals as t (key, count) select * from unnest($1::text[], $2::bigint[]) as u (key, count) \
         order by key on conflict (key) do update set count = t.count + excluded.count",
    )
    .bind(keys)
    .bind(counts)
    .execute(tx)
    .await?;
    Ok(())
}

fn ours(runtime: &Runtime, stack: &Stack, topic: &str, records: u64, batch: bool) -> Took {
    runtime.block_on(async {
        let database = database(stack).await;
        let (start, end, stop) =
            (Arc::new(OnceLock::new()), CancellationToken::new(), CancellationToken::new());
        let (started, done) = (start.clone(), end.clone());
        let count = Count { handled: Arc::default(), until: records, done };
        let app = App::new()
            .brokers(&stack.brokers)
            .database_url(&database.url)
            .migrate(true)
            .shutdown_on(stop.clone())
            .on_assigned(move |_: &[TopicPartition]| {
                started.get_or_init(Moment::now);
            });
        let group = unique("bench");
        let app = if batch {
            app.handler(many {}.route().topic(topic).group(group).around(count))
        } else {
            app.handler(one {}.route().topic(topic).group(group).around(count))
        };
        let running = tokio::spawn(app.run());
        end.cancelled().await;
        let took = start.get().expect("assigned before done").took(records);
        stop.cancel();
        running.await.expect("no panic").expect("a clean end");
        assert_eq!(database.number("select sum(count)::bigint from totals").await, records as i64);
        took
    })
}

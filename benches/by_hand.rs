//! Hand-written code on sqlx and rdkafka: one task per partition, each with a connection of its
//! own. Its records are in memory already, or come from a consumer.

use crate::bench::Bench;
use crate::loops::Settings;
use crate::postgres::{PARTITIONS, add_all, add_one, database};
use harness::{Moment, Took};
use rdkafka::Message;
use rdkafka::consumer::{Consumer, StreamConsumer};
use sqlx::{Connection, Executor, PgConnection, Row};
use std::collections::HashSet;
use support::Database;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How many records a group has: our `max_run_records`.
const GROUP: usize = 1000;

/// The work on each group.
#[derive(Clone, Copy)]
pub enum ByHand {
    /// A transaction for each record.
    TransactionARecord,
    /// One transaction, in which each record has a statement.
    GroupCommit,
    /// One transaction, with one statement for all.
    Unnest,
    /// No effect: what is done is looked up before, and noted after.
    LookUpAndMark,
}

struct Record {
    id: Uuid,
    key: String,
}

impl ByHand {
    /// Times it, on a database of its own.
    pub fn run(self, bench: &Bench, commit_delay: u32, records: u64) -> Took {
        let database = database(bench, commit_delay);
        bench.runtime.block_on(async {
            let mut workers = Vec::new();
            for partition in 0..PARTITIONS as u64 {
                let mut connection = database.connect().await;
                let records: Vec<Record> =
                    (partition..records).step_by(PARTITIONS as usize).map(Record::new).collect();
                workers.push(async move {
                    for group in records.chunks(GROUP) {
                        self.group(&mut connection, group).await.expect("PostgreSQL takes it");
                    }
                });
            }
            let start = Moment::now();
            let tasks: Vec<_> = workers.into_iter().map(tokio::spawn).collect();
            for task in tasks {
                task.await.expect("no panic");
            }
            start.took(records)
        })
    }

    /// Times it behind a consumer, whose loop hands each record to its partition's task. It
    /// commits no offsets, which is less than what it would have to do.
    pub fn run_from_kafka(self, bench: &Bench, topic: &str, commit_delay: u32, records: u64) -> Took {
        let database = database(bench, commit_delay);
        let _inside = bench.runtime.enter();
        let consumer: StreamConsumer = Settings::Tuned.client(bench).create().expect("a consumer");
        consumer.subscribe(&[topic]).expect("subscribed");
        let consume = async move {
            let (queues, workers) = self.workers(&database).await;
            let mut start = None;
            for _ in 0..records {
                let message = consumer.recv().await.expect("a record");
                start.get_or_insert_with(Moment::now);
                let record = Record::of(&message);
                queues[message.partition() as usize].send(record).await.expect("its task takes it");
            }
            drop(queues);
            for worker in workers {
                worker.await.expect("no panic");
            }
            start.expect("there are records").took(records)
        };
        bench.runtime.block_on(bench.runtime.spawn(consume)).expect("no panic")
    }

    /// A task for each partition, and where it takes records from.
    async fn workers(self, database: &Database) -> (Vec<mpsc::Sender<Record>>, Vec<JoinHandle<()>>) {
        let (mut queues, mut workers) = (Vec::new(), Vec::new());
        for _ in 0..PARTITIONS {
            let (queue, mut records) = mpsc::channel(2 * GROUP);
            let mut connection = database.connect().await;
            queues.push(queue);
            workers.push(tokio::spawn(async move {
                let mut group = Vec::with_capacity(GROUP);
                while records.recv_many(&mut group, GROUP).await > 0 {
                    self.group(&mut connection, &group).await.expect("PostgreSQL takes it");
                    group.clear();
                }
            }));
        }
        (queues, workers)
    }

    async fn group(self, connection: &mut PgConnection, group: &[Record]) -> sqlx::Result<()> {
        match self {
            Self::TransactionARecord => {
                for record in group {
                    let mut tx = connection.begin().await?;
                    let claim =
                        sqlx::query("insert into done values ($1) on conflict do nothing").bind(record.id);
                    if claim.execute(&mut *tx).await?.rows_affected() == 1 {
                        add_one(&mut *tx, &record.key).await?;
                    }
                    tx.commit().await?;
                }
            }
            Self::GroupCommit => {
                let mut tx = connection.begin().await?;
                let fresh = claim(&mut tx, group).await?;
                for record in group.iter().filter(|record| fresh.contains(&record.id)) {
                    add_one(&mut *tx, &record.key).await?;
                }
                tx.commit().await?;
            }
            Self::Unnest => {
                let mut tx = connection.begin().await?;
                let fresh = claim(&mut tx, group).await?;
                let fresh = group.iter().filter(|record| fresh.contains(&record.id));
                add_all(&mut *tx, fresh.map(|record| &*record.key)).await?;
                tx.commit().await?;
            }
            Self::LookUpAndMark => {
                let look_up = "select event_key from done where event_key = any($1)";
                let done = connection.fetch_all(sqlx::query(look_up).bind(ids(group))).await?;
                assert!(done.is_empty());
                let mark = "insert into done select * from unnest($1::uuid[]) on conflict do nothing";
                connection.execute(sqlx::query(mark).bind(ids(group))).await?;
            }
        }
        Ok(())
    }
}

impl Record {
    fn of(message: &impl Message) -> Self {
        let key = message.key_view::<str>().expect("a key").expect("UTF-8");
        let number = message.offset() as u64 * PARTITIONS as u64 + message.partition() as u64;
        Self { id: id(number), key: key.to_owned() }
    }

    fn new(number: u64) -> Self {
        let partitions = PARTITIONS as u64;
        let key = format!("k{}-{:04}", number % partitions, number / partitions % 600);
        Self { id: id(number), key }
    }
}

/// As spread as a hash is.
fn id(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// Claims a group's identities in one statement, and gives those that nobody had.
async fn claim(connection: &mut PgConnection, group: &[Record]) -> sqlx::Result<HashSet<Uuid>> {
    let claim = "insert into done select * from unnest($1::uuid[]) as u (event_key) order by event_key \
                 on conflict do nothing returning event_key";
    let rows = connection.fetch_all(sqlx::query(claim).bind(ids(group))).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn ids(group: &[Record]) -> Vec<Uuid> {
    group.iter().map(|record| record.id).collect()
}

//! What one would write with sqlx and nothing else: one task a partition, each with a connection
//! of its own. Its records are in memory already; it needs no Kafka.

use crate::bench::Bench;
use crate::postgres::{PARTITIONS, add_all, add_one, database};
use harness::{Moment, Took};
use sqlx::{Connection, Executor, PgConnection, Row};
use std::collections::HashSet;
use uuid::Uuid;

/// How many records a group has: our `max_run_records`.
const GROUP: usize = 1000;

/// What is done with each group.
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

struct InMemory {
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
                let records: Vec<InMemory> =
                    (partition..records).step_by(PARTITIONS as usize).map(InMemory::new).collect();
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

    async fn group(self, connection: &mut PgConnection, group: &[InMemory]) -> sqlx::Result<()> {
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

impl InMemory {
    fn new(number: u64) -> Self {
        let partitions = PARTITIONS as u64;
        // As spread as a hash is.
        let id = u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let key = format!("k{}-{:04}", number % partitions, number / partitions % 600);
        Self { id: Uuid::from_u128(id), key }
    }
}

/// Claims a group's identities in one statement, and gives those that nobody had.
async fn claim(connection: &mut PgConnection, group: &[InMemory]) -> sqlx::Result<HashSet<Uuid>> {
    let claim = "insert into done select * from unnest($1::uuid[]) as u (event_key) order by event_key \
                 on conflict do nothing returning event_key";
    let rows = connection.fetch_all(sqlx::query(claim).bind(ids(group))).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn ids(group: &[InMemory]) -> Vec<Uuid> {
    group.iter().map(|record| record.id).collect()
}

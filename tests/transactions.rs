//! Effects in a transaction count once, and no record is lost, whatever a handler,
//! the network, PostgreSQL or a producer does.
#![allow(clippy::unwrap_used)] // In tests a panic is the report.

#[path = "transactions/connection.rs"]
mod connection;
#[path = "transactions/copies.rs"]
mod copies;
#[path = "transactions/leftovers.rs"]
mod leftovers;
#[path = "transactions/misdeeds.rs"]
mod misdeeds;
#[path = "transactions/outages.rs"]
mod outages;
#[path = "transactions/owners.rs"]
mod owners;
#[path = "transactions/refusals.rs"]
mod refusals;
#[path = "transactions/roles.rs"]
mod roles;
#[path = "transactions/runs.rs"]
mod runs;
#[path = "transactions/tables.rs"]
mod tables;
#[path = "transactions/window.rs"]
mod window;

use onceward::middleware::{Middleware, NextRun, Outcomes, Run};
use onceward::prelude::*;
use onceward::{Config, Route};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::Executor;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Database, Running, Stack, eventually, unique};
use tokio::sync::Semaphore;

/// A topic, a group, and a database in which handlers write down the numbers that
/// they get.
struct World {
    stack: Stack,
    topic: String,
    partitions: i32,
    group: String,
    database: Database,
    producer: FutureProducer,
}

/// A record as it is produced. Its payload is a number.
#[derive(Clone, Default)]
struct Sent<'a> {
    number: i64,
    partition: i32,
    key: Option<&'a str>,
    timestamp: Option<i64>,
    headers: Vec<(&'a str, &'a str)>,
}

impl World {
    async fn new(stack: Stack, partitions: i32) -> Self {
        Self::with_topic(stack, partitions, &[]).await
    }

    async fn with_topic(stack: Stack, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let database = stack.database().await;
        database.execute("create table effects (place bigserial, number bigint not null)").await;
        let topic = stack.topic_with("transactions", partitions, settings).await;
        Self { topic, partitions, group: unique("group"), database, producer: stack.producer(), stack }
    }

    async fn send<'a>(&self, records: impl IntoIterator<Item = Sent<'a>>) {
        let mut deliveries = Vec::new();
        for sent in records {
            let payload = sent.number.to_string();
            let mut headers = OwnedHeaders::new();
            for (key, value) in sent.headers {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            let mut record = FutureRecord::<str, str>::to(&self.topic)
                .partition(sent.partition)
                .headers(headers)
                .payload(&payload);
            (record.key, record.timestamp) = (sent.key, sent.timestamp);
            deliveries.push(self.producer.send_result(record).map_err(|(error, _)| error).unwrap());
        }
        for delivery in deliveries {
            delivery.await.unwrap().unwrap();
        }
    }

    /// Sends these numbers to partition 0, in order.
    async fn send_numbers(&self, numbers: Range<i64>) {
        self.send(numbers.map(|number| Sent { number, ..Sent::default() })).await;
    }

    fn app(&self) -> App {
        self.stack.app().database_url(&self.database.url).migrate(true).config(config())
    }

    /// A culprit holds its partition, so that one can look at it.
    fn route<H: Handler>(&self, handler: H) -> Route<H> {
        handler.route().topic(&self.topic).group(&self.group).dead_letter("none")
    }

    async fn caught_up(&self) {
        self.stack.caught_up(&self.group, &self.topic, self.partitions).await;
    }

    async fn committed(&self, offset: i64) {
        eventually(&format!("{offset} is committed"), async || {
            let (stack, group, topic) = (self.stack.clone(), self.group.clone(), self.topic.clone());
            let committed = tokio::task::spawn_blocking(move || stack.committed(&group, &topic, 0));
            // It commits nothing where there is nothing.
            committed.await.unwrap().unwrap_or(0) == offset
        })
        .await;
    }

    /// What has been written down, in the order of writing.
    async fn effects(&self) -> Vec<i64> {
        let query = sqlx::query_scalar("select number from effects order by place");
        query.fetch_all(&mut self.database.connect().await).await.unwrap()
    }

    async fn effects_once_in_order(&self, numbers: Range<i64>) {
        assert_eq!(self.effects().await, numbers.collect::<Vec<_>>());
    }

    async fn effects_once(&self, numbers: Range<i64>) {
        let mut effects = self.effects().await;
        effects.sort_unstable();
        assert_eq!(effects, numbers.collect::<Vec<_>>());
    }

    async fn claims(&self) -> i64 {
        self.database.number("select count(*) from onceward_dedupe").await
    }
}

/// Offsets are committed soon.
fn config() -> Config {
    let mut config = Config::default();
    config.commit_interval = Some(Duration::from_millis(100));
    config
}

async fn write_down(number: i64, tx: &mut Tx) -> HandlerResult<i32> {
    let query = "insert into effects (number) values ($1) returning pg_backend_pid()";
    Ok(sqlx::query_scalar(query).bind(number).fetch_one(tx).await?)
}

fn number(payload: &[u8]) -> HandlerResult<i64> {
    Ok(std::str::from_utf8(payload)?.parse()?)
}

/// What a handler does after it has written a number down.
#[derive(Debug, Clone, Copy)]
enum Misdeed {
    Fails,
    /// Runs a statement that fails and lets its error out.
    FailsInSql(&'static str),
    /// Runs a statement that fails and drops its error.
    Swallows(&'static str),
    SwallowsAndFails(&'static str),
    Panics,
    NeverEnds,
    /// Gives up a statement after a while and goes on as if nothing was.
    Abandons(&'static str),
    /// Leaves the transaction idle for so long.
    Idles(Duration),
    /// Goes on when the test says so.
    Waits,
}

/// A call of the handler.
#[derive(Debug, Clone, Copy)]
struct Call {
    number: i64,
    attempt: u32,
    /// The process of PostgreSQL that did its work.
    backend: i32,
}

/// What the handler does wrong and at which numbers, and what came of it.
#[derive(Clone)]
struct Script(Arc<Scripted>);

struct Scripted {
    misdeed: Misdeed,
    at: Vec<i64>,
    behaves: AtomicBool,
    gate: Semaphore,
    calls: Mutex<Vec<Call>>,
}

impl Script {
    fn new(misdeed: Misdeed, at: impl IntoIterator<Item = i64>) -> Self {
        Self(Arc::new(Scripted {
            misdeed,
            at: at.into_iter().collect(),
            behaves: AtomicBool::new(false),
            gate: Semaphore::new(0),
            calls: Mutex::default(),
        }))
    }

    /// Does nothing wrong.
    fn good() -> Self {
        Self::new(Misdeed::Fails, [])
    }

    fn behave(&self) {
        self.0.behaves.store(true, Ordering::Relaxed);
    }

    /// Lets all go on that wait.
    fn go_on(&self) {
        self.0.gate.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    fn calls(&self) -> Vec<Call> {
        self.0.calls.lock().unwrap().clone()
    }

    fn calls_of(&self, number: i64) -> usize {
        self.calls().iter().filter(|call| call.number == number).count()
    }

    /// The attempts at a number, as it was called.
    fn attempts_at(&self, number: i64) -> Vec<u32> {
        let of_number = |call: &Call| (call.number == number).then_some(call.attempt);
        self.calls().iter().filter_map(of_number).collect()
    }

    /// The highest attempt at a number; 0 before the first.
    fn attempts(&self, number: i64) -> u32 {
        self.attempts_at(number).into_iter().max().unwrap_or(0)
    }

    async fn called(&self, number: i64) {
        eventually(&format!("{number} is handled"), async || self.calls_of(number) > 0).await;
    }

    fn blames_only(&self, numbers: &[i64]) {
        let calls = self.calls();
        let wrong = calls.iter().find(|call| call.attempt > 1 && !numbers.contains(&call.number));
        assert!(wrong.is_none(), "{wrong:?}");
    }

    fn is_bad(&self, number: i64) -> bool {
        self.0.at.contains(&number) && !self.0.behaves.load(Ordering::Relaxed)
    }

    async fn play(&self, number: i64, attempt: u32, tx: &mut Tx) -> HandlerResult {
        let backend = write_down(number, tx).await?;
        self.0.calls.lock().unwrap().push(Call { number, attempt, backend });
        if self.is_bad(number) { self.misbehave(tx).await } else { Ok(()) }
    }

    async fn misbehave(&self, tx: &mut Tx) -> HandlerResult {
        match self.0.misdeed {
            Misdeed::Fails => return Err("it fails".into()),
            Misdeed::FailsInSql(sql) => {
                tx.execute(sql).await?;
            }
            Misdeed::Swallows(sql) => assert!(tx.execute(sql).await.is_err()),
            Misdeed::SwallowsAndFails(sql) => {
                assert!(tx.execute(sql).await.is_err());
                return Err("it fails".into());
            }
            Misdeed::Panics => panic!("as the test wants it"),
            Misdeed::NeverEnds => std::future::pending().await,
            Misdeed::Abandons(sql) => {
                assert!(tokio::time::timeout(Duration::from_millis(100), tx.execute(sql)).await.is_err());
            }
            Misdeed::Idles(time) => tokio::time::sleep(time).await,
            Misdeed::Waits => self.0.gate.acquire().await?.forget(),
        }
        Ok(())
    }
}

#[handler(topic = "overridden")]
async fn one(payload: &[u8], Attempt(attempt): Attempt, script: State<Script>, tx: &mut Tx) -> HandlerResult {
    script.play(number(payload)?, attempt, tx).await
}

#[handler(topic = "overridden")]
async fn batch(records: Batch<(&[u8], Attempt)>, script: State<Script>, tx: &mut Tx) -> HandlerResult {
    for (payload, Attempt(attempt)) in records {
        script.play(number(payload)?, attempt, tx).await?;
    }
    Ok(())
}

/// Sees how records end.
#[derive(Clone, Default)]
struct Witness(Arc<Mutex<Vec<(i64, String)>>>);

impl Witness {
    /// How often the record at this offset ended so. A failure ends as its error says.
    fn count_at(&self, offset: i64, end: &str) -> usize {
        let ends = self.0.lock().unwrap();
        ends.iter().filter(|(at, outcome)| *at == offset && outcome.contains(end)).count()
    }

    fn saw(&self, offset: i64, end: &str) -> bool {
        self.count_at(offset, end) > 0
    }

    fn count(&self, end: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|(_, outcome)| outcome == end).count()
    }
}

impl Middleware for Witness {
    async fn call<'a, N: NextRun>(&'a self, run: Run<'a>, next: &'a N) -> Outcomes {
        let outcomes = next.run(run).await;
        for (record, outcome) in run.iter().zip(&outcomes) {
            let end = match outcome {
                Outcome::Failed(error) => error.to_string(),
                other => other.name().to_owned(),
            };
            self.0.lock().unwrap().push((record.offset(), end));
        }
        outcomes
    }
}

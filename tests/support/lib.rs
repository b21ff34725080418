//! Topics, databases, producing and waiting for the tests of delivery.
//!
//! They run against the servers of `stack/` (`make stack-up`, or all by itself in
//! `make test`). Without these a test that needs them says that it was left out;
//! with `STACK_REQUIRED=1` it fails.

mod breakable;
mod flights;
mod own;
mod pooler;
mod postgres;
mod program;
mod proxy;
mod registry;

pub use breakable::Breakable;
pub use flights::Flights;
pub use pooler::transaction_pooler;
pub use postgres::OwnPostgres;
pub use program::Program;
pub use proxy::{Break, Proxy};
pub use registry::OwnRegistry;

pub use nix::sys::signal::Signal;

use onceward::{App, CancellationToken};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use sqlx::{Connection, Executor, PgConnection};
use std::future::Future;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinHandle;

/// How long a test waits for what must happen. It only costs time where it fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The servers, or a line that says the test was left out.
#[macro_export]
macro_rules! stack_or_leave_out {
    () => {
        match $crate::Stack::from_env() {
            Some(stack) => stack,
            None => {
                println!(
                    "left out: it needs a Kafka and a PostgreSQL (`make test`, or `make stack-up` first)"
                );
                return;
            }
        }
    };
}

/// Where the servers are.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Kafka.
    pub brokers: String,
    /// Kafka, for a user without permissions.
    pub brokers_limited: String,
    /// PostgreSQL, a database that tests make their own beside.
    pub database_url: String,
    /// The schema registry.
    pub registry_url: String,
}

impl Stack {
    /// The servers that the environment names.
    pub fn from_env() -> Option<Self> {
        static LOGS: Once = Once::new();
        LOGS.call_once(|| {
            tracing_subscriber::fmt()
                .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
                .with_test_writer()
                .init();
        });
        let variable = |name: &str| std::env::var(name).ok();
        let stack =
            variable("KAFKA_BROKERS").zip(variable("DATABASE_URL")).map(|(brokers, database_url)| Self {
                brokers,
                brokers_limited: variable("KAFKA_BROKERS_LIMITED").unwrap_or_default(),
                database_url,
                registry_url: variable("SCHEMA_REGISTRY_URL").unwrap_or_default(),
            });
        assert!(
            stack.is_some() || variable("STACK_REQUIRED").is_none(),
            "STACK_REQUIRED is set, but no servers are"
        );
        stack
    }

    /// Makes a topic of a name of its own.
    pub async fn topic(&self, name: &str, partitions: i32) -> String {
        self.topic_with(name, partitions, &[]).await
    }

    /// Makes a topic of a name of its own, with these topic settings.
    pub async fn topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
        let name = unique(name);
        self.topic_named(&name, partitions, settings).await;
        name
    }

    /// Makes a topic of this name.
    pub async fn topic_named(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (setting, value) in settings {
            topic = topic.set(setting, value);
        }
        let results =
            self.admin().create_topics([&topic], &AdminOptions::new()).await.expect("Kafka answers");
        for result in results {
            result.expect("the topic is made");
        }
    }

    /// Gives a topic these settings, and no others.
    pub async fn alter_topic(&self, name: &str, settings: &[(&str, &str)]) {
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (setting, value) in settings {
            change = change.set(setting, value);
        }
        let results =
            self.admin().alter_configs([&change], &AdminOptions::new()).await.expect("Kafka answers");
        for result in results {
            result.expect("the topic is changed");
        }
    }

    /// A client for settings and deletions.
    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().expect("an admin client")
    }

    /// A client's settings.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    /// A producer that Java's partitioner agrees with.
    pub fn producer(&self) -> FutureProducer {
        self.client()
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .create()
            .expect("a producer")
    }

    /// Makes a database of its own, empty.
    pub async fn database(&self) -> Database {
        let name = unique("test").replace('-', "_");
        let mut connection = PgConnection::connect(&self.database_url).await.expect("PostgreSQL answers");
        connection.execute(&*format!("create database {name}")).await.expect("the database is made");
        let base = self.database_url.rsplit_once('/').expect("a URL with a database").0;
        Database { url: format!("{base}/{name}") }
    }

    /// The offset that a group has committed for a partition.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.offset_of(group, topic, partition) {
                // The first group of a new Kafka waits for its coordinator.
                Err(error) if is_passing(&error) && Instant::now() < until => {}
                offset => return offset.expect("Kafka answers"),
            }
        }
    }

    fn offset_of(&self, group: &str, topic: &str, partition: i32) -> KafkaResult<Option<i64>> {
        let consumer: BaseConsumer = self.client().set("group.id", group).create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let committed = consumer.committed_offsets(list, PATIENCE)?;
        Ok(match committed.elements()[0].offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }

    /// The oldest offset of a partition and the one behind its newest.
    pub fn watermarks(&self, topic: &str, partition: i32) -> (i64, i64) {
        self.range_of(topic, partition).expect("Kafka answers")
    }

    fn range_of(&self, topic: &str, partition: i32) -> KafkaResult<(i64, i64)> {
        let consumer: BaseConsumer = self.client().create()?;
        consumer.fetch_watermarks(topic, partition, PATIENCE)
    }

    fn has_no_lag(&self, group: &str, topic: &str, partition: i32) -> KafkaResult<bool> {
        let (_, end) = self.range_of(topic, partition)?;
        Ok(end == 0 || self.offset_of(group, topic, partition)? == Some(end))
    }

    /// Waits until a group has committed all there is in a topic.
    pub async fn caught_up(&self, group: &str, topic: &str, partitions: i32) {
        let what = format!("group {group} has no lag in {topic}");
        eventually(&what, async || {
            let (stack, group, topic) = (self.clone(), group.to_owned(), topic.to_owned());
            tokio::task::spawn_blocking(move || {
                // A broker that was just started or just mended may not answer yet.
                (0..partitions).all(|partition| stack.has_no_lag(&group, &topic, partition).unwrap_or(false))
            })
            .await
            .expect("no panic")
        })
        .await;
    }

    /// Runs `stack/ctl`, to break and mend the servers.
    pub fn ctl(&self, words: &[&str]) {
        let status = Self::ctl_command(words).status().expect("stack/ctl runs");
        assert!(status.success(), "stack/ctl {words:?}: {status}");
    }

    /// `stack/ctl`, which works on the servers of `STACK_DIR`.
    pub fn ctl_command(words: &[&str]) -> Command {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../stack/ctl"));
        command.args(words);
        command
    }

    /// An application on these servers: quick commits, and sessions of 6 s.
    pub fn app(&self) -> App {
        App::new()
            .brokers(&self.brokers)
            .kafka("session.timeout.ms", "6000")
            .kafka("heartbeat.interval.ms", "1500")
    }
}

/// A database of one test.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its URL.
    pub url: String,
}

impl Database {
    /// A new connection.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("PostgreSQL answers")
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) {
        self.connect().await.execute(sql).await.expect("the statement runs");
    }

    /// The number that a query gives.
    pub async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.connect().await).await.expect("the query runs")
    }
}

fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let passing = [Code::NotCoordinator, Code::CoordinatorNotAvailable, Code::CoordinatorLoadInProgress];
    error.rdkafka_error_code().is_some_and(|code| passing.contains(&code))
}

/// Sends records with a key and a payload each, in order, and waits for all
/// acknowledgements.
pub async fn produce(
    producer: &FutureProducer,
    topic: &str,
    records: impl IntoIterator<Item = (String, String)>,
) {
    let mut deliveries = Vec::new();
    for (key, payload) in records {
        let record = FutureRecord::<str, str>::to(topic).key(&key).payload(&payload);
        deliveries.push(enqueue(producer, record).await);
    }
    for delivery in deliveries {
        delivery.await.expect("the producer lives").expect("the record is acknowledged");
    }
}

/// Adds so many records to a partition, numbered from 0, and waits for all acknowledgements.
pub async fn fill(stack: &Stack, topic: &str, partition: i32, count: usize) {
    let producer = stack.producer();
    let mut deliveries = Vec::new();
    for number in 0..count {
        let (key, payload) = (format!("key-{}", number % 10), number.to_string());
        let record = FutureRecord::<str, str>::to(topic).partition(partition).key(&key).payload(&payload);
        deliveries.push(enqueue(&producer, record).await);
    }
    for delivery in deliveries {
        delivery.await.expect("the producer lives").expect("the record is acknowledged");
    }
}

/// Sends one record with headers to a partition, and waits for its acknowledgement.
pub async fn produce_one(
    producer: &FutureProducer,
    topic: &str,
    partition: i32,
    payload: Option<&str>,
    headers: &[(&str, &str)],
) {
    let mut owned = OwnedHeaders::new();
    for (key, value) in headers {
        owned = owned.insert(Header { key, value: Some(*value) });
    }
    let mut record = FutureRecord::<str, str>::to(topic).partition(partition).headers(owned);
    record.payload = payload;
    enqueue(producer, record).await.await.expect("the producer lives").expect("the record is acknowledged");
}

async fn enqueue(
    producer: &FutureProducer,
    mut record: FutureRecord<'_, str, str>,
) -> rdkafka::producer::future_producer::DeliveryFuture {
    loop {
        match producer.send_result(record) {
            Ok(delivery) => return delivery,
            Err((error, back)) => {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
                record = back;
                tokio::task::yield_now().await;
            }
        }
    }
}

/// An application that runs beside the test.
#[derive(Debug)]
pub struct Running {
    token: CancellationToken,
    task: JoinHandle<Result<(), onceward::Error>>,
}

impl Running {
    /// Starts it.
    pub fn start(app: App) -> Self {
        let token = CancellationToken::new();
        let task = tokio::spawn(app.shutdown_on(token.clone()).run());
        Self { token, task }
    }

    /// Shuts it down cleanly and gives what `run` returned.
    pub async fn stop(self) -> Result<(), onceward::Error> {
        self.token.cancel();
        self.task.await.expect("the application does not panic")
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) -> Result<(), onceward::Error> {
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it ends")
            .expect("the application does not panic")
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        !self.task.is_finished()
    }
}

/// All records of a partition, from its oldest to where it ends now.
pub async fn read_all(stack: &Stack, topic: &str, partition: i32) -> Vec<OwnedMessage> {
    let (stack, topic) = (stack.clone(), topic.to_owned());
    let read = move || {
        let consumer: BaseConsumer = stack.client().set("group.id", "none").create().expect("a consumer");
        let (first, end) = consumer.fetch_watermarks(&topic, partition, PATIENCE).expect("Kafka answers");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, partition, Offset::Offset(first)).expect("a legal offset");
        consumer.assign(&list).expect("an assignment");
        let mut records: Vec<OwnedMessage> = Vec::new();
        while records.last().map_or(first, |last| last.offset() + 1) < end {
            if let Some(record) = consumer.poll(Duration::from_millis(100)) {
                records.push(record.expect("a record").detach());
            }
        }
        records
    };
    tokio::task::spawn_blocking(read).await.expect("no panic")
}

/// The last value of a record's header.
pub fn header<'r>(record: &'r OwnedMessage, name: &str) -> Option<&'r [u8]> {
    let headers = record.headers()?;
    (0..headers.count()).rev().map(|at| headers.get(at)).find(|header| header.key == name)?.value
}

/// The same as text.
pub fn text<'r>(record: &'r OwnedMessage, name: &str) -> &'r str {
    let value = header(record, name).unwrap_or_else(|| panic!("no header {name}"));
    std::str::from_utf8(value).expect("text")
}

/// Waits until a condition holds.
///
/// # Panics
/// Where it does not within [`PATIENCE`].
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A name that no other test has.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() % 10_000_000_000;
    format!("{name}-{now}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

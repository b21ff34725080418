//! Records that name their schema: what they decode to, what is rejected, and what is nobody's fault.
#![allow(clippy::unwrap_used)] // In tests a panic is the report.

#[path = "schemas/events.rs"]
mod events;
#[path = "schemas/formats.rs"]
mod formats;
#[path = "schemas/compatibility.rs"]
mod compatibility;
#[path = "schemas/encoding.rs"]
mod encoding;
#[path = "schemas/others.rs"]
mod others;
#[path = "schemas/outages.rs"]
mod outages;
#[path = "schemas/registries.rs"]
mod registries;
#[path = "schemas/rejected.rs"]
mod rejected;
#[path = "schemas/stub.rs"]
mod stub;
#[path = "schemas/tls.rs"]
mod tls;

use onceward::prelude::*;
use onceward::{Config, DedupeKind, Route, SchemaRegistryConfig};
use rdkafka::message::OwnedMessage;
use rdkafka::producer::FutureRecord;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stub::Stub;
use support::{Running, Stack, eventually, read_all, stack_or_leave_out, unique};

const NUMBER: &str =
    r#"{"type": "record", "name": "Numbered", "fields": [{"name": "number", "type": "int"}]}"#;

/// What the handlers take.
#[derive(Debug, Deserialize, Serialize)]
struct Numbered {
    number: i64,
}

/// A topic, a group, and a registry that does as it is told.
struct World {
    stack: Stack,
    registry: Stub,
    topic: String,
    partitions: i32,
    group: String,
}

impl World {
    async fn new(stack: Stack, partitions: i32) -> Self {
        let topic = stack.topic("schemas", partitions).await;
        stack.topic_named(&format!("{topic}.dlq"), 1, &[]).await;
        Self { registry: Stub::start().await, topic, partitions, group: unique("group"), stack }
    }

    /// Sends a value to a partition.
    async fn send(&self, partition: i32, value: &[u8]) {
        let record = FutureRecord::<[u8], [u8]>::to(&self.topic).partition(partition).payload(value);
        self.stack.producer().send(record, Duration::from_secs(10)).await.unwrap();
    }

    fn app(&self, route: impl onceward::IntoRoute, seen: &Seen) -> App {
        let mut config = Config::default();
        config.commit_interval = Some(Duration::from_millis(100));
        let mut registry = SchemaRegistryConfig::at(&self.registry.url);
        registry.timeout = Some(Duration::from_secs(1));
        self.stack
            .app()
            .config(config)
            .schema_registry(registry)
            .dedupe(DedupeKind::Memory)
            .state(seen.clone())
            .handler(route)
    }

    fn route<H: Handler>(&self, handler: H) -> Route<H> {
        handler.route().topic(&self.topic).group(&self.group)
    }

    async fn caught_up(&self) {
        self.stack.caught_up(&self.group, &self.topic, self.partitions).await;
    }

    async fn letters(&self) -> Vec<OwnedMessage> {
        read_all(&self.stack, &format!("{}.dlq", self.topic), 0).await
    }
}

/// A value in Confluent's wire format.
fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), datum].concat()
}

/// A small number as Avro has it.
fn datum(number: u8) -> Vec<u8> {
    assert!(number < 64);
    vec![number * 2]
}

/// What handlers have got, in order, and at which attempt.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(i64, u32)>>>);

impl Seen {
    fn note(&self, number: i64, attempt: u32) {
        self.0.lock().unwrap().push((number, attempt));
    }

    fn numbers(&self) -> Vec<i64> {
        self.0.lock().unwrap().iter().map(|(number, _)| *number).collect()
    }

    fn all_at_first(&self) -> bool {
        self.0.lock().unwrap().iter().all(|(_, attempt)| *attempt == 1)
    }
}

#[handler(topic = "overridden")]
async fn one(Avro(value): Avro<Numbered>, Attempt(attempt): Attempt, seen: State<Seen>) -> HandlerResult {
    seen.note(value.number, attempt);
    Ok(())
}

#[handler(topic = "overridden")]
async fn batch(values: Batch<(Avro<Numbered>, Attempt)>, seen: State<Seen>) -> HandlerResult {
    for (Avro(value), Attempt(attempt)) in values {
        seen.note(value.number, attempt);
    }
    Ok(())
}

async fn a_thousand_records_ask_once<H: Handler>(handler: H) {
    let world = World::new(stack_or_leave_out!(), 4).await;
    world.registry.has(7, NUMBER);
    let producer = world.stack.producer();
    let value = framed(7, &datum(5));
    for place in 0..1000 {
        let record = FutureRecord::<[u8], [u8]>::to(&world.topic).partition(place % 4).payload(&value);
        drop(producer.send_result(record).map_err(|(error, _)| error).unwrap());
    }
    rdkafka::producer::Producer::flush(&producer, Duration::from_secs(10)).unwrap();
    let seen = Seen::default();
    let running = Running::start(world.app(world.route(handler), &seen));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [5; 1000]);
    assert_eq!(world.registry.asked_for(7), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_records_with_one_new_id_make_one_request() {
    a_thousand_records_ask_once(one {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_a_thousand_records_with_one_new_id_makes_one_request() {
    a_thousand_records_ask_once(batch {}).await;
}

#[handler(topic = "overridden")]
async fn keyed(
    Key(Avro(key)): Key<Avro<Option<Numbered>>>,
    value: Avro<Option<Numbered>>,
    seen: State<Seen>,
) -> HandlerResult {
    seen.note(key.map_or(-1, |key| key.number), 1);
    seen.note(value.0.map_or(-1, |value| value.number), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_decode_too_and_what_is_null_is_none() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.registry.has(7, NUMBER);
    world.registry.has(8, NUMBER);
    let (key, value) = (framed(7, &datum(1)), framed(8, &datum(2)));
    for (key, value) in [(Some(&key), Some(&value)), (Some(&key), None), (None, Some(&value))] {
        let mut record = FutureRecord::<[u8], [u8]>::to(&world.topic);
        (record.key, record.payload) = (key.map(|key| &**key), value.map(|value| &**value));
        world.stack.producer().send(record, Duration::from_secs(10)).await.unwrap();
    }
    let seen = Seen::default();
    let running = Running::start(world.app(world.route(keyed {}), &seen));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1, 2, 1, -1, -1, 2]);
}

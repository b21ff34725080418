//! Topics full of records to read.

use crate::bench::Bench;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::time::Duration;

/// The content of a topic: so many records, evenly over its partitions.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Filling {
    pub partitions: i32,
    pub records: u64,
    /// Bytes of a payload, which is the JSON of an [`Order`].
    pub size: usize,
    /// How many keys a partition has.
    pub keys: u64,
    /// How the producer compresses.
    pub codec: &'static str,
}

/// What the payloads hold.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Order {
    pub id: u64,
    pub customer: String,
    pub total: f64,
    pub paid: bool,
    pub note: String,
}

impl Order {
    /// Number so many, with a note that makes its JSON so long.
    pub fn new(id: u64, size: usize) -> Self {
        const WORDS: [&str; 8] = ["red", "door", "please", "ring", "twice", "before", "noon", "left"];
        let mut order = Self {
            id: 1_000_000_000 + id,
            customer: format!("customer-{:04}", id * 7919 % 10_000),
            total: 100.0 + (id % 900) as f64 + 0.25,
            paid: id.is_multiple_of(2),
            note: String::new(),
        };
        let room = size.saturating_sub(order.json().len());
        let mut words = id;
        while order.note.len() < room {
            words = words.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            order.note += WORDS[(words >> 61) as usize];
            order.note.push(' ');
        }
        order.note.truncate(room);
        order
    }

    pub fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("JSON")
    }
}

/// A topic of such orders, not compressed, with 600 keys a partition.
pub fn full(bench: &Bench, partitions: i32, records: u64, size: usize) -> String {
    filled(bench, Filling { partitions, records, size, keys: 600, codec: "none" })
}

/// A topic of such orders. Cases that ask for the same get the same.
pub fn filled(bench: &Bench, filling: Filling) -> String {
    let mut topics = bench.topics.borrow_mut();
    let topic = topics.entry(filling).or_insert_with(|| {
        // The same few, again and again: making them takes longer than sending them.
        let payloads: Vec<Vec<u8>> = (0..1000).map(|id| Order::new(id, filling.size).json()).collect();
        with_payloads(bench, filling, &payloads)
    });
    topic.clone()
}

/// A topic of these payloads, over and over.
pub fn with_payloads(bench: &Bench, filling: Filling, payloads: &[Vec<u8>]) -> String {
    let Filling { partitions, records, size, keys, codec } = filling;
    let topic = bench.runtime.block_on(bench.stack.topic(&format!("bench-{partitions}-{size}"), partitions));
    let producer: ThreadedProducer<DefaultProducerContext> = bench
        .stack
        .client()
        .set("enable.idempotence", "true")
        .set("linger.ms", "50")
        .set("batch.size", "1000000")
        .set("compression.codec", codec)
        .set("queue.buffering.max.messages", "500000")
        .create()
        .expect("a producer");
    let mut key = Vec::new();
    for number in 0..records {
        // Partitions share no key, as with any partitioner.
        let partition = number % partitions as u64;
        key.clear();
        write!(key, "k{partition}-{:04}", number / partitions as u64 % keys).expect("memory");
        let payload = &payloads[number as usize % payloads.len()];
        let mut record = BaseRecord::to(&topic).key(&key).payload(payload).partition(partition as i32);
        while let Err((error, back)) = producer.send(record) {
            assert!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), "{error}");
            std::thread::yield_now();
            record = back;
        }
    }
    producer.flush(Duration::from_secs(120)).expect("all records are acknowledged");
    topic
}

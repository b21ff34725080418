//! Topics full of records to read.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use std::time::Duration;
use support::Stack;
use tokio::runtime::Runtime;

/// A topic with `records` records of `size` bytes, evenly over its partitions.
pub fn full(runtime: &Runtime, stack: &Stack, partitions: i32, records: u64, size: usize) -> String {
    with_keys(runtime, stack, partitions, records, size, 600)
}

/// The same with so many keys a partition.
pub fn with_keys(
    runtime: &Runtime,
    stack: &Stack,
    partitions: i32,
    records: u64,
    size: usize,
    keys: u64,
) -> String {
    let topic = runtime.block_on(stack.topic(&format!("bench-{partitions}-{size}"), partitions));
    let producer: ThreadedProducer<DefaultProducerContext> = stack
        .client()
        .set("enable.idempotence", "true")
        .set("linger.ms", "50")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "500000")
        .create()
        .expect("a producer");
    let mut payload = vec![b'x'; size];
    for number in 0..records {
        payload[..8].copy_from_slice(&number.to_be_bytes());
        // Partitions share no key, as with any partitioner.
        let partition = number % partitions as u64;
        let key = format!("k{partition}-{:04}", number / partitions as u64 % keys);
        let mut record = BaseRecord::to(&topic).key(&key).payload(&payload).partition(partition as i32);
        while let Err((error, back)) = producer.send(record) {
            assert!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), "{error}");
            std::thread::yield_now();
            record = back;
        }
    }
    producer.flush(Duration::from_secs(120)).expect("all records are acknowledged");
    topic
}

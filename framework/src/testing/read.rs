//! What stands in a topic.

use super::InMemoryRecord;
use crate::kafka::client::{
    AnyMessage as _, BaseConsumer, BorrowedMessage, ClientConfig, Consumer, Headers, KafkaError, KafkaResult,
    Offset, RDKafkaErrorCode, TopicPartitionList,
};
use crate::kafka::message::{Message, OwnedMessage};
use crate::record::TopicPartition;
use crate::record::source::Source;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Reads all that was there when it began, partition by partition.
pub(super) fn all(brokers: &str, topic: &str, request: Duration) -> KafkaResult<Vec<InMemoryRecord>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        // Nothing is committed; only librdkafka asks for one.
        .set("group.id", "onceward-testing")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "10")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), request)?;
    let found = metadata.topics().first().filter(|found| found.error().is_none());
    let missing = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    let (mut list, mut ends) = (TopicPartitionList::new(), HashMap::new());
    for partition in found.ok_or(missing)?.partitions() {
        let (start, end) = consumer.fetch_watermarks(topic, partition.id(), request)?;
        if start < end {
            list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
            ends.insert(partition.id(), end);
        }
    }
    consumer.assign(&list)?;
    let (mut records, mut until) = (Vec::new(), Instant::now() + request);
    while !ends.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        let message = consumer.poll(left).ok_or(KafkaError::Canceled)??;
        until = Instant::now() + request;
        let Some(end) = ends.get(&message.partition()).copied() else { continue };
        if message.offset() < end {
            records.push(copy(&message));
        }
        if message.offset() + 1 >= end {
            ends.remove(&message.partition());
        }
    }
    records.sort_by_key(|record| (record.record().partition(), record.record().offset()));
    Ok(records)
}

fn copy(message: &BorrowedMessage<'_>) -> InMemoryRecord {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    let owned = OwnedMessage {
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        payload: message.payload().map(<[u8]>::to_vec),
        headers: headers
            .map(|header| (header.key.as_bytes().to_vec(), header.value.map(<[u8]>::to_vec)))
            .collect(),
        ..OwnedMessage::default()
    };
    let source = Source::new(TopicPartition::new(message.topic(), message.partition()), "in-memory".into());
    InMemoryRecord::new(Message::Owned(Box::new(owned)), source)
}

//! Offset commits whose results can be read, and what else the `rdkafka` crate leaves out about offsets.
#![allow(unsafe_code)]

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka_sys as sys;
use std::ffi::CString;
use std::ptr;
use std::time::{Duration, Instant};

/// Queues an offset commit. Its result comes to the context's `commit_callback`
/// when the consumer is polled.
///
/// `Consumer::commit(.., Async)` loses its result: it gives librdkafka no queue
/// for the reply.
pub(crate) fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &TopicPartitionList,
) -> Result<(), KafkaError> {
    let client = consumer.client().native_ptr();
    // SAFETY: the client lives as long as `consumer`; librdkafka copies the list
    // and takes its own reference to the queue.
    let error = unsafe {
        let queue = sys::rd_kafka_queue_get_consumer(client);
        let error = sys::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut());
        if !queue.is_null() {
            sys::rd_kafka_queue_destroy(queue);
        }
        error
    };
    committed(error)
}

/// Commits offsets and waits for the result, but no longer than `limit`.
///
/// `Consumer::commit(.., Sync)` has no bound and blocked for 25 s with a broker
/// that was down.
pub(crate) fn commit_within<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &TopicPartitionList,
    limit: Duration,
) -> Result<(), KafkaError> {
    let client = consumer.client().native_ptr();
    let until = Instant::now() + limit;
    // SAFETY: as in `commit`, with a queue of our own, which is destroyed after
    // its last use; an answer that comes later is dropped by librdkafka. Events
    // are destroyed after the error was copied out of them.
    let error = unsafe {
        let queue = sys::rd_kafka_queue_new(client);
        let mut error = sys::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut());
        if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            let left = until.saturating_duration_since(Instant::now());
            let event = sys::rd_kafka_queue_poll(queue, i32::try_from(left.as_millis()).unwrap_or(i32::MAX));
            error = if event.is_null() {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT
            } else {
                sys::rd_kafka_event_error(event)
            };
            if !event.is_null() {
                sys::rd_kafka_event_destroy(event);
            }
        }
        sys::rd_kafka_queue_destroy(queue);
        error
    };
    committed(error)
}

fn committed(error: RDKafkaRespErr) -> Result<(), KafkaError> {
    match error {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        error => Err(KafkaError::ConsumerCommit(error.into())),
    }
}

/// The oldest and the end offset of a partition that the last fetch brought, without
/// a request; `None` before the first.
pub(crate) fn known_watermarks<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) -> Option<(i64, i64)> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client lives as long as `consumer`; two valid places for the result.
    let error = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition,
            &mut low,
            &mut high,
        )
    };
    (error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && low >= 0 && high >= 0).then_some((low, high))
}

/// What stands beside each offset of a list, in its order. Other tools write there what they
/// like, also what is not text, at which the crate's own way of reading it panics.
pub(crate) fn metadata(list: &TopicPartitionList) -> Vec<String> {
    let list = list.ptr();
    // SAFETY: the list and its elements live as long as `list`; each element's metadata is as
    // long as it says, or null.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        let text = |place: usize| {
            let element = &*(*list).elems.add(place);
            if element.metadata.is_null() || element.metadata_size == 0 {
                return String::new();
            }
            let bytes = std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size);
            String::from_utf8_lossy(bytes).into_owned()
        };
        (0..count).map(text).collect()
    }
}

/// What a consumer reads next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Record,
    /// The partition ends, and nothing that can be read lies between where reading began and
    /// this offset.
    End(i64),
    Nothing,
}

/// Reads on, within a time. The crate's own `poll` does not tell where the end is.
pub(crate) fn read_next<C: ConsumerContext>(consumer: &BaseConsumer<C>, within: Duration) -> Next {
    let milliseconds = i32::try_from(within.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client lives as long as `consumer`; the message is destroyed once, after it was read.
    unsafe {
        let message = sys::rd_kafka_consumer_poll(consumer.client().native_ptr(), milliseconds);
        if message.is_null() {
            return Next::Nothing;
        }
        let next = match (*message).err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Next::Record,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => Next::End((*message).offset),
            _ => Next::Nothing,
        };
        sys::rd_kafka_message_destroy(message);
        next
    }
}

//! Batches of records out of librdkafka's split partition queues, and offset
//! commits whose results can be read: what the `rdkafka` crate does not offer.
//!
//! With `admin.rs` the only file with unsafe code. Reading in batches costs a third to a half of
//! what `BaseConsumer::poll` costs a record. What keeps it sound:
//!
//! - Whoever reads a batch has the consumer's `ReadLock`, and so has the poll thread while it
//!   calls the consumer. Batch reads side by side, or beside a rebalance on another thread, are
//!   undefined (librdkafka INTRODUCTION.md, "Note on Batch consume APIs").
//! - Only split partition queues are read. A batch read of the consumer's own
//!   queue would serve rebalance events itself and unassign everything.
//! - A message must be destroyed before its client. [`KafkaMessage`] does not
//!   hold the client; whoever owns messages holds a [`Keepalive`] that is
//!   dropped after them (`run::Fetched`, `inbox::Inbox`).
//! - A batch read moves the client's position one too far at the end of a partition
//!   (librdkafka #4844 in 2.12.1), so `enable.partition.eof` stays off; see `tail.rs`.
//! - Headers are parsed by librdkafka on first use, which writes into the
//!   message; a `Once` makes that happen once.
#![allow(unsafe_code)]

use crate::kafka::read_lock::Reading;
use crate::record::Message;
use crate::worker::fetching::FetchError;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedHeaders, OwnedHeaders};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka_sys as sys;
use std::any::Any;
use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Keeps the client alive for as long as its messages live.
#[derive(Clone, Default)]
pub(crate) struct Keepalive(#[allow(dead_code)] Option<Arc<dyn Any + Send + Sync>>);

impl Keepalive {
    pub(crate) fn of<C: ConsumerContext + 'static>(consumer: &Arc<BaseConsumer<C>>) -> Self {
        Self(Some(consumer.clone()))
    }
}

impl fmt::Debug for Keepalive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keepalive")
    }
}

/// A record in librdkafka's memory. It pins the whole fetch buffer it came in.
pub(crate) struct KafkaMessage {
    message: NonNull<sys::rd_kafka_message_t>,
    headers: Once,
}

// SAFETY: librdkafka allows a message to be read and destroyed on any thread.
// The only write behind a shared reference is the parsing of headers, which
// `headers` makes happen once, before any read of them.
unsafe impl Send for KafkaMessage {}
// SAFETY: as above.
unsafe impl Sync for KafkaMessage {}

impl KafkaMessage {
    fn raw(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: the pointer is valid until `drop`, and its fields are never
        // written after the message left the queue.
        unsafe { self.message.as_ref() }
    }

    pub(crate) fn offset(&self) -> i64 {
        self.raw().offset
    }

    pub(crate) fn payload(&self) -> Option<&[u8]> {
        // SAFETY: librdkafka keeps `len` bytes at `payload` as long as the message.
        unsafe { bytes(self.raw().payload, self.raw().len) }
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        // SAFETY: librdkafka keeps `key_len` bytes at `key` as long as the message.
        unsafe { bytes(self.raw().key, self.raw().key_len) }
    }

    pub(crate) fn timestamp(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: a valid message and a valid place for the result.
        let timestamp = unsafe { sys::rd_kafka_message_timestamp(self.message.as_ptr(), &mut kind) };
        (kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && timestamp >= 0)
            .then_some(timestamp)
    }

    pub(crate) fn is_timestamp_of_append(&self) -> bool {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: as in `timestamp`.
        unsafe { sys::rd_kafka_message_timestamp(self.message.as_ptr(), &mut kind) };
        kind == sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME
    }

    /// What it says if it is an error and no record: its text stands where the payload would.
    fn fetch_error(&self, error: RDKafkaRespErr) -> FetchError {
        let reason = self.payload().map(|text| String::from_utf8_lossy(text).into_owned());
        let code: RDKafkaErrorCode = error.into();
        FetchError { code, offset: self.offset(), reason: reason.unwrap_or_else(|| code.to_string()) }
    }

    pub(crate) fn header_count(&self) -> usize {
        // SAFETY: the list belongs to the message, which outlives the call.
        self.header_list().map_or(0, |list| unsafe { sys::rd_kafka_header_cnt(list) })
    }

    pub(crate) fn header(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
        // SAFETY: the list belongs to the message, and so does what is read of it.
        unsafe { header_at(self.header_list()?, index) }
    }

    fn header_list(&self) -> Option<*const sys::rd_kafka_headers_t> {
        let lookup = || {
            let mut list = ptr::null_mut();
            // SAFETY: a valid message and a valid place for the result. The first
            // call parses and stores the headers; `Once` orders it before others,
            // which only read.
            let error = unsafe { sys::rd_kafka_message_headers(self.message.as_ptr(), &mut list) };
            (error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && !list.is_null())
                .then_some(list.cast_const())
        };
        self.headers.call_once(|| {
            lookup();
        });
        lookup()
    }
}

/// # Safety
/// `length` bytes at `start` must be readable for `'a`, unless `start` is null.
unsafe fn bytes<'a>(start: *mut c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) })
}

/// # Safety
/// `list` must be valid for `'a`.
unsafe fn header_at<'a>(
    list: *const sys::rd_kafka_headers_t,
    index: usize,
) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: on success librdkafka has set all three, and name and value live as long as the list.
    unsafe {
        match sys::rd_kafka_header_get_all(list, index, &mut name, &mut value, &mut size) {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                Some((CStr::from_ptr(name).to_bytes(), bytes(value.cast_mut(), size)))
            }
            _ => None,
        }
    }
}

/// One of the headers of a message that `rdkafka` has read; its own way to them panics at a name
/// that is not UTF-8.
pub(crate) fn header_of(headers: &BorrowedHeaders, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
    // SAFETY: a `BorrowedHeaders` is librdkafka's list behind a reference, which lives as long.
    unsafe { header_at(ptr::from_ref(headers).cast(), index) }
}

/// Headers of any bytes, which `OwnedHeaders` itself does not take.
pub(crate) fn headers_of<'h>(headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>) -> OwnedHeaders {
    // SAFETY: the list is ours and destroyed once; librdkafka copies names and values. A
    // `BorrowedHeaders` is librdkafka's list behind a reference, which lives for the call of
    // `detach`, and that copies it.
    unsafe {
        let list = sys::rd_kafka_headers_new(8);
        for (name, value) in headers {
            let (data, size) =
                value.map_or((ptr::null(), -1), |value| (value.as_ptr(), value.len() as isize));
            sys::rd_kafka_header_add(list, name.as_ptr().cast(), name.len() as isize, data.cast(), size);
        }
        let owned = (*list.cast::<BorrowedHeaders>()).detach();
        sys::rd_kafka_headers_destroy(list);
        owned
    }
}

impl Drop for KafkaMessage {
    fn drop(&mut self) {
        // SAFETY: this is the only owner, and the client is still alive (see the
        // rules at the top).
        unsafe { sys::rd_kafka_message_destroy(self.message.as_ptr()) }
    }
}

impl fmt::Debug for KafkaMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KafkaMessage({})", self.offset())
    }
}

/// Where the records of one partition stand.
pub(crate) trait Queue: Send {
    /// Takes what is there, up to `limit`, without waiting; says how many it took. Records behind
    /// an error that is a gap are dropped, and so are more errors: they are fetched anew.
    fn read(
        &mut self,
        reading: &Reading<'_>,
        limit: usize,
        messages: &mut Vec<Message>,
        errors: &mut Vec<FetchError>,
    ) -> usize;
}

/// One assigned partition's own queue.
pub(crate) struct PartitionQueue<C: ConsumerContext + 'static> {
    queue: NonNull<sys::rd_kafka_queue_t>,
    batch: Vec<*mut sys::rd_kafka_message_t>,
    // The callback's argument points into it.
    _arrived: Arc<Notify>,
    // Last, so that the queue is destroyed before the client.
    _consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's queues may be used and destroyed on any thread, and reads come one after
// the other (`ReadLock`). `batch` is empty between reads.
unsafe impl<C: ConsumerContext + 'static> Send for PartitionQueue<C> {}

impl<C: ConsumerContext + 'static> PartitionQueue<C> {
    /// Splits a partition off the consumer's queue and wakes the thread when
    /// records arrive. Must be called before the partition is assigned, else
    /// records that are already on the consumer's queue stay there; `None` where
    /// librdkafka does not take the name.
    pub(crate) fn split(
        consumer: &Arc<BaseConsumer<C>>,
        topic: &str,
        partition: i32,
        arrived: &Arc<Notify>,
    ) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        // SAFETY: the client lives as long as `consumer`; the name is a C string.
        let queue = unsafe {
            sys::rd_kafka_queue_get_partition(consumer.client().native_ptr(), topic.as_ptr(), partition)
        };
        let queue = NonNull::new(queue)?;
        // SAFETY: the queue is ours. Forwarding to null splits it. The callback
        // gets a pointer into `wake`, which this object holds until it has turned
        // the callback off; librdkafka calls it under the queue's lock, so none is
        // under way after that.
        unsafe {
            sys::rd_kafka_queue_forward(queue.as_ptr(), ptr::null_mut());
            sys::rd_kafka_queue_cb_event_enable(
                queue.as_ptr(),
                Some(wake_up),
                Arc::as_ptr(arrived).cast_mut().cast(),
            );
        }
        Some(Self { queue, batch: Vec::new(), _arrived: arrived.clone(), _consumer: consumer.clone() })
    }
}

impl<C: ConsumerContext + 'static> Queue for PartitionQueue<C> {
    /// The wake-up comes when the queue turns from empty to non-empty, so read on
    /// until nothing comes back before waiting for it.
    fn read(
        &mut self,
        _: &Reading<'_>,
        limit: usize,
        messages: &mut Vec<Message>,
        errors: &mut Vec<FetchError>,
    ) -> usize {
        self.batch.reserve(limit);
        // SAFETY: `batch` is empty and has room for `limit` pointers; librdkafka
        // writes as many as it returns, and each is ours then.
        let count = unsafe {
            let count =
                sys::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, self.batch.as_mut_ptr(), limit);
            let count = usize::try_from(count).unwrap_or(0);
            self.batch.set_len(count);
            count
        };
        let mut is_behind_gap = false;
        for message in self.batch.drain(..) {
            let Some(message) = NonNull::new(message) else { continue };
            let message = KafkaMessage { message, headers: Once::new() };
            match message.raw().err {
                // Neither its records nor its errors count: bytes of the batch may have been taken for the next one.
                _ if is_behind_gap => {}
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => messages.push(Message::Kafka(message)),
                error => {
                    let error = message.fetch_error(error);
                    is_behind_gap |= error.is_gap();
                    errors.push(error);
                }
            }
        }
        count
    }
}

impl<C: ConsumerContext + 'static> Drop for PartitionQueue<C> {
    fn drop(&mut self) {
        // SAFETY: the queue is ours and the client is alive. The callback goes
        // first: after this call none is under way.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

impl<C: ConsumerContext + 'static> fmt::Debug for PartitionQueue<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartitionQueue")
    }
}

unsafe extern "C" fn wake_up(_: *mut sys::rd_kafka_t, arrived: *mut c_void) {
    // SAFETY: `split` passed a pointer to a `Notify` that outlives the callback.
    unsafe { &*arrived.cast::<Notify>() }.notify_one();
}

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

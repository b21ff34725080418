//! Batches of records out of librdkafka's split partition queues: what the `rdkafka` crate does not offer.
//!
//! Reading in batches costs a third to a half of what `BaseConsumer::poll` costs a record. What keeps it
//! sound:
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

use super::message::{FetchError, KafkaMessage, Message};
use super::read_lock::Reading;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaRespErr;
use rdkafka_sys as sys;
use std::any::Any;
use std::ffi::{CString, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
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
            // SAFETY: it is ours, and the consumer that reads it is held with it.
            let message = unsafe { KafkaMessage::new(message) };
            match message.raw().err {
                // Neither its records nor its errors count: bytes of the batch may have been taken for the next one.
                _ if is_behind_gap => {}
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => messages.push(Message::Kafka(message)),
                error => is_behind_gap |= message.note_error(error, errors),
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

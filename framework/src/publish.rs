//! What a handler publishes because of a record.

use crate::Record;
use crate::config::Resolved;
use crate::error::{Error, ErrorKind, HandlerError, HandlerResult};
use crate::extract::{Context, FromRecord, Rejection};
use crate::failure::Reason;
use crate::identity::{IDENTITY_HEADER, Identity, IdentitySource};
use crate::outage::Unpublished;
use crate::producer::{ProduceError, Producer};
use crate::trace::Spans;
use crate::trouble::Cause;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How many handlers a chain of records has gone through.
pub const HOPS_HEADER: &str = "onceward.hops";
/// How long a record waits for its acknowledgement; the handler is called again then.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);
const CORRELATION: &str = "ce_correlationid";
const CAUSATION: &str = "ce_causationid";

/// A record to be published.
///
/// A handler that returns one, an `Option` or a `Vec` of them has them published
/// when it has succeeded; its own record is finished when all in-sync replicas have
/// them. [`Publisher`] publishes in the middle of a handler.
///
/// Beside its own headers a published record gets, unless it has them:
///
/// - `traceparent` and `tracestate`, so that the trace goes on;
/// - `ce_correlationid`, inherited, else the id of the record that caused it, and
///   `ce_causationid`, that id (CloudEvents' extensions for correlation);
/// - `onceward.hops`, one more than the record that caused it has. Past `max_hops` the
///   record that caused it is dead-lettered: handlers publish in a circle;
/// - `onceward.identity`, unless it has `ce_id` and `ce_source`: made of what caused it,
///   so that a handler that is called again publishes what Onceward on the other side
///   knows as the same event. Not where a batch handler returns it.
///
/// # Example
///
/// ```
/// use onceward::prelude::*;
///
/// #[handler(topic = "orders", group = "shipping")]
/// async fn on_order(Key(order): Key<String>) -> HandlerResult<ProducerRecord> {
///     Ok(ProducerRecord::to("shipments").key(order).payload("ready"))
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use = "it is published when it is returned, or given to a `Publisher`"]
pub struct ProducerRecord {
    topic: String,
    partition: Option<i32>,
    timestamp: Option<i64>,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: OwnedHeaders,
    names: Vec<String>,
}

impl ProducerRecord {
    /// Begins a record for this topic: no key, and a null value.
    pub fn to(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            timestamp: None,
            key: None,
            payload: None,
            headers: OwnedHeaders::new(),
            names: Vec::new(),
        }
    }

    /// Sets the key. It finds the partition as Java's producers do (murmur2).
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the value.
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = Some(payload.into());
        self
    }

    /// Sets the value to the JSON of `value`.
    ///
    /// # Errors
    /// Where it has no JSON, which will not help to try again.
    #[cfg(feature = "json")]
    pub fn json(self, value: &impl serde::Serialize) -> HandlerResult<Self> {
        let payload = serde_json::to_vec(value).map_err(|error| HandlerError::new(error).permanent())?;
        Ok(self.payload(payload))
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers = self.headers.insert(Header { key: name, value: Some(value.as_ref()) });
        self.names.push(name.to_owned());
        self
    }

    /// Sets the partition, in place of the one that the key finds.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp, in milliseconds since the epoch, in place of now.
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
        self
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    fn add(&mut self, name: &str, value: &str) {
        if !self.has(name) {
            let headers = std::mem::take(&mut self.headers);
            self.headers = headers.insert(Header { key: name, value: Some(value) });
        }
    }
}

/// Where a published record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Its partition.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
}

/// Publishes in the middle of a handler.
///
/// Not in a handler that takes `&mut Tx`, which the compiler refuses: sent after
/// the COMMIT, a crash in between loses the record, since the redelivery is a
/// duplicate; sent before it, a rollback leaves a ghost. Write it to an outbox table
/// in the transaction.
pub struct Publisher<'a> {
    publishing: Arc<Publishing>,
    cause: Record<'a>,
    published: AtomicU32,
}

impl Publisher<'_> {
    /// Publishes a record, and waits until all in-sync replicas have it.
    ///
    /// # Errors
    /// Retryable where the broker refuses the record. Let the error out: where Kafka cannot be reached, or
    /// the topic is not there or forbidden, Onceward waits and counts no attempt.
    pub async fn publish(&self, record: ProducerRecord) -> HandlerResult<Published> {
        let place = self.published.fetch_add(1, Ordering::Relaxed);
        self.publishing.publish(record, self.cause, Some(("published", place))).await
    }
}

impl<'a> FromRecord<'a> for Publisher<'a> {
    const PUBLISHES: bool = true;

    fn from_record(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        let publishing =
            context.publishing().ok_or_else(|| Rejection::new("nothing can be published here"))?;
        Ok(Self { publishing, cause: record, published: AtomicU32::new(0) })
    }
}

impl fmt::Debug for Publisher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publisher({:?})", self.cause)
    }
}

/// What all publishing of the application has in common.
pub(crate) struct Publishing {
    producer: Producer,
    max_hops: u32,
}

/// How a record's place among those that one call publishes is told: by which way,
/// and its number.
type Place = (&'static str, u32);

impl Publishing {
    pub(crate) fn new(config: &Resolved, spans: &Spans) -> Result<Self, Error> {
        let producer = Producer::new(config.clone(), spans.clone(), ACKNOWLEDGED_WITHIN)?;
        Ok(Self { producer, max_hops: config.max_hops })
    }

    /// Publishes what a call returned, in order.
    pub(crate) async fn publish_all(
        &self,
        records: Vec<ProducerRecord>,
        cause: Record<'_>,
        of_one: bool,
    ) -> HandlerResult<()> {
        for (place, record) in (0..).zip(records) {
            self.publish(record, cause, of_one.then_some(("returned", place))).await?;
        }
        Ok(())
    }

    async fn publish(
        &self,
        mut record: ProducerRecord,
        cause: Record<'_>,
        place: Option<Place>,
    ) -> HandlerResult<Published> {
        if !is_topic_name(&record.topic) {
            let problem = format!("cannot publish to topic `{}`: no topic can have this name", record.topic);
            return Err(HandlerError::new(problem).permanent());
        }
        self.complete(&mut record, cause, place)?;
        let span = self.producer.span(&record.topic, cause);
        for (name, value) in span.outgoing(cause) {
            record.add(name, &value);
        }
        let mut sent = FutureRecord::<[u8], [u8]>::to(&record.topic).headers(record.headers);
        (sent.key, sent.payload) = (record.key.as_deref(), record.payload.as_deref());
        (sent.partition, sent.timestamp) = (record.partition, record.timestamp);
        let sent = self.producer.send(sent).await;
        span.end(&sent);
        match sent {
            Ok((partition, offset)) => Ok(Published { partition, offset }),
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// What it means for the record that caused it. A topic that is missing may be a mistake in the handler;
    /// no dead letter would mend that.
    async fn failed(&self, error: ProduceError) -> HandlerError {
        match error.meaning() {
            Unpublished::Record if error.is_too_large() => HandlerError::new(error).permanent(),
            Unpublished::Record => HandlerError::new(error),
            Unpublished::Held(cause, what) => {
                if cause == Cause::Setup {
                    self.producer.look_again(&error.topic).await;
                }
                HandlerError::held(cause, NotPublished { what, source: error })
            }
        }
    }

    fn complete(
        &self,
        record: &mut ProducerRecord,
        cause: Record<'_>,
        place: Option<Place>,
    ) -> HandlerResult<()> {
        let headers = cause.headers();
        let hops = headers.get_str(HOPS_HEADER).and_then(|hops| hops.parse::<u32>().ok()).unwrap_or(0) + 1;
        if hops > self.max_hops {
            let problem = format!(
                "it has come through {hops} handlers, and `max_hops` is {}: do they publish in a circle?",
                self.max_hops
            );
            return Err(HandlerError::of_kind(ErrorKind::Returned, problem).because(Reason::MaxHops));
        }
        record.add(HOPS_HEADER, &hops.to_string());
        let identity = IdentitySource::default().of(cause);
        let id = crate::cloud_event::source_and_id(cause)
            .and_then(|[_, id]| String::from_utf8(id.into_owned()).ok())
            .or_else(|| headers.get_str("ce_id").map(str::to_owned))
            .unwrap_or_else(|| identity.to_header());
        let correlation = headers.get_str(CORRELATION).unwrap_or(&id).to_owned();
        record.add(CORRELATION, &correlation);
        record.add(CAUSATION, &id);
        if let Some((way, number)) = place
            && !(record.has("ce_id") && record.has("ce_source"))
        {
            let number = number.to_be_bytes();
            let parts = [cause.group().as_bytes(), record.topic.as_bytes(), way.as_bytes(), &number];
            record.add(IDENTITY_HEADER, &Identity::caused_by(identity, &parts).to_header());
        }
        Ok(())
    }
}

/// Why a partition waits to publish.
#[derive(Debug, thiserror::Error)]
#[error("{source}: {what}")]
struct NotPublished {
    what: &'static str,
    source: ProduceError,
}

/// Whether Kafka can have a topic of this name.
fn is_topic_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(is_allowed)
}

impl fmt::Debug for Publishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publishing")
    }
}

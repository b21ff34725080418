//! A record to publish.

use crate::record::identity::{Content, Identity, hash, is_blank, is_nil};
#[cfg(feature = "json")]
use crate::{HandlerError, HandlerResult};

/// Headers that differ from attempt to attempt at one event, and do not make another of it.
const OF_THE_TRACE: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// A record to publish.
///
/// If a handler returns one, or an `Option` or a `Vec` of them, Onceward publishes them after
/// it succeeded, and finishes the handler's own record when all in-sync replicas have them.
/// [`Publisher`](crate::Publisher) publishes in the middle of a handler.
///
/// Besides its own headers a published record gets these, unless it has them:
///
/// - `traceparent` and `tracestate`, so that the trace goes on;
/// - `ce_correlationid`, inherited, else the id of the record that caused it, and
///   `ce_causationid`, that id (CloudEvents' extensions for correlation);
/// - `onceward.hops`, one more than the record that caused it has. Past `max_hops` the
///   record that caused it is dead-lettered: handlers publish in a circle, or its producer wrote
///   that number there;
/// - `onceward.identity`, unless it has `ce_id` and `ce_source`: made of what caused it, of the
///   group, the handler, the topic, and its own partition, key, value and headers (but for those of
///   the trace). So what a handler publishes again when it is called again is known as the
///   same event by Onceward on the other side, and what it publishes instead of it is another.
///   Of records that are equal in all of these, it counts which one it is. A timestamp makes no
///   other event. Not where a batch handler returns it.
///
/// A handler may hand on the headers of what it reads. The first two of these are inherited so, and
/// an `onceward.identity` counts only if it was written for these bytes: on the copy of a dead
/// letter that goes back to its topic.
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
    pub(super) topic: String,
    pub(super) partition: Option<i32>,
    pub(super) timestamp: Option<i64>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) payload: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
}

impl ProducerRecord {
    /// Makes a record for this topic, without a key and with a null value.
    pub fn to(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            timestamp: None,
            key: None,
            payload: None,
            headers: Vec::new(),
        }
    }

    /// Sets the key. It determines the partition as in Java's producers (murmur2).
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
    /// If it cannot be written as JSON. That is a permanent failure.
    #[cfg(feature = "json")]
    pub fn json(self, value: &impl serde::Serialize) -> HandlerResult<Self> {
        let payload = serde_json::to_vec(value).map_err(|error| HandlerError::new(error).permanent())?;
        Ok(self.payload(payload))
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Sets the partition, instead of the one by the key.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp, in milliseconds since the epoch, instead of the current time.
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
        self
    }

    /// The last value under this name, which is the one that counts.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(own, _)| own == name).map(|(_, value)| &**value)
    }

    pub(super) fn add(&mut self, name: &str, value: &str) {
        if self.get(name).is_none() {
            self.headers.push((name.to_owned(), value.into()));
        }
    }

    pub(super) fn replace(&mut self, name: &str, value: Option<&str>) {
        self.headers.retain(|(own, _)| own != name);
        self.headers.extend(value.map(|value| (name.to_owned(), value.into())));
    }

    pub(super) fn content(&self) -> Content<'_> {
        Content { key: self.key.as_deref(), payload: self.payload.as_deref() }
    }

    /// Whether it declares its identity, as those who read it see by default.
    pub(super) fn is_declared(&self) -> bool {
        let declares = |name| self.get(name).is_some_and(|id| !is_blank(id) && !is_nil(id));
        declares("ce_id") && declares("ce_source")
    }

    /// A hash over what makes it another event than others that one record causes.
    pub(super) fn told_apart_by(&self, way: &str, handler: &str, group: &str, cause: Identity) -> u128 {
        let (cause, partition) = (cause.key.to_be_bytes(), self.partition.map(i32::to_be_bytes));
        let mut parts: Vec<&[u8]> = vec![b"published", &cause, group.as_bytes(), handler.as_bytes()];
        parts.extend([way.as_bytes(), self.topic.as_bytes()]);
        for part in [partition.as_ref().map(|bytes| &bytes[..]), self.key.as_deref(), self.payload.as_deref()]
        {
            // Null is not the same as empty.
            parts.extend([part.map_or(&b"null"[..], |_| b"some"), part.unwrap_or_default()]);
        }
        let is_own = |name: &str| !OF_THE_TRACE.contains(&name) && !name.starts_with("onceward.");
        for (name, value) in self.headers.iter().filter(|(name, _)| is_own(name)) {
            parts.extend([name.as_bytes(), value]);
        }
        hash(&parts)
    }
}

//! A record to be produced.

use crate::kafka::client::{FutureRecord, Header, OwnedHeaders};

/// A record for [`TestBroker::produce`](super::TestBroker::produce).
///
/// ```
/// use onceward::testing::TestRecord;
///
/// let record = TestRecord::new(r#"{"distance": 1400}"#).key("N14228").header("ce_id", "1");
/// let tombstone = TestRecord::tombstone("N14228");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct TestRecord {
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    headers: OwnedHeaders,
}

impl TestRecord {
    /// Makes a record with this value, and without a key.
    pub fn new(payload: impl Into<Vec<u8>>) -> Self {
        Self { key: None, payload: Some(payload.into()), headers: OwnedHeaders::new() }
    }

    /// Makes a record with this key and a null value.
    pub fn tombstone(key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), payload: None, headers: OwnedHeaders::new() }
    }

    /// Sets the key. Records of one key go to one partition.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header behind the others.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers = self.headers.insert(Header { key: name, value: Some(value.as_ref()) });
        self
    }

    pub(super) fn to<'a>(&'a self, topic: &'a str) -> FutureRecord<'a, [u8], [u8]> {
        let mut record = FutureRecord::to(topic).headers(self.headers.clone());
        record.key = self.key.as_deref();
        record.payload = self.payload.as_deref();
        record
    }
}

//! Tests extractors on records in memory.

use super::TestRecord;
use crate::extract::{Context, FromRecord};
use crate::kafka::client::Headers;
use crate::kafka::message::{Message, OwnedMessage};
use crate::record::source::Source;
use crate::record::{Record, TopicPartition};
use crate::{HandlerError, HandlerResult};
use std::fmt;

/// A record in memory, to test an extractor or a type without Kafka.
///
/// ```
/// use onceward::extract::{Context, Json};
/// use onceward::testing::{InMemoryRecord, TestRecord};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Flight {
///     distance: i64,
/// }
///
/// # async fn run() {
/// let record = InMemoryRecord::from(TestRecord::new(r#"{"distance": 1400}"#));
/// let context = Context::default();
/// let Json(flight) = record.extract::<Json<Flight>>(&context).await.unwrap();
/// assert_eq!(flight.distance, 1400);
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run());
/// ```
pub struct InMemoryRecord {
    message: Message,
    source: Source,
}

impl InMemoryRecord {
    pub(super) fn new(message: Message, source: Source) -> Self {
        Self { message, source }
    }

    /// The record, as a handler gets it.
    pub fn record(&self) -> Record<'_> {
        Record::new(&self.message, &self.source, 1)
    }

    /// Runs this extractor on it. A schema that it needs is looked up.
    ///
    /// # Errors
    /// If it is rejected, or the registry cannot be reached.
    pub async fn extract<'a, E: FromRecord<'a>>(&'a self, context: &'a Context) -> HandlerResult<E> {
        let extract = || E::from_record(self.record(), context).map_err(HandlerError::from);
        #[cfg(feature = "schemas")]
        loop {
            let extracted = extract();
            let lookup = extracted.as_ref().err().and_then(HandlerError::needed_lookup);
            let Some(lookup) = lookup else { return extracted };
            context.look_up(lookup).await?;
        }
        #[cfg(not(feature = "schemas"))]
        extract()
    }
}

impl From<TestRecord> for InMemoryRecord {
    fn from(record: TestRecord) -> Self {
        let produced = record.to("in-memory");
        let headers = produced.headers.iter().flat_map(Headers::iter);
        let message = OwnedMessage {
            key: produced.key.map(<[u8]>::to_vec),
            payload: produced.payload.map(<[u8]>::to_vec),
            headers: headers
                .map(|header| (header.key.as_bytes().to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect(),
            ..OwnedMessage::default()
        };
        let source = Source::new(TopicPartition::new("in-memory", 0), "in-memory".into());
        Self::new(Message::Owned(Box::new(message)), source)
    }
}

impl fmt::Debug for InMemoryRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InMemoryRecord")
    }
}

/// The context of extractors, with a schema registry.
///
/// # Errors
/// If a setting of the registry is wrong.
#[cfg(feature = "schemas")]
pub fn context_with_registry(registry: &crate::SchemaRegistryConfig) -> Result<Context, crate::Error> {
    let mut context = Context::default();
    context.set_schemas(crate::schemas::Schemas::new(registry)?);
    Ok(context)
}

//! Writes by a schema of the registry.

use super::client::{Client, WriteError};
use super::config::SchemaRegistryConfig;
use super::references::Referenced;
use crate::error::{Error, HandlerError, HandlerResult, ResultExt};
use crate::extract::Part;
use serde::Serialize;
use serde_avro_fast::ser::SerializerConfig;
use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;

/// Under which name a schema stands in the registry, as Confluent's serializers call them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubjectName {
    /// `TOPIC-value`, or `TOPIC-key`: one event type a topic. The default.
    #[default]
    Topic,
    /// The full name of the record type: the same in all topics.
    Record,
    /// `TOPIC-` and the full name of the record type: several event types a topic.
    TopicRecord,
}

/// Encodes values as Avro in Confluent's wire format, by one schema.
///
/// The schema's id is asked for at the first value and kept. A schema that the registry does
/// not have is an error, unless [`registering`](Self::registering) is set.
///
/// ```no_run
/// use onceward::prelude::*;
/// use onceward::{AvroEncoder, SchemaRegistryConfig};
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// struct Delay {
///     tailnum: String,
///     minutes: i64,
/// }
///
/// const DELAY: &str = r#"{"type": "record", "name": "Delay", "namespace": "airport", "fields": [
///     {"name": "tailnum", "type": "string"}, {"name": "minutes", "type": "long"}]}"#;
///
/// #[handler(topic = "flights", group = "delays")]
/// async fn on_flight(record: Bytes, delays: State<AvroEncoder>) -> HandlerResult<ProducerRecord> {
///     let delay = Delay { tailnum: "N14228".into(), minutes: 2 };
///     Ok(ProducerRecord::to("delays").payload(delays.value("delays", &delay).await?))
/// }
///
/// # async fn run() -> Result<(), onceward::Error> {
/// let registry = SchemaRegistryConfig::at("http://127.0.0.1:8081");
/// let delays = AvroEncoder::new(&registry, DELAY)?.registering();
/// App::from_env()?.state(delays).handler(on_flight {}).run().await
/// # }
/// ```
pub struct AvroEncoder {
    client: Client,
    text: String,
    schema: serde_avro_fast::Schema,
    /// The full name of its record type.
    name: String,
    subject: SubjectName,
    registers: bool,
    ids: Mutex<HashMap<String, u32>>,
    /// So that one asks, and the others wait for the answer.
    asking: tokio::sync::Mutex<()>,
}

impl AvroEncoder {
    /// Makes an encoder; nothing is asked for yet.
    ///
    /// # Errors
    /// Where no registry is set, a setting of it is wrong, or the schema is none.
    pub fn new(registry: &SchemaRegistryConfig, schema: &str) -> Result<Self, Error> {
        let client = Client::new(registry)?
            .ok_or_else(|| Error::config("schema_registry.url", "is not set; give `SCHEMA_REGISTRY_URL`"))?;
        let parsed = super::avro::parse(schema, &Referenced::default());
        Ok(Self {
            client,
            text: schema.to_owned(),
            schema: parsed.map_err(|problem| Error::config("schema", problem))?,
            name: super::name_of(schema).unwrap_or_else(|| schema.trim().trim_matches('"').to_owned()),
            subject: SubjectName::default(),
            registers: false,
            ids: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        })
    }

    /// Says under which name the schema stands in the registry.
    #[must_use]
    pub fn subject(mut self, subject: SubjectName) -> Self {
        self.subject = subject;
        self
    }

    /// Registers the schema where the registry does not have it. It refuses one that is not
    /// compatible with the versions before.
    #[must_use]
    pub fn registering(mut self) -> Self {
        self.registers = true;
        self
    }

    /// The payload of a record for this topic.
    ///
    /// # Errors
    /// A value that the schema has no place for, and a schema that the registry does not take
    /// or have, are permanent. A registry that cannot be asked is an outage: out of a
    /// handler without a transaction it costs no attempt.
    pub async fn value<T: Serialize + ?Sized>(&self, topic: &str, value: &T) -> HandlerResult<Vec<u8>> {
        self.encode(Part::Value, topic, value).await
    }

    /// The key of a record for this topic.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    pub async fn key<T: Serialize + ?Sized>(&self, topic: &str, key: &T) -> HandlerResult<Vec<u8>> {
        self.encode(Part::Key, topic, key).await
    }

    async fn encode<T: Serialize + ?Sized>(
        &self,
        part: Part,
        topic: &str,
        value: &T,
    ) -> HandlerResult<Vec<u8>> {
        let id = self.id(&self.subject_for(part, topic)).await?;
        let mut bytes = Vec::with_capacity(128);
        bytes.push(0);
        bytes.extend(id.to_be_bytes());
        serde_avro_fast::to_datum(value, bytes, &mut SerializerConfig::new(&self.schema)).permanent()
    }

    fn subject_for(&self, part: Part, topic: &str) -> String {
        match self.subject {
            SubjectName::Topic => format!("{topic}-{}", part.name()),
            SubjectName::Record => self.name.clone(),
            SubjectName::TopicRecord => format!("{topic}-{}", self.name),
        }
    }

    async fn id(&self, subject: &str) -> HandlerResult<u32> {
        let known = || super::lock(&self.ids).get(subject).copied();
        if let Some(id) = known() {
            return Ok(id);
        }
        let _asking = self.asking.lock().await;
        if let Some(id) = known() {
            return Ok(id);
        }
        let id =
            self.client.id_of(subject, &self.text, self.registers).await.map_err(|error| match error {
                WriteError::Refused(problem) => HandlerError::new(problem).permanent(),
                WriteError::Outage(source) => HandlerError::outage(source),
            })?;
        super::lock(&self.ids).insert(subject.to_owned(), id);
        Ok(id)
    }
}

impl fmt::Debug for AvroEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AvroEncoder({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_those_of_other_serializers() {
        let registry = SchemaRegistryConfig::at("http://127.0.0.1:1");
        let schema = r#"{"type": "record", "name": "Delay", "namespace": "airport", "fields": []}"#;
        let subject =
            |name, part| AvroEncoder::new(&registry, schema).unwrap().subject(name).subject_for(part, "t");
        assert_eq!(subject(SubjectName::Topic, Part::Value), "t-value");
        assert_eq!(subject(SubjectName::Topic, Part::Key), "t-key");
        assert_eq!(subject(SubjectName::Record, Part::Value), "airport.Delay");
        assert_eq!(subject(SubjectName::TopicRecord, Part::Value), "t-airport.Delay");
    }
}

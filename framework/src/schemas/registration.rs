//! A schema that records are written by, as the registry has it.

use super::client::{Client, WriteError};
use crate::config::schema_registry::SchemaRegistryConfig;
use crate::error::lookup::Part;
use crate::error::{Error, HandlerError, HandlerResult};
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

/// A schema with its ids, each asked for once, at the first value.
pub(super) struct Registration {
    client: Client,
    /// As the registry calls it.
    kind: &'static str,
    text: String,
    pub(super) subject: SubjectName,
    pub(super) registers: bool,
    ids: Mutex<HashMap<String, u32>>,
    /// So that one asks, and the others wait for the answer.
    asking: tokio::sync::Mutex<()>,
}

impl Registration {
    pub(super) fn new(
        registry: &SchemaRegistryConfig,
        kind: &'static str,
        schema: &str,
    ) -> Result<Self, Error> {
        let client = Client::new(registry)?
            .ok_or_else(|| Error::config("schema_registry.url", "is not set; give `SCHEMA_REGISTRY_URL`"))?;
        Ok(Self {
            client,
            kind,
            text: schema.to_owned(),
            subject: SubjectName::default(),
            registers: false,
            ids: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        })
    }

    /// The first bytes of what is written for a topic: the magic byte and the schema's id.
    pub(super) async fn prefix(&self, part: Part, topic: &str, record_type: &str) -> HandlerResult<Vec<u8>> {
        let id = self.id(&self.subject_for(part, topic, record_type)).await?;
        let mut bytes = Vec::with_capacity(128);
        bytes.push(0);
        bytes.extend(id.to_be_bytes());
        Ok(bytes)
    }

    fn subject_for(&self, part: Part, topic: &str, record_type: &str) -> String {
        match self.subject {
            SubjectName::Topic => format!("{topic}-{}", part.name()),
            SubjectName::Record => record_type.to_owned(),
            SubjectName::TopicRecord => format!("{topic}-{record_type}"),
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
            self.client.id_of(subject, self.kind, &self.text, self.registers).await.map_err(|error| {
                match error {
                    WriteError::Refused(problem) => HandlerError::new(problem).permanent(),
                    WriteError::Outage(source) => HandlerError::outage(source),
                }
            })?;
        super::lock(&self.ids).insert(subject.to_owned(), id);
        Ok(id)
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by subject {:?}", self.kind, self.subject)
    }
}

/// What all encoders have beside their `new` and `encode`, for values of a type with these bounds.
macro_rules! encoder {
    ($encoder:ident for $($bounds:tt)+) => {
        impl $encoder {
            /// Says under which name the schema stands in the registry.
            #[must_use]
            pub fn subject(mut self, subject: crate::SubjectName) -> Self {
                self.registration.subject = subject;
                self
            }

            /// Registers the schema where the registry does not have it. It refuses one that is
            /// not compatible with the versions before.
            #[must_use]
            pub fn registering(mut self) -> Self {
                self.registration.registers = true;
                self
            }

            /// The payload of a record for this topic.
            ///
            /// # Errors
            /// A value that the schema has no place for, and a schema that the registry does not
            /// take or have, are permanent. A registry that cannot be asked is an outage: out of a
            /// handler without a transaction it costs no attempt.
            pub async fn value<T: $($bounds)+>(&self, topic: &str, value: &T) -> HandlerResult<Vec<u8>> {
                self.encode(Part::Value, topic, value).await
            }

            /// The key of a record for this topic.
            ///
            /// # Errors
            /// As [`value`](Self::value).
            pub async fn key<T: $($bounds)+>(&self, topic: &str, key: &T) -> HandlerResult<Vec<u8>> {
                self.encode(Part::Key, topic, key).await
            }
        }
    };
}
pub(super) use encoder;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_those_of_other_serializers() {
        let registry = SchemaRegistryConfig::at("http://127.0.0.1:1");
        let subject = |subject, part| {
            let registration = Registration::new(&registry, "AVRO", "").unwrap();
            Registration { subject, ..registration }.subject_for(part, "t", "airport.Delay")
        };
        assert_eq!(subject(SubjectName::Topic, Part::Value), "t-value");
        assert_eq!(subject(SubjectName::Topic, Part::Key), "t-key");
        assert_eq!(subject(SubjectName::Record, Part::Value), "airport.Delay");
        assert_eq!(subject(SubjectName::TopicRecord, Part::Value), "t-airport.Delay");
    }
}

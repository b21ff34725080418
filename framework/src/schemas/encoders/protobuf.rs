//! Writes Protobuf by a schema of the registry.

use crate::error::{Error, HandlerError, HandlerResult};
use crate::extract::Part;
use crate::schemas::config::SchemaRegistryConfig;
use crate::schemas::protobuf::{self, Messages};
use crate::schemas::registration::{Registration, settings};
use crate::schemas::wire;
use prost::{Message, Name};
use std::fmt;

/// Encodes messages in Confluent's wire format, by the text of one `.proto` file, which has to
/// have a message of that name.
///
/// What stands in the registry and what not is as with `AvroEncoder`.
pub struct ProtobufEncoder {
    registration: Registration,
    messages: Messages,
}

settings!(ProtobufEncoder);

impl ProtobufEncoder {
    /// Makes an encoder; nothing is asked for yet.
    ///
    /// # Errors
    /// Where no registry is set, a setting of it is wrong, or the schema is none.
    pub fn new(registry: &SchemaRegistryConfig, schema: &str) -> Result<Self, Error> {
        let registration = Registration::new(registry, "PROTOBUF", schema)?;
        let messages = protobuf::parse(schema).map_err(|problem| Error::config("schema", problem))?;
        Ok(Self { registration, messages })
    }

    /// The payload of a record for this topic.
    ///
    /// # Errors
    /// A value that the schema has no place for, and a schema that the registry does not take
    /// or have, are permanent. A registry that cannot be asked is an outage: out of a
    /// handler without a transaction it costs no attempt.
    pub async fn value<T: Message + Name>(&self, topic: &str, value: &T) -> HandlerResult<Vec<u8>> {
        self.encode(Part::Value, topic, value).await
    }

    /// The key of a record for this topic.
    ///
    /// # Errors
    /// As [`value`](Self::value).
    pub async fn key<T: Message + Name>(&self, topic: &str, key: &T) -> HandlerResult<Vec<u8>> {
        self.encode(Part::Key, topic, key).await
    }

    async fn encode<T: Message + Name>(
        &self,
        part: Part,
        topic: &str,
        message: &T,
    ) -> HandlerResult<Vec<u8>> {
        let name = T::full_name();
        let way = self.messages.way_to(&name);
        let way =
            way.ok_or_else(|| HandlerError::new(format!("the schema has no message `{name}`")).permanent())?;
        let mut bytes = self.registration.prefix(part, topic, &name).await?;
        wire::write_way(&way, &mut bytes);
        bytes.extend(message.encode_to_vec());
        Ok(bytes)
    }
}

impl fmt::Debug for ProtobufEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtobufEncoder({:?})", self.registration)
    }
}

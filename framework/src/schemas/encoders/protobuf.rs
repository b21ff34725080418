//! Writes Protobuf by a schema of the registry.

use crate::config::schema_registry::SchemaRegistryConfig;
use crate::error::lookup::Part;
use crate::error::{Error, HandlerError, HandlerResult};
use crate::schemas::protobuf::{self, Messages};
use crate::schemas::registration::{Registration, encoder};
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

encoder!(ProtobufEncoder for Message + Name);

impl fmt::Debug for ProtobufEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtobufEncoder({:?})", self.registration)
    }
}

//! Writes JSON by a schema of the registry.

use crate::config::schema_registry::SchemaRegistryConfig;
use crate::error::lookup::Part;
use crate::error::{Error, HandlerError, HandlerResult, ResultExt};
use crate::schemas::references::Referenced;
use crate::schemas::registration::{Registration, encoder};
use crate::schemas::{json, record_type_of};
use serde::Serialize;
use std::fmt;

/// Encodes values as JSON in Confluent's wire format, by one JSON Schema, which each is checked
/// against. Its `title` is the name of the record type.
///
/// What stands in the registry and what not is as with `AvroEncoder`.
pub struct JsonSchemaEncoder {
    registration: Registration,
    schema: json::Schema,
    record_type: String,
}

impl JsonSchemaEncoder {
    /// Makes an encoder; nothing is asked for yet.
    ///
    /// # Errors
    /// Where no registry is set, a setting of it is wrong, or the schema is none.
    pub fn new(registry: &SchemaRegistryConfig, schema: &str) -> Result<Self, Error> {
        let registration = Registration::new(registry, "JSON", schema)?;
        let parsed =
            json::parse(schema, &Referenced::default(), registry.json_schema_draft.unwrap_or_default());
        let schema_of = parsed.map_err(|problem| Error::config("schema", problem))?;
        Ok(Self { registration, schema: schema_of, record_type: record_type_of(schema).unwrap_or_default() })
    }

    async fn encode<T: Serialize + ?Sized>(
        &self,
        part: Part,
        topic: &str,
        value: &T,
    ) -> HandlerResult<Vec<u8>> {
        let value = serde_json::to_value(value).permanent()?;
        self.schema.check(&value).map_err(|problem| HandlerError::new(problem).permanent())?;
        let mut bytes = self.registration.prefix(part, topic, &self.record_type).await?;
        serde_json::to_writer(&mut bytes, &value).permanent()?;
        Ok(bytes)
    }
}

encoder!(JsonSchemaEncoder for Serialize + ?Sized);

impl fmt::Debug for JsonSchemaEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonSchemaEncoder({}, {:?})", self.record_type, self.registration)
    }
}

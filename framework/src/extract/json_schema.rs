//! The payload, or the key, as JSON that a schema describes.

use super::decode::format_of;
use super::json::not_json;
use super::{Context, Decode, Encoded, Rejection};
use crate::error::lookup::Part;
use crate::schemas::{Parsed, Schema, json};
use serde::Deserialize;

/// The payload, JSON that fits the JSON Schema that the record names and the
/// [schema registry](crate::SchemaRegistryConfig) has. `Key<JsonSchema<T>>` is the same of the
/// key.
///
/// It is checked against its schema and then decoded. A schema may refer to others that are
/// among its references in the registry, and to nothing else: no address is asked for. `T`
/// may borrow from the record. A tombstone decodes to `JsonSchema(None)` where `T` is an
/// `Option`, and is rejected else.
///
/// A registry that cannot be asked costs no attempt: the record waits.
///
/// ```
/// use onceward::prelude::*;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Flight {
///     tailnum: String,
/// }
///
/// #[handler(topic = "flights", group = "totals")]
/// async fn on_flight(JsonSchema(flight): JsonSchema<Flight>) -> HandlerResult {
///     println!("{}", flight.tailnum);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonSchema<T>(pub T);

format_of!(JsonSchema, IS_JSON, HAS_SCHEMA);

impl<'a, T: Deserialize<'a> + Send> Decode<'a> for JsonSchema<T> {
    fn decode(encoded: Encoded<'a>, context: &'a Context) -> Result<Self, Rejection> {
        if encoded.bytes().is_none() {
            return encoded.none("JsonSchema").map(JsonSchema);
        }
        context.decode_by_schema(encoded, |schema, framed| match schema.parsed()? {
            Parsed::Json(json) => checked(json, framed.datum()?).map(JsonSchema),
            _ => Err(schema.is_not("JSON Schema")),
        })
    }

    /// What a JSON Schema allows is wider than what can be tried.
    fn check(part: Part, context: &Context) -> Result<(), String> {
        context.needs_registry("JsonSchema<T>", part, |schema: &Schema| match schema.parsed()? {
            Parsed::Json(_) => Ok(()),
            _ => Err(schema.is_not("JSON Schema")),
        })
    }
}

/// The value, if it fits its schema.
pub(crate) fn checked<'a, T: Deserialize<'a>>(schema: &json::Schema, datum: &'a [u8]) -> Result<T, String> {
    let text = |error| not_json("it", &error);
    schema.check(&serde_json::from_slice(datum).map_err(text)?)?;
    serde_json::from_slice(datum).map_err(text)
}

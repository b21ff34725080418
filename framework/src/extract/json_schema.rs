//! The payload, or the key, as JSON with a schema.

use super::decode::format_of;
use super::json::not_json;
use super::{Context, Decode, Encoded, Rejection};
use crate::error::lookup::Part;
use crate::schemas::{Parsed, Schema, json};
use serde::Deserialize;

/// The payload, decoded from JSON and checked against its JSON Schema. The record has the
/// schema's id, and the [schema registry](crate::SchemaRegistryConfig) has the schema.
/// `Key<JsonSchema<T>>` is the same for the key.
///
/// It is checked against its schema and then decoded. A schema may refer to schemas that are
/// among its references in the registry, and to no others: no address is fetched. `T` may
/// borrow from the record. A tombstone decodes to `JsonSchema(None)` if `T` is an `Option`;
/// else it is rejected.
///
/// If the registry cannot be reached, the record waits, and no attempt is counted.
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

//! The payload, or the key, as JSON that a schema describes.

use super::by_schema::{by_schema, none};
use super::json::not_json;
use super::{Context, Rejection};
use crate::Record;
use crate::error::HandlerError;
use crate::schemas::{Parsed, Part, Schema};
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

by_schema!(JsonSchema, Deserialize<'a>);

/// What a JSON Schema allows is wider than what can be tried.
#[expect(clippy::extra_unused_type_parameters, reason = "those of other formats need it")]
fn reads<T>(schema: &Schema) -> Result<(), String> {
    match schema.parsed()? {
        Parsed::Json(_) => Ok(()),
        _ => Err(schema.is_not("JSON Schema")),
    }
}

fn decode<'a, T: Deserialize<'a>>(
    part: Part,
    bytes: Option<&'a [u8]>,
    record: Record<'a>,
    context: &Context,
) -> Result<T, Rejection> {
    let Some(bytes) = bytes else { return none(part, "JsonSchema") };
    context.decode_by_schema(part, bytes, record.headers(), |schema, framed| {
        let Parsed::Json(json) = schema.parsed()? else { return Err(schema.is_not("JSON Schema")) };
        let datum = framed.datum()?;
        let text = |error| HandlerError::from(not_json(error)).to_string();
        json.check(&serde_json::from_slice(datum).map_err(text)?)?;
        serde_json::from_slice(datum).map_err(text)
    })
}

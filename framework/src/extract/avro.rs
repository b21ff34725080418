//! The payload, or the key, as Avro.

use super::decode::format_of;
use super::{Context, Decode, Encoded, Rejection};
use crate::error::lookup::Part;
use crate::schemas::{self, Parsed, Schema, samples};
use serde::Deserialize;

/// The payload, decoded from Avro with the schema that it was written with. The record has the
/// schema's id, and the [schema registry](crate::SchemaRegistryConfig) has the schema.
/// `Key<Avro<T>>` is the same for the key.
///
/// The writer's schema resolves onto `T` as serde says: a field is found by its name or
/// `#[serde(alias)]`, one that the writer did not have takes its `#[serde(default)]`, and
/// numbers widen. `T` may borrow from the record. A tombstone decodes to `Avro(None)` where
/// `T` is an `Option`, and is rejected else.
///
/// If the registry cannot be reached, the record waits, and no attempt is counted. These are
/// rejected: a schema id that the registry does not know, bytes that do not fit their schema or
/// `T`, and a schema with which few bytes would take much memory, such as a list of nulls.
///
/// `T` is checked against the registry's versions at the start, and against files of the crate
/// at compile time with [`ReadsAvro`](crate::ReadsAvro).
///
/// ```
/// use onceward::prelude::*;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Flight {
///     tailnum: String,
///     #[serde(default)]
///     gate: Option<String>,
/// }
///
/// #[handler(topic = "flights", group = "totals")]
/// async fn on_flight(Avro(flight): Avro<Flight>) -> HandlerResult {
///     println!("{}", flight.tailnum);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Avro<T>(pub T);

format_of!(Avro, HAS_SCHEMA);

impl<'a, T: Deserialize<'a> + Send> Decode<'a> for Avro<T> {
    fn decode(encoded: Encoded<'a>, context: &'a Context) -> Result<Self, Rejection> {
        if encoded.bytes().is_none() {
            return encoded.none("Avro").map(Avro);
        }
        context.decode_by_schema(encoded, |schema, framed| match schema.parsed()? {
            Parsed::Avro(avro) => {
                schemas::avro::decode(avro, framed.datum()?).map(Avro).map_err(|fault| fault.to_string())
            }
            _ => Err(schema.is_not("Avro")),
        })
    }

    fn check(part: Part, context: &Context) -> Result<(), String> {
        context.needs_registry("Avro<T>", part, reads::<T>)
    }
}

fn reads<'a, T: Deserialize<'a>>(schema: &Schema) -> Result<(), String> {
    match schema.parsed()? {
        Parsed::Avro(avro) => samples::reads::<T>(avro),
        _ => Err(schema.is_not("Avro")),
    }
}

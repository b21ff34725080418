//! The payload, or the key, as Avro.

use super::decode::format_of;
use super::{Context, Decode, Encoded, Rejection};
use crate::error::lookup::Part;
use crate::schemas::avro::{self, samples};
use crate::schemas::{Parsed, Schema};
use serde::de::DeserializeOwned;

/// The payload, decoded from Avro with the schema that it was written with. The record has the
/// schema's id, and the [schema registry](crate::SchemaRegistryConfig) has the schema.
/// `Key<Avro<T>>` is the same for the key.
///
/// The writer's schema resolves onto `T` as serde says: a field is found by its name or
/// `#[serde(alias)]`, one that the writer did not have takes its `#[serde(default)]`, and
/// numbers widen. A tombstone decodes to `Avro(None)` where
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
///
#[doc = include_str!("../docs/avro_types.md")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Avro<T>(pub T);

format_of!(Avro, HAS_SCHEMA);

impl<'a, T: DeserializeOwned + Send> Decode<'a> for Avro<T> {
    fn decode(encoded: Encoded<'a>, context: &'a Context) -> Result<Self, Rejection> {
        if encoded.bytes().is_none() {
            return encoded.none("Avro").map(Avro);
        }
        context.decode_by_schema(encoded, |schema, framed| match schema.parsed()? {
            Parsed::Avro(schema) => {
                avro::decode(schema, framed.datum()?).map(Avro).map_err(|fault| fault.to_string())
            }
            _ => Err(schema.is_not("Avro")),
        })
    }

    fn check(part: Part, context: &Context) -> Result<(), String> {
        context.needs_registry("Avro<T>", part, reads::<T>)
    }
}

/// A type that is read by a schema of its crate, whatever the writer's is: what
/// [`ResolvedAvro`] takes. [`derive(ReaderSchema)`](derive@crate::ReaderSchema) makes one of a
/// file.
pub trait ReaderSchema {
    /// The schema, as a text that is whole.
    const SCHEMA: &'static str;
}

/// As [`Avro<T>`](Avro), with the writer's schema resolved to the one that `T` declares, as the
/// specification has it: what the writer did not have takes the default of the reader's schema,
/// fields and types are found by the aliases that stand there, numbers are promoted, a symbol that
/// the reader lacks is its enum's default, and the branches of unions are matched.
///
/// A writer's schema that does not resolve to it is refused at the start and for each record, with
/// the place and the reason.
///
/// ```
/// use onceward::prelude::*;
/// use onceward::ReaderSchema;
/// use serde::Deserialize;
///
/// #[derive(Deserialize, ReaderSchema)]
/// #[reader_schema("src/docs/order.v2.avsc")]
/// struct Order {
///     id: String,
///     note: Option<String>,
/// }
///
/// #[handler(topic = "orders", group = "billing")]
/// async fn on_order(ResolvedAvro(order): ResolvedAvro<Order>) -> HandlerResult {
///     println!("{}", order.id);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedAvro<T>(pub T);

format_of!(ResolvedAvro, HAS_SCHEMA);

impl<'a, T: ReaderSchema + DeserializeOwned + Send> Decode<'a> for ResolvedAvro<T> {
    fn decode(encoded: Encoded<'a>, context: &'a Context) -> Result<Self, Rejection> {
        context.decode_by_schema(encoded, |schema, framed| match schema.parsed()? {
            Parsed::Avro(writer) => avro::decode_as(T::SCHEMA, writer, framed.datum()?).map(ResolvedAvro),
            _ => Err(schema.is_not("Avro")),
        })
    }

    fn check(part: Part, context: &Context) -> Result<(), String> {
        context.needs_registry("ResolvedAvro<T>", part, |schema: &Schema| match schema.parsed()? {
            Parsed::Avro(writer) => avro::reads_as::<T>(T::SCHEMA, writer),
            _ => Err(schema.is_not("Avro")),
        })
    }
}

fn reads<T: DeserializeOwned>(schema: &Schema) -> Result<(), String> {
    match schema.parsed()? {
        Parsed::Avro(schema) => samples::reads::<T>(schema),
        _ => Err(schema.is_not("Avro")),
    }
}

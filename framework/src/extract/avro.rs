//! The payload, or the key, as Avro.

use super::{Context, FromRecord, Key, Rejection};
use crate::Record;
use crate::schemas::{self, Parsed, Part};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use std::ops::Deref;

/// The payload, decoded from Avro by the schema that it was written with, which the record
/// names and the [schema registry](crate::SchemaRegistryConfig) has. `Key<Avro<T>>` is the
/// same of the key.
///
/// The writer's schema resolves onto `T` as serde says: a field is found by its name or
/// `#[serde(alias)]`, one that the writer did not have takes its `#[serde(default)]`, and
/// numbers widen. `T` may borrow from the record. A tombstone decodes to `Avro(None)` where
/// `T` is an `Option`, and is rejected else.
///
/// A registry that cannot be asked costs no attempt: the record waits. A schema id that the
/// registry does not know, and bytes that do not fit their schema or `T`, are rejected.
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

impl<'a, T: Deserialize<'a> + Send> FromRecord<'a> for Avro<T> {
    fn from_record(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        decode(Part::Value, record.payload(), record, context).map(Avro)
    }

    fn check(context: &Context) -> Result<(), String> {
        context.needs_registry("Avro<T>")
    }
}

impl<'a, T: Deserialize<'a> + Send> FromRecord<'a> for Key<Avro<T>> {
    fn from_record(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        decode(Part::Key, record.key(), record, context).map(|key| Key(Avro(key)))
    }

    fn check(context: &Context) -> Result<(), String> {
        context.needs_registry("Key<Avro<T>>")
    }
}

fn decode<'a, T: Deserialize<'a>>(
    part: Part,
    bytes: Option<&'a [u8]>,
    record: Record<'a>,
    context: &Context,
) -> Result<T, Rejection> {
    let Some(bytes) = bytes else { return none(part) };
    context.decode_by_schema(part, bytes, record.headers(), |schema, datum| match &schema.parsed {
        Ok(Parsed::Avro(avro)) => schemas::avro::decode(avro, datum).map_err(|fault| fault.to_string()),
        Ok(_) => Err(format!("it is a schema of {}, and the handler takes Avro", schema.format)),
        Err(unusable) => Err(unusable.clone()),
    })
}

/// `None`, where `T` is an `Option`.
fn none<'a, T: Deserialize<'a>>(part: Part) -> Result<T, Rejection> {
    // `()` decodes to `None` and to nothing else that a record holds.
    let unit: serde::de::value::UnitDeserializer<serde::de::value::Error> = ().into_deserializer();
    T::deserialize(unit).map_err(|_| match part {
        Part::Key => Rejection::new("the record has no key; take `Key<Avro<Option<T>>>`"),
        Part::Value => Rejection::new(
            "the value is null (a tombstone); take `Avro<Option<T>>`, or set `tombstones = \"skip\"` of the handler",
        ),
    })
}

impl<T> Deref for Avro<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

//! What the extractors of all formats with a schema have in common.

use super::Rejection;
use crate::schemas::Part;
use serde::Deserialize;
use serde::de::IntoDeserializer;

/// An extractor of the payload, and inside `Key` of the key, by its function
/// `decode(part, bytes, record, context)`, checked at startup by its function `reads(schema)`.
macro_rules! by_schema {
    ($extractor:ident, $($bound:tt)*) => {
        impl<'a, T: $($bound)* + Send> super::FromRecord<'a> for $extractor<T> {
            fn from_record(
                record: crate::Record<'a>,
                context: &'a super::Context,
            ) -> Result<Self, super::Rejection> {
                decode(crate::schemas::Part::Value, record.payload(), record, context).map($extractor)
            }

            fn check(context: &super::Context) -> Result<(), String> {
                let extractor = concat!(stringify!($extractor), "<T>");
                context.needs_registry(extractor, crate::schemas::Part::Value, reads::<T>)
            }
        }

        impl<'a, T: $($bound)* + Send> super::FromRecord<'a> for super::Key<$extractor<T>> {
            fn from_record(
                record: crate::Record<'a>,
                context: &'a super::Context,
            ) -> Result<Self, super::Rejection> {
                let key = decode(crate::schemas::Part::Key, record.key(), record, context);
                key.map(|key| super::Key($extractor(key)))
            }

            fn check(context: &super::Context) -> Result<(), String> {
                let extractor = concat!("Key<", stringify!($extractor), "<T>>");
                context.needs_registry(extractor, crate::schemas::Part::Key, reads::<T>)
            }
        }

        impl<T> std::ops::Deref for $extractor<T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.0
            }
        }
    };
}
pub(super) use by_schema;

/// What is null: `None`, where `T` is an `Option`.
pub(super) fn none<'a, T: Deserialize<'a>>(part: Part, extractor: &str) -> Result<T, Rejection> {
    // `()` decodes to `None` and to nothing else that a record holds.
    let unit: serde::de::value::UnitDeserializer<serde::de::value::Error> = ().into_deserializer();
    T::deserialize(unit).map_err(|_| is_null(part, &format!("{extractor}<Option<T>>")))
}

pub(super) fn is_null(part: Part, instead: &str) -> Rejection {
    Rejection::new(match part {
        Part::Key => format!("the record has no key; take `Key<{instead}>`"),
        Part::Value => format!(
            "the value is null (a tombstone); take `{instead}`, or set `tombstones = \"skip\"` of the handler"
        ),
    })
}

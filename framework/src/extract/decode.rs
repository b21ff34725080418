//! Formats: they decode a record's payload or key.

use super::{Context, FromKey, FromRecord, Rejection};
use crate::Record;
use crate::error::lookup::Part;

/// A payload or key to decode, with its record.
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a> {
    part: Part,
    record: Record<'a>,
    /// In place of the record's own: what is in an envelope.
    inside: Option<Option<&'a [u8]>>,
}

impl<'a> Encoded<'a> {
    pub(crate) fn new(part: Part, record: Record<'a>) -> Self {
        Self { part, record, inside: None }
    }

    /// What stands in an envelope that is the record's payload.
    #[cfg(feature = "json")]
    pub(super) fn of_bytes(record: Record<'a>, inside: Option<&'a [u8]>) -> Self {
        Self { part: Part::Value, record, inside: Some(inside) }
    }

    /// Which part it is.
    pub fn part(self) -> Part {
        self.part
    }

    /// The record with everything else.
    pub fn record(self) -> Record<'a> {
        self.record
    }

    /// Its bytes; `None` for a tombstone, or for a record without a key.
    pub fn bytes(self) -> Option<&'a [u8]> {
        if let Some(inside) = self.inside {
            return inside;
        }
        match self.part {
            Part::Key => self.record.key(),
            Part::Value => self.record.payload(),
        }
    }

    /// Its bytes, for a format without a null.
    ///
    /// # Errors
    /// If there are none; the text says how to take such records.
    pub fn required(self) -> Result<&'a [u8], Rejection> {
        self.bytes().ok_or_else(|| self.is_null("an `Option`"))
    }

    /// The value for null: `None`, if `T` is an `Option`.
    #[cfg(any(feature = "avro", feature = "json"))]
    pub(super) fn none<T: serde::Deserialize<'a>>(self, extractor: &str) -> Result<T, Rejection> {
        use serde::de::IntoDeserializer;
        // `()` decodes to `None` and to nothing else that a record holds.
        let unit: serde::de::value::UnitDeserializer<serde::de::value::Error> = ().into_deserializer();
        T::deserialize(unit).map_err(|_| self.is_null(&format!("`{extractor}<Option<T>>`")))
    }

    fn is_null(self, instead: &str) -> Rejection {
        Rejection::new(match self.part {
            Part::Key => format!("the record has no key; take {instead} of it"),
            Part::Value => format!(
                "the value is null (a tombstone); take {instead}, or set `tombstones = \"skip\"` of the handler"
            ),
        })
    }
}

/// A format: an extractor of the payload, and inside [`Key`](super::Key) of the key.
///
/// [`Json`](super::Json) is one. Implement this trait for a format of your own. An `Option`
/// around it takes tombstones, and records without a key.
///
/// ```
/// use onceward::extract::{Context, Decode, Encoded, Rejection};
/// use onceward::prelude::*;
///
/// /// Fields with semicolons between.
/// struct Fields<'a>(Vec<&'a str>);
///
/// impl<'a> Decode<'a> for Fields<'a> {
///     fn decode(encoded: Encoded<'a>, _: &'a Context) -> Result<Self, Rejection> {
///         let text = std::str::from_utf8(encoded.required()?).map_err(Rejection::new)?;
///         Ok(Fields(text.split(';').collect()))
///     }
/// }
///
/// #[handler(topic = "flights", group = "log")]
/// async fn on_flight(Fields(fields): Fields<'_>, Key(key): Key<Option<Fields<'_>>>) -> HandlerResult {
///     println!("{} fields", fields.len());
///     Ok(())
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from a record",
    label = "not an extractor",
    note = "handlers take `Json<T>`, `Avro<T>`, `Protobuf<T>`, `JsonSchema<T>`, `CloudEvent<T>`, `Bytes`, `&[u8]`, `Key<T>`, `Headers`, `Record`, `Position`, `Attempt`, `State<T>` of a `T` that is `Clone`, `Publisher`, `&mut Tx`, or your own type that implements `Decode` or `FromRecord`",
    note = "these are the types of `onceward::extract`: a `Json`, `State` or `Bytes` that was imported from another crate, such as axum, hides the one of the prelude; write `onceward::extract::Json<T>`"
)]
pub trait Decode<'a>: Sized + Send {
    /// Decodes it.
    ///
    /// # Errors
    /// Says what it is not. That counts as a permanent failure, and its text goes into logs and
    /// dead letters: it should not quote the record.
    fn decode(encoded: Encoded<'a>, context: &'a Context) -> Result<Self, Rejection>;

    /// Returns an error at startup if something is missing for it.
    ///
    /// # Errors
    /// One sentence with the fix.
    fn check(part: Part, context: &Context) -> Result<(), String> {
        let _ = (part, context);
        Ok(())
    }
}

impl<'a, D: Decode<'a>> FromRecord<'a> for D {
    #[inline]
    fn from_record(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        D::decode(Encoded::new(Part::Value, record), context)
    }

    fn check(context: &Context) -> Result<(), String> {
        D::check(Part::Value, context)
    }
}

#[diagnostic::do_not_recommend]
impl<'a, D: Decode<'a>> FromRecord<'a> for Option<D> {
    fn from_record(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        record.payload().map(|_| D::from_record(record, context)).transpose()
    }

    fn check(context: &Context) -> Result<(), String> {
        D::check(Part::Value, context)
    }
}

#[diagnostic::do_not_recommend]
impl<'a, D: Decode<'a>> FromKey<'a> for D {
    fn from_key(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        D::decode(Encoded::new(Part::Key, record), context)
    }

    fn check(context: &Context) -> Result<(), String> {
        D::check(Part::Key, context)
    }
}

/// Implements the traits that all wrapper formats share, [`Format`](super::Format) among them.
#[cfg(any(feature = "json", feature = "avro", feature = "protobuf"))]
macro_rules! format_of {
    ($format:ident $(, $is_so:ident)*) => {
        impl<T> super::Format for $format<T> {
            type Value = T;
            type Of<U> = $format<U>;
            $(const $is_so: bool = true;)*

            fn new(value: T) -> Self {
                Self(value)
            }

            fn into_value(self) -> T {
                self.0
            }
        }

        impl<T> std::ops::Deref for $format<T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.0
            }
        }
    };
}
#[cfg(any(feature = "json", feature = "avro", feature = "protobuf"))]
pub(super) use format_of;

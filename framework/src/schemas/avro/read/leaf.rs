//! Values with nothing in them: what stands in bytes, and dates and times.

use super::super::logical;
use super::super::plan::{Logical, Node};
use super::Ask;
use serde::Deserializer;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Error, IntoDeserializer, Unexpected, Visitor};
use std::fmt;

/// A date or a time as a text.
pub(super) fn moment<'de, D: Deserializer<'de>, V: Visitor<'de>>(
    inner: D,
    node: &Node,
    visitor: V,
) -> Result<V::Value, D::Error> {
    let number = inner.deserialize_any(Number)?;
    match node.logical.and_then(|kind| logical::moment(kind, number)) {
        Some(text) => visitor.visit_string(text),
        None => Err(D::Error::custom(OUT_OF_RANGE)),
    }
}

/// Told of a value of a logical type that is none, whatever is made of it.
pub(in super::super) const OUT_OF_RANGE: &str = "it is out of the range of its logical type";

/// Told of bytes of which a text is asked.
pub(in super::super) const NOT_TEXT: &str = "its bytes are no UTF-8";

/// Bytes, or what they stand for.
pub(super) fn bytes<'de, D: Deserializer<'de>, V: Visitor<'de>>(
    inner: D,
    node: &Node,
    ask: Ask,
    visitor: V,
) -> Result<V::Value, D::Error> {
    match (ask, node.logical) {
        (Ask::Bytes, _) | (Ask::Any, None) => return inner.deserialize_byte_buf(visitor),
        (Ask::List | Ask::Tuple(3), Some(Logical::Duration)) => {
            let parts = logical::duration(&inner.deserialize_byte_buf(Taken)?);
            let parts = parts.ok_or_else(|| D::Error::custom(OUT_OF_RANGE))?;
            return list(parts.into_iter(), visitor);
        }
        (Ask::List | Ask::Tuple(_), _) => {
            return list(inner.deserialize_byte_buf(Taken)?.into_iter(), visitor);
        }
        (Ask::Text, None) => {
            let text = String::from_utf8(inner.deserialize_byte_buf(Taken)?);
            return visitor.visit_string(text.map_err(|_| D::Error::custom(NOT_TEXT))?);
        }
        _ => {}
    }
    let Some(kind) = node.logical else { return inner.deserialize_byte_buf(visitor) };
    let bytes = inner.deserialize_byte_buf(Taken)?;
    let text = match kind {
        Logical::Decimal { scale } => logical::decimal(&bytes, scale),
        Logical::BigDecimal => logical::big_decimal(&bytes),
        Logical::Uuid => logical::uuid(&bytes),
        _ => {
            let parts = logical::duration(&bytes).ok_or_else(|| D::Error::custom(OUT_OF_RANGE))?;
            let names = ["months", "days", "milliseconds"];
            return visitor.visit_map(MapDeserializer::new(names.into_iter().zip(parts)));
        }
    };
    let text = text.ok_or_else(|| D::Error::custom(OUT_OF_RANGE))?;
    if matches!(kind, Logical::Decimal { .. } | Logical::BigDecimal) {
        return number(text, ask, visitor);
    }
    visitor.visit_string(text)
}

/// A decimal as the number that is asked for, if it is one.
fn number<'de, E: Error, V: Visitor<'de>>(text: String, ask: Ask, visitor: V) -> Result<V::Value, E> {
    match ask {
        Ask::Float32 | Ask::Float64 => match text.parse() {
            Ok(number) => visitor.visit_f64(number),
            Err(_) => Err(E::custom(OUT_OF_RANGE)),
        },
        Ask::Whole if !text.contains('.') => match text.parse::<i128>() {
            Ok(number) => match (i64::try_from(number), u64::try_from(number)) {
                (Ok(number), _) => visitor.visit_i64(number),
                (_, Ok(number)) => visitor.visit_u64(number),
                _ => visitor.visit_i128(number),
            },
            Err(_) => Err(E::invalid_value(Unexpected::Other("a longer number"), &visitor)),
        },
        _ => visitor.visit_string(text),
    }
}

/// All of them, or it is refused.
fn list<'de, E: Error, V: Visitor<'de>, T: IntoDeserializer<'de, E>>(
    items: impl Iterator<Item = T>,
    visitor: V,
) -> Result<V::Value, E> {
    let mut items = SeqDeserializer::new(items);
    let value = visitor.visit_seq(&mut items)?;
    items.end()?;
    Ok(value)
}

struct Taken;

impl Visitor<'_> for Taken {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}

struct Number;

impl Visitor<'_> for Number {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_i32<E>(self, number: i32) -> Result<i64, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<i64, E> {
        Ok(number)
    }
}

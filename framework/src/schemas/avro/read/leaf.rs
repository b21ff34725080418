//! Values with nothing in them: what stands in bytes, and dates and times.

use super::super::logical;
use super::super::plan::Logical;
use super::super::walk::Problem;
use super::Ask;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Error, IntoDeserializer, Unexpected, Visitor};

/// Told of a value of a logical type that is none, whatever is made of it.
pub(in super::super) const OUT_OF_RANGE: &str = "it is out of the range of its logical type";

/// A date or a time as a text.
pub(super) fn moment<'de, E: Error, V: Visitor<'de>>(
    logical: Logical,
    number: i64,
    visitor: V,
) -> Result<V::Value, E> {
    match logical::moment(logical, number) {
        Some(text) => visitor.visit_string(text),
        None => Err(E::custom(OUT_OF_RANGE)),
    }
}

/// Bytes, or what they stand for.
pub(super) fn bytes<'de, E: Error, V: Visitor<'de>>(
    bytes: &[u8],
    kind: Option<Logical>,
    ask: Ask,
    visitor: V,
) -> Result<V::Value, E> {
    let out_of_range = || E::custom(OUT_OF_RANGE);
    let text = match (ask, kind) {
        (Ask::Bytes, _) => return visitor.visit_bytes(bytes),
        (Ask::List | Ask::Tuple(3), Some(Logical::Duration)) => {
            let parts = logical::duration(bytes).ok_or_else(out_of_range)?;
            return list(parts.into_iter(), visitor);
        }
        (Ask::List | Ask::Tuple(_), _) => return list(bytes.iter().copied(), visitor),
        (Ask::Text, None) => {
            return visitor.visit_str(std::str::from_utf8(bytes).map_err(|_| E::custom(Problem::NoText))?);
        }
        (_, Some(Logical::Decimal { scale })) => logical::decimal(bytes, scale),
        (_, Some(Logical::BigDecimal)) => logical::big_decimal(bytes),
        (_, Some(Logical::Uuid)) => logical::uuid(bytes),
        (_, Some(Logical::Duration)) => {
            let parts = logical::duration(bytes).ok_or_else(out_of_range)?;
            let names = ["months", "days", "milliseconds"];
            return visitor.visit_map(MapDeserializer::new(names.into_iter().zip(parts)));
        }
        _ => return visitor.visit_bytes(bytes),
    };
    let text = text.ok_or_else(out_of_range)?;
    if kind == Some(Logical::Uuid) { visitor.visit_string(text) } else { number(text, ask, visitor) }
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

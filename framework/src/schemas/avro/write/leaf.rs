//! Values with nothing in them. `None` where the type is for others.

use super::super::logical;
use super::super::plan::{Kind, Logical, Node, symbol};
use super::{Unfit, Written};
use apache_avro::types::Value;

pub(super) fn whole(node: &Node, number: i128) -> Option<Written> {
    let too_large = || Unfit("the number is too large for its schema".to_owned());
    Some(match &node.kind {
        Kind::Int => i32::try_from(number).map(Value::Int).map_err(|_| too_large()),
        Kind::Long => i64::try_from(number).map(Value::Long).map_err(|_| too_large()),
        Kind::Float => Ok(Value::Float(number as f32)),
        Kind::Double => Ok(Value::Double(number as f64)),
        Kind::Bytes | Kind::Fixed(_) if node.logical.is_some_and(is_decimal) => {
            return text(node, &number.to_string());
        }
        _ => return None,
    })
}

fn is_decimal(logical: Logical) -> bool {
    matches!(logical, Logical::Decimal { .. } | Logical::BigDecimal)
}

pub(super) fn text(node: &Node, text: &str) -> Option<Written> {
    let unfit = |what: &str| Some(Err(Unfit(what.to_owned())));
    match (&node.kind, node.logical) {
        (Kind::String, _) => Some(Ok(Value::String(text.to_owned()))),
        (Kind::Enum(symbols), _) => match symbols.names.iter().position(|name| **name == *text) {
            Some(number) => Some(Ok(Value::Enum(u32::try_from(number).ok()?, symbol(number)))),
            None => unfit("a text is none of the symbols of its schema"),
        },
        (Kind::Bytes | Kind::Fixed(_), Some(Logical::Decimal { scale })) => {
            match logical::unscaled(text, scale) {
                Some(number) => decimal(node, &number.to_be_bytes()),
                None => unfit("a text is no decimal that fits its schema"),
            }
        }
        (Kind::Bytes, Some(Logical::BigDecimal)) => match logical::with_scale(text) {
            Some(bytes) => Some(Ok(Value::Bytes(bytes))),
            None => unfit("a text is no decimal"),
        },
        (Kind::Fixed(16), Some(Logical::Uuid)) => match logical::uuid_bytes(text) {
            Some(bytes) => Some(Ok(Value::Fixed(16, bytes))),
            None => unfit("a text is no UUID"),
        },
        (Kind::Bytes | Kind::Fixed(_), None) => bytes(node, text.as_bytes()),
        _ => None,
    }
}

pub(super) fn bytes(node: &Node, bytes: &[u8]) -> Option<Written> {
    match node.kind {
        Kind::Bytes => Some(Ok(Value::Bytes(bytes.to_vec()))),
        Kind::Fixed(size) if size == bytes.len() => Some(Ok(Value::Fixed(size, bytes.to_vec()))),
        _ => None,
    }
}

/// The number in as many bytes as its type has.
fn decimal(node: &Node, number: &[u8]) -> Option<Written> {
    let sign = if number[0] & 0x80 == 0 { 0 } else { 0xff };
    let is_for_sign_only = |pair: &[u8]| pair[0] == sign && (pair[1] ^ sign) & 0x80 == 0;
    let shortest = &number[number.windows(2).take_while(|pair| is_for_sign_only(pair)).count()..];
    match node.kind {
        Kind::Bytes => Some(Ok(Value::Bytes(shortest.to_vec()))),
        Kind::Fixed(size) if shortest.len() <= size => {
            let mut whole = vec![sign; size - shortest.len()];
            whole.extend(shortest);
            Some(Ok(Value::Fixed(size, whole)))
        }
        _ => Some(Err(Unfit("a decimal is too large for its schema".to_owned()))),
    }
}

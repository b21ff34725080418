//! The default of a field, written as the datum would be.

use super::super::plan::{Kind, Place, Plan};
use super::super::walk::put_long;
use serde_json::Value;

/// # Errors
/// Says that it is none of its type.
pub(super) fn encoded(plan: &Plan, place: Place, json: &Value) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    match write(plan, place, json, &mut bytes, 0) {
        Some(()) => Ok(bytes),
        None => Err("its default is no value of its type".to_owned()),
    }
}

fn write(plan: &Plan, place: Place, json: &Value, bytes: &mut Vec<u8>, depth: usize) -> Option<()> {
    if depth > super::super::DEEPEST {
        return None;
    }
    match &plan.node(place).kind {
        Kind::Null => json.as_null()?,
        Kind::Boolean => bytes.push(json.as_bool()?.into()),
        Kind::Int => put_long(i32::try_from(json.as_i64()?).ok()?.into(), bytes),
        Kind::Long => put_long(json.as_i64()?, bytes),
        Kind::Float => bytes.extend((number(json)? as f32).to_le_bytes()),
        Kind::Double => bytes.extend(number(json)?.to_le_bytes()),
        Kind::String => put_text(json.as_str()?.as_bytes(), bytes)?,
        Kind::Bytes => put_text(&of_letters(json)?, bytes)?,
        Kind::Fixed(size) => bytes.extend(of_letters(json).filter(|fixed| fixed.len() == *size)?),
        Kind::Enum(symbols) => {
            let symbol = symbols.names.iter().position(|name| Some(&**name) == json.as_str())?;
            put_long(i64::try_from(symbol).ok()?, bytes);
        }
        Kind::Array(items) => {
            let list = json.as_array()?;
            put_block(list.len(), bytes)?;
            list.iter().try_for_each(|item| write(plan, *items, item, bytes, depth + 1))?;
            bytes.extend((!list.is_empty()).then_some(0));
        }
        Kind::Map(values) => {
            let map = json.as_object()?;
            put_block(map.len(), bytes)?;
            for (key, value) in map {
                put_text(key.as_bytes(), bytes)?;
                write(plan, *values, value, bytes, depth + 1)?;
            }
            bytes.extend((!map.is_empty()).then_some(0));
        }
        // Of the first branch, says the specification; and since 1.12, of any.
        Kind::Union(branches) => (0..).zip(branches).find_map(|(number, branch)| {
            let mut inner = Vec::new();
            put_long(number, &mut inner);
            write(plan, *branch, json, &mut inner, depth + 1)?;
            bytes.extend(inner);
            Some(())
        })?,
        Kind::Record(fields) => {
            let object = json.as_object()?;
            for field in fields {
                let value = object.get(&*field.name).or(field.default.as_ref())?;
                write(plan, field.place, value, bytes, depth + 1)?;
            }
        }
    }
    Some(())
}

/// JSON has no word for some numbers.
fn number(json: &Value) -> Option<f64> {
    json.as_f64().or_else(|| match json.as_str()? {
        "NaN" => Some(f64::NAN),
        "INF" | "Infinity" => Some(f64::INFINITY),
        "-INF" | "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    })
}

/// A letter for each byte.
fn of_letters(json: &Value) -> Option<Vec<u8>> {
    json.as_str()?.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect()
}

fn put_text(text: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    put_block(text.len(), bytes)?;
    bytes.extend(text);
    Some(())
}

fn put_block(count: usize, bytes: &mut Vec<u8>) -> Option<()> {
    put_long(i64::try_from(count).ok()?, bytes);
    Some(())
}

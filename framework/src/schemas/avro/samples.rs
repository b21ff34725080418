//! Data that a schema's writers may write, to try a handler's type on.

use super::fault::Fault;
use super::plan::{Kind, Logical, Place, Plan};
use super::{Schema, decode};
use crate::error::panic::without_panic;
use serde::de::DeserializeOwned;
use std::collections::HashMap;

/// Whether a type reads all that a schema's writers may write, as far as its shape goes: what
/// it makes of a value is its own affair.
pub(crate) fn reads<T: DeserializeOwned>(schema: &Schema) -> Result<(), String> {
    all_read(schema, |sample| decode::<T>(schema, sample).map(drop))
}

/// The same of whatever decodes.
pub(crate) fn all_read(schema: &Schema, decode: impl Fn(&[u8]) -> Result<(), Fault>) -> Result<(), String> {
    for turn in 0..turns(&schema.plan) {
        let mut texts = HashMap::new();
        while let Some(sample) = sample(&schema.plan, turn, &texts) {
            let Ok(Err(fault)) = without_panic("a type's `Deserialize`", || decode(&sample)) else { break };
            match fault.proposal() {
                // A text may be the name of a variant, whatever the schema calls it.
                Some((number, text)) if texts.insert(*number, text.clone()).is_none() => {}
                Some(_) => break,
                None if fault.is_of_shape() => return Err(explained(&fault)),
                None => break,
            }
        }
    }
    Ok(())
}

fn explained(fault: &Fault) -> String {
    if fault.to_string().starts_with("missing field") {
        return format!(
            "{fault}, which those records do not have (`#[serde(default)]` would stand in for it)"
        );
    }
    fault.to_string()
}

/// With its number behind it, a text of a sample.
pub(super) const SAMPLE: &str = "onceward-sample-";

/// Each branch of each union and each symbol of each enum stands in one of them.
#[cfg(any(test, fuzzing))]
pub(crate) fn samples(schema: &Schema) -> Vec<Vec<u8>> {
    (0..turns(&schema.plan)).filter_map(|turn| sample(&schema.plan, turn, &HashMap::new())).collect()
}

/// As many as the most choices that one place has.
fn turns(plan: &Plan) -> usize {
    const MOST: usize = 32;
    let choices = plan.nodes().iter().map(|node| match &node.kind {
        Kind::Union(branches) => branches.len(),
        Kind::Enum(symbols) => symbols.names.len(),
        _ => 1,
    });
    choices.max().unwrap_or(1).min(MOST)
}

fn sample(plan: &Plan, turn: usize, texts: &HashMap<usize, String>) -> Option<Vec<u8>> {
    let mut writer = Writer { plan, turn, texts, written: 0, bytes: Vec::new() };
    writer.write(Plan::ROOT, 0)?;
    Some(writer.bytes)
}

/// Writes one value, with the choices whose turn it is.
struct Writer<'s> {
    plan: &'s Plan,
    turn: usize,
    /// What to write in place of which texts.
    texts: &'s HashMap<usize, String>,
    written: usize,
    bytes: Vec<u8>,
}

/// From here on lists are empty and the simplest branch is taken.
const DEEP: usize = 6;
const TOO_DEEP: usize = 60;
/// A longer sample is not made up.
const TOO_LONG: usize = 1 << 16;

impl Writer<'_> {
    /// `None` for what it cannot make up.
    fn write(&mut self, place: Place, depth: usize) -> Option<()> {
        if depth > TOO_DEEP || self.bytes.len() > TOO_LONG {
            return None;
        }
        let node = self.plan.node(place);
        match &node.kind {
            Kind::Null => {}
            Kind::Boolean | Kind::Int | Kind::Long => self.number(0),
            Kind::Float => self.bytes.extend([0; 4]),
            Kind::Double => self.bytes.extend([0; 8]),
            Kind::Bytes => match node.logical {
                Some(Logical::Decimal { .. }) => self.bytes.extend([2, 0]),
                // Of no bytes, and with no digit behind the point.
                Some(Logical::BigDecimal) => self.bytes.extend([4, 0, 0]),
                _ => self.number(0),
            },
            Kind::String if node.logical == Some(Logical::Uuid) => {
                self.text("00000000-0000-0000-0000-000000000000");
            }
            Kind::String => {
                let texts = self.texts;
                match texts.get(&self.written) {
                    Some(text) => self.text(text),
                    None => self.text(&format!("{SAMPLE}{}", self.written)),
                }
                self.written += 1;
            }
            Kind::Fixed(size) => self.bytes.resize(self.bytes.len() + (*size).min(TOO_LONG), 0),
            Kind::Enum(symbols) => self.number(self.turn % symbols.names.len().max(1)),
            Kind::Array(items) => self.list(*items, false, depth)?,
            Kind::Map(values) => self.list(*values, true, depth)?,
            Kind::Union(branches) => {
                let chosen = if depth > DEEP {
                    branches.iter().position(|branch| self.plan.node(*branch).is_simple()).unwrap_or(0)
                } else {
                    self.turn % branches.len().max(1)
                };
                self.number(chosen);
                self.write(*branches.get(chosen)?, depth + 1)?;
            }
            Kind::Record(fields) => {
                fields.iter().try_for_each(|field| self.write(field.place, depth + 1))?;
            }
        }
        Some(())
    }

    fn list(&mut self, items: Place, has_keys: bool, depth: usize) -> Option<()> {
        if depth <= DEEP {
            self.number(1);
            if has_keys {
                self.text("key");
            }
            self.write(items, depth + 1)?;
        }
        self.number(0);
        Some(())
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.bytes.extend(text.as_bytes());
    }

    /// Zigzag, of what is not negative.
    fn number(&mut self, number: usize) {
        let mut left = number * 2;
        while left >= 0x80 {
            self.bytes.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        self.bytes.push(left as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schemas::avro::parse;
    use crate::schemas::references::Referenced;
    use serde::Deserialize;

    const ORDER: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 200}},
        {"name": "note", "type": ["null", "string"]},
        {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["NEW", "USED", "LENT"]}},
            {"name": "part_of", "type": ["null", "Line"]}, {"name": "hash", "type": "Hash"}]}}},
        {"name": "labels", "type": {"type": "map", "values": "long"}}]}"#;

    fn schema(text: &str) -> Schema {
        parse(text, &Referenced::default()).unwrap()
    }

    fn problem<T: DeserializeOwned>() -> Option<String> {
        reads::<T>(&schema(ORDER)).err()
    }

    #[test]
    fn samples_are_what_the_schema_says_and_hold_every_choice() {
        let schema = schema(ORDER);
        let samples = samples(&schema);
        assert_eq!(samples.len(), 3);
        for sample in samples {
            decode::<serde::de::IgnoredAny>(&schema, &sample).unwrap();
        }
    }

    #[test]
    fn samples_of_records_that_double_with_each_other_end() {
        let double = |number| match number {
            0 => r#"{"type": "record", "name": "R0", "fields": []}"#.to_owned(),
            number => format!(
                r#"{{"type": "record", "name": "R{number}", "fields": [
                    {{"name": "a", "type": ["null", "R{0}"]}}, {{"name": "b", "type": ["R{0}", "null"]}}]}}"#,
                number - 1
            ),
        };
        let schema: Vec<_> = (0..40).map(double).collect();
        let samples = samples(&self::schema(&format!("[{}]", schema.join(","))));
        assert!(samples.iter().all(|sample| sample.len() <= TOO_LONG + 1));
    }

    #[test]
    fn a_type_that_fits_is_passed_whatever_it_thinks_of_values() {
        #[derive(Deserialize)]
        #[serde(rename_all = "UPPERCASE")]
        enum Kind {
            New,
            Used,
            Lent,
        }
        #[derive(Deserialize)]
        #[expect(dead_code)]
        struct Line {
            kind: Kind,
            part_of: Option<Box<Line>>,
        }
        #[derive(Deserialize)]
        #[expect(dead_code)]
        struct Order {
            id: String,
            note: Option<Picky>,
            lines: Vec<Line>,
            labels: HashMap<String, i64>,
            #[serde(default)]
            gone: i32,
        }
        #[derive(Deserialize)]
        #[serde(try_from = "String")]
        #[expect(dead_code)]
        struct Picky(String);
        impl TryFrom<String> for Picky {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                if text.is_empty() { Err("there is nothing in it") } else { Ok(Self(text)) }
            }
        }
        assert_eq!(problem::<Order>(), None);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        #[derive(Deserialize)]
        #[expect(dead_code)]
        struct Lacking {
            total: i64,
        }
        let expected = "missing field `total`, which those records do not have (`#[serde(default)]` would stand in for it)";
        assert_eq!(problem::<Lacking>().as_deref(), Some(expected));
        #[derive(Deserialize)]
        #[expect(dead_code)]
        struct Other {
            id: i64,
        }
        assert_eq!(problem::<Other>().as_deref(), Some("it is not i64, at `id`"));
        #[derive(Deserialize)]
        #[expect(dead_code)]
        struct NeverNull {
            note: String,
        }
        assert_eq!(problem::<NeverNull>().as_deref(), Some("it is not a string, at `note`"));
        #[derive(Deserialize)]
        enum Known {
            #[serde(rename = "NEW")]
            New,
            #[serde(rename = "USED")]
            Used,
        }
        #[derive(Deserialize)]
        #[expect(dead_code)]
        struct Line {
            kind: Known,
        }
        #[derive(Deserialize)]
        #[expect(dead_code)]
        struct Lines {
            lines: Vec<Line>,
        }
        let problem = problem::<Lines>().unwrap();
        assert!(problem.contains("`NEW` or `USED`") && problem.contains("lines[0].kind"), "{problem}");
    }
}

//! Data that a schema's writers may write, to try a handler's type on.

use super::avro::{self, Fault};
use crate::error::panic::without_panic;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;

/// Whether a type reads all that a schema's writers may write, as far as its shape goes: what
/// it makes of a value is its own affair.
pub(crate) fn reads<'a, T: Deserialize<'a>>(schema: &serde_avro_fast::Schema) -> Result<(), String> {
    for sample in samples(schema.json()) {
        // A few bytes a version, once: the type may borrow for as long as it likes.
        let sample: &'a [u8] = sample.leak();
        match without_panic("a type's `Deserialize`", || avro::decode::<T>(schema, sample).map(drop)) {
            Ok(Err(fault)) if fault.is_of_shape() => return Err(explained(&fault)),
            _ => {}
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

/// Each branch of each union and each symbol of each enum stands in one of them.
pub(super) fn samples(schema: &str) -> Vec<Vec<u8>> {
    const MOST: usize = 32;
    let Ok(schema) = serde_json::from_str(schema) else { return Vec::new() };
    let mut named = HashMap::new();
    let mut choices = 1;
    collect(&schema, "", &mut named, &mut choices);
    let sample = |turn| {
        let mut writer = Writer { named: &named, turn, bytes: Vec::new() };
        writer.write(&schema, "", 0).map(|()| writer.bytes)
    };
    (0..choices.min(MOST)).filter_map(sample).collect()
}

/// Finds the named types, and the most choices that one place has.
fn collect<'s>(
    schema: &'s Value,
    namespace: &str,
    named: &mut HashMap<String, (&'s Value, String)>,
    choices: &mut usize,
) {
    match schema {
        Value::Array(branches) => {
            *choices = (*choices).max(branches.len());
            branches.iter().for_each(|branch| collect(branch, namespace, named, choices));
        }
        Value::Object(fields) => {
            let namespace = avro::namespace_of(fields, namespace);
            if let Some(name) = fields.get("name").and_then(Value::as_str) {
                named.insert(avro::full_name(name, &namespace), (schema, namespace.clone()));
            }
            let symbols = fields.get("symbols").and_then(Value::as_array).map_or(0, Vec::len);
            *choices = (*choices).max(symbols);
            let members = fields.get("fields").and_then(Value::as_array).into_iter().flatten();
            let inner = members.filter_map(|field| field.get("type"));
            let inner =
                inner.chain(["items", "values", "type"].into_iter().filter_map(|name| fields.get(name)));
            inner.for_each(|inner| collect(inner, &namespace, named, choices));
        }
        _ => {}
    }
}

/// Writes one value, with the choices whose turn it is.
struct Writer<'s> {
    named: &'s HashMap<String, (&'s Value, String)>,
    turn: usize,
    bytes: Vec<u8>,
}

/// From here on lists are empty and the simplest branch is taken.
const DEEP: usize = 6;
const TOO_DEEP: usize = 60;
/// A longer sample is not made up.
const TOO_LONG: usize = 1 << 16;

impl Writer<'_> {
    /// `None` for what it cannot make up.
    fn write(&mut self, schema: &Value, namespace: &str, depth: usize) -> Option<()> {
        if depth > TOO_DEEP || self.bytes.len() > TOO_LONG {
            return None;
        }
        match schema {
            Value::String(name) => self.write_name(name, namespace, depth),
            Value::Array(branches) => {
                let simplest =
                    branches.iter().position(|branch| branch.is_string() && !self.is_named(branch));
                let chosen =
                    if depth > DEEP { simplest.unwrap_or(0) } else { self.turn % branches.len().max(1) };
                self.number(chosen);
                self.write(branches.get(chosen)?, namespace, depth + 1)
            }
            Value::Object(fields) => {
                let namespace = avro::namespace_of(fields, namespace);
                match fields.get("logicalType").and_then(Value::as_str) {
                    Some("uuid") if fields.get("type")? == "string" => {
                        self.text("00000000-0000-0000-0000-000000000000");
                        return Some(());
                    }
                    Some("decimal") if fields.get("type")? == "bytes" => {
                        self.bytes.extend([2, 0]);
                        return Some(());
                    }
                    Some("big-decimal") => return None,
                    _ => {}
                }
                match fields.get("type")? {
                    Value::String(kind) => match &**kind {
                        "record" | "error" => {
                            let members = fields.get("fields")?.as_array()?;
                            members
                                .iter()
                                .try_for_each(|field| self.write(field.get("type")?, &namespace, depth + 1))
                        }
                        "enum" => {
                            let symbols = fields.get("symbols")?.as_array()?.len().max(1);
                            self.number(self.turn % symbols);
                            Some(())
                        }
                        "fixed" => {
                            let size = usize::try_from(fields.get("size")?.as_u64()?).ok()?;
                            self.bytes.resize(self.bytes.len() + size.min(TOO_LONG), 0);
                            Some(())
                        }
                        "array" | "map" => self.write_list(fields, kind == "map", &namespace, depth),
                        name => self.write_name(name, &namespace, depth),
                    },
                    inner => self.write(inner, &namespace, depth + 1),
                }
            }
            _ => None,
        }
    }

    fn write_list(
        &mut self,
        fields: &serde_json::Map<String, Value>,
        is_map: bool,
        namespace: &str,
        depth: usize,
    ) -> Option<()> {
        if depth <= DEEP {
            self.number(1);
            if is_map {
                self.text("key");
            }
            self.write(fields.get(if is_map { "values" } else { "items" })?, namespace, depth + 1)?;
        }
        self.number(0);
        Some(())
    }

    fn write_name(&mut self, name: &str, namespace: &str, depth: usize) -> Option<()> {
        match name {
            "null" => {}
            "boolean" | "int" | "long" | "bytes" | "string" => self.number(0),
            "float" => self.bytes.extend([0; 4]),
            "double" => self.bytes.extend([0; 8]),
            name => {
                let named = self.named;
                let found = [avro::full_name(name, namespace), name.to_owned()];
                let (schema, namespace) = found.iter().find_map(|name| named.get(name))?;
                self.write(schema, namespace, depth + 1)?;
            }
        }
        Some(())
    }

    fn is_named(&self, branch: &Value) -> bool {
        const SIMPLE: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
        branch.as_str().is_some_and(|name| !SIMPLE.contains(&name))
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
    use std::collections::HashMap;

    const ORDER: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 200}},
        {"name": "note", "type": ["null", "string"]},
        {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["NEW", "USED", "LENT"]}},
            {"name": "part_of", "type": ["null", "Line"]}, {"name": "hash", "type": "Hash"}]}}},
        {"name": "labels", "type": {"type": "map", "values": "long"}}]}"#;

    fn problem<T: Deserialize<'static>>() -> Option<String> {
        reads::<T>(&ORDER.parse().unwrap()).err()
    }

    #[test]
    fn samples_are_what_the_schema_says_and_hold_every_choice() {
        let schema: serde_avro_fast::Schema = ORDER.parse().unwrap();
        let samples = samples(schema.json());
        assert_eq!(samples.len(), 3);
        for sample in samples {
            avro::decode::<serde::de::IgnoredAny>(&schema, &sample).unwrap();
        }
    }

    #[test]
    fn samples_of_records_that_double_with_each_other_end() {
        let double = |number| match number {
            0 => r#"{"type": "record", "name": "R0", "fields": []}"#.to_owned(),
            number => format!(
                r#"{{"type": "record", "name": "R{number}", "fields": [
                    {{"name": "a", "type": ["R{0}", "R0"]}}, {{"name": "b", "type": ["R{0}", "R0"]}}]}}"#,
                number - 1
            ),
        };
        let schema: Vec<_> = (0..40).map(double).rev().collect();
        let samples = samples(&format!("[{}]", schema.join(",")));
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
        struct Order<'a> {
            id: &'a str,
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
        assert_eq!(problem::<Order<'static>>(), None);
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

//! What an Avro schema can make of little: found out before anything works by it.
//!
//! A record of two records of two records doubles with each, and who walks from type to type may
//! go deeper than the stack. (A list of nulls is as long as it says, in no bytes: `avro/walk.rs`
//! counts those.)

use super::avro::DEEPEST;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Refuses a schema by which few bytes become much memory, or take for ever.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    let mut types = Types::default();
    types.add(schema, "");
    let Some(kinds) = types.resolved() else { return Ok(()) };
    let mut least = vec![None; kinds.len()];
    for place in 0..kinds.len() {
        least_of(place, &kinds, &mut least, 0)?;
    }
    check_depth(&kinds)
}

/// What makes up a type: others, by their places.
enum Kind {
    /// So many bytes, at least.
    Simple(usize),
    Record(Vec<usize>),
    Union(Vec<usize>),
    Array(Vec<usize>),
    Map(Vec<usize>),
    /// A type of this name, defined anywhere.
    Named(String),
}

/// All types of a schema, the whole one first.
#[derive(Default)]
struct Types {
    kinds: Vec<Kind>,
    named: HashMap<String, usize>,
}

impl Types {
    fn add(&mut self, schema: &Value, namespace: &str) -> usize {
        let place = self.kinds.len();
        self.kinds.push(Kind::Simple(0));
        self.kinds[place] = match schema {
            Value::String(name) => simple(name).unwrap_or_else(|| Kind::Named(full_name(name, namespace))),
            Value::Array(branches) => {
                Kind::Union(branches.iter().map(|branch| self.add(branch, namespace)).collect())
            }
            Value::Object(fields) => self.kind(fields, namespace, place),
            _ => Kind::Simple(0),
        };
        place
    }

    fn kind(&mut self, fields: &Map<String, Value>, namespace: &str, place: usize) -> Kind {
        let text = |field| fields.get(field).and_then(Value::as_str);
        let mut own = namespace;
        if let Some(name) = text("name") {
            own = name.rsplit_once('.').map_or(text("namespace").unwrap_or(namespace), |(own, _)| own);
            self.named.insert(full_name(name, own), place);
        }
        let mut inner =
            |field| fields.get(field).map(|inner| self.add(inner, namespace)).into_iter().collect();
        match text("type").unwrap_or_default() {
            "array" => Kind::Array(inner("items")),
            "map" => Kind::Map(inner("values")),
            "record" => {
                let members = fields.get("fields").and_then(Value::as_array).into_iter().flatten();
                let members = members.filter_map(|member| member.get("type"));
                Kind::Record(members.map(|member| self.add(member, own)).collect())
            }
            "enum" => Kind::Simple(1),
            "fixed" => {
                let size = fields.get("size").and_then(Value::as_u64).unwrap_or_default();
                Kind::Simple(size.try_into().unwrap_or(usize::MAX))
            }
            name => simple(name).unwrap_or_else(|| Kind::Named(full_name(name, own))),
        }
    }

    /// All types with the places of those that are named; `None` where one is not there, which
    /// who parses it says better.
    fn resolved(self) -> Option<Vec<Kind>> {
        let place = |place: &usize| match &self.kinds[*place] {
            Kind::Named(name) => self.named.get(name).copied(),
            _ => Some(*place),
        };
        let places = |inner: &[usize]| inner.iter().map(place).collect::<Option<_>>();
        let resolved = self.kinds.iter().map(|kind| {
            Some(match kind {
                Kind::Simple(bytes) => Kind::Simple(*bytes),
                Kind::Record(inner) => Kind::Record(places(inner)?),
                Kind::Union(inner) => Kind::Union(places(inner)?),
                Kind::Array(inner) => Kind::Array(places(inner)?),
                Kind::Map(inner) => Kind::Map(places(inner)?),
                // Nobody leads here any more.
                Kind::Named(_) => Kind::Simple(0),
            })
        });
        resolved.collect()
    }
}

fn simple(name: &str) -> Option<Kind> {
    Some(Kind::Simple(match name {
        "null" => 0,
        "boolean" | "int" | "long" | "bytes" | "string" => 1,
        "float" => 4,
        "double" => 8,
        _ => return None,
    }))
}

fn full_name(name: &str, namespace: &str) -> String {
    let (namespace, name) = name.rsplit_once('.').unwrap_or((namespace, name));
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// What a value has at least, not counting what is inside of unions and lists: those cost
/// bytes of their own.
#[derive(Clone, Copy)]
struct Least {
    bytes: usize,
    parts: usize,
    /// Records in records.
    depth: usize,
}

/// Nobody's records have as many fields.
const MOST_PARTS: usize = 10_000;
/// So many parts of a value may come of one byte.
const MOST_PARTS_A_BYTE: usize = 64;

fn least_of(
    place: usize,
    kinds: &[Kind],
    known: &mut [Option<Least>],
    depth: usize,
) -> Result<Least, String> {
    if let Some(least) = known[place] {
        return Ok(least);
    }
    let mut least = Least { bytes: 1, parts: 1, depth: 0 };
    match &kinds[place] {
        Kind::Simple(bytes) => least.bytes = *bytes,
        // It may be in itself, always.
        Kind::Record(fields) if depth <= DEEPEST => {
            least.bytes = 0;
            for field in fields {
                let field = least_of(*field, kinds, known, depth + 1)?;
                least.bytes = least.bytes.saturating_add(field.bytes);
                least.parts = least.parts.saturating_add(field.parts);
                least.depth = least.depth.max(field.depth + 1);
            }
        }
        Kind::Record(_) => least.depth = DEEPEST + 1,
        _ => {}
    }
    if least.depth > DEEPEST {
        return Err(format!("its records are nested more than {DEEPEST} deep"));
    }
    if least.parts > MOST_PARTS.min(MOST_PARTS_A_BYTE.saturating_mul(least.bytes.saturating_add(1))) {
        return Err("one of its records has too many parts for its bytes".to_owned());
    }
    known[place] = Some(least);
    Ok(least)
}

/// Who parses a schema goes so far from type to type; more would end on the stack.
const DEEPEST_WALK: usize = 1000;

fn check_depth(kinds: &[Kind]) -> Result<(), String> {
    let mut seen = vec![false; kinds.len()];
    let mut left = vec![(0, 0)];
    while let Some((place, depth)) = left.pop() {
        if std::mem::replace(&mut seen[place], true) {
            continue;
        }
        if depth > DEEPEST_WALK {
            return Err(format!("its types lead from one to the next more than {DEEPEST_WALK} times"));
        }
        if let Kind::Record(inner) | Kind::Union(inner) | Kind::Array(inner) | Kind::Map(inner) =
            &kinds[place]
        {
            left.extend(inner.iter().rev().map(|inner| (*inner, depth + 1)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::avro::parse;
    use super::super::references::Referenced;

    fn problem(schema: &str) -> String {
        parse(schema, &Referenced::default()).map(drop).unwrap_err()
    }

    #[test]
    fn records_that_double_with_each_other_are_refused() {
        let twice = |number| {
            let inner = if number == 0 { "int".to_owned() } else { format!("R{}", number - 1) };
            format!(
                r#"{{"type": "record", "name": "R{number}", "fields": [
                    {{"name": "a", "type": "{inner}"}}, {{"name": "b", "type": "{inner}"}}]}}"#
            )
        };
        let all = |count| format!("[{}]", (0..count).map(twice).collect::<Vec<_>>().join(","));
        assert!(parse(&all(10), &Referenced::default()).is_ok());
        assert!(problem(&all(60)).contains("too many parts"));
        let nulls = all(10).replace("\"int\"", "\"null\"");
        assert!(problem(&nulls).contains("too many parts"));
    }

    #[test]
    fn a_long_way_from_type_to_type_ends_before_the_stack_does() {
        let chain = |count, optional: bool| {
            let one = |number| {
                let next = match number + 1 == count {
                    true => "\"int\"".to_owned(),
                    false if optional => format!(r#"["null", "R{}"]"#, number + 1),
                    false => format!(r#""R{}""#, number + 1),
                };
                format!(
                    r#"{{"type": "record", "name": "R{number}", "fields": [{{"name": "next", "type": {next}}}]}}"#
                )
            };
            format!("[{}]", (0..count).map(one).collect::<Vec<_>>().join(","))
        };
        let backwards = |chain: String| {
            let lines = chain[1..chain.len() - 1].replace("]},{", "]}\n{");
            format!("[{}]", lines.lines().rev().collect::<Vec<_>>().join(","))
        };
        assert!(parse(&backwards(chain(60, false)), &Referenced::default()).is_ok());
        assert!(problem(&backwards(chain(20_000, false))).contains("nested more than 64 deep"));
        assert!(parse(&backwards(chain(490, true)), &Referenced::default()).is_ok());
        // What is used before it is defined stands where it is used.
        assert!(parse(&chain(30, true), &Referenced::default()).is_ok());
        for optional in [true, false] {
            assert!(problem(&chain(20_000, optional)).contains("from one to the next"));
        }
        let itself = r#"{"type": "record", "name": "T", "fields": [{"name": "t", "type": "T"}]}"#;
        assert!(problem(itself).contains("nested more than 64 deep"));
    }

    #[test]
    fn lists_of_nothing_are_as_long_as_a_thousand_items() {
        use super::super::avro::decode;
        use serde::de::IgnoredAny;
        let empty = r#"{"type": "record", "name": "Empty", "fields": []}"#;
        let list = |items| format!(r#"{{"type": "array", "items": {items}}}"#);
        for nothing in ["\"null\"", empty, r#"{"type": "fixed", "name": "F", "size": 0}"#] {
            let schema = parse(&list(nothing), &Referenced::default()).unwrap();
            // 1000 items and the end; one more; a thousand twice; 2^62.
            assert!(decode::<IgnoredAny>(&schema, &[0xd0, 0x0f, 0]).is_ok(), "{nothing}");
            for many in [
                &[0xd2, 0x0f, 0][..],
                &[0xd0, 0x0f, 2, 0],
                &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 0],
            ] {
                let fault = decode::<IgnoredAny>(&schema, many).unwrap_err().to_string();
                assert!(fault.contains("take no room"), "{nothing}: {fault}");
            }
        }
        let nulls = parse(&list(r#"["null"]"#), &Referenced::default()).unwrap();
        let fault = decode::<IgnoredAny>(&nulls, &[0xd2, 0x0f, 0]).unwrap_err().to_string();
        assert!(fault.contains("longer than its bytes allow"), "{fault}");
    }

    #[test]
    fn a_name_means_what_it_means_to_who_decodes() {
        // The list has no namespace of its own, whatever it says: `Wide` is that of the record.
        let nulls: Vec<_> =
            (0..100).map(|number| format!(r#"{{"name": "n{number}", "type": "null"}}"#)).collect();
        let schema = format!(
            r#"[{{"type": "record", "name": "x.Wide", "fields": []}},
                {{"type": "array", "namespace": "x", "items": "Wide"}},
                {{"type": "record", "name": "Wide", "fields": [{}]}}]"#,
            nulls.join(",")
        );
        assert!(problem(&schema).contains("too many parts"));
    }
}

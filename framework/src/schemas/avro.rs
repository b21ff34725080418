//! Avro's binary encoding, straight into a serde type, by the schema that it was written with.
//!
//! What Avro calls resolution is serde's here: a field is found by its name or `alias`, one
//! that the writer did not have takes its `default`, and numbers widen as they fit.

use super::references::Referenced;
use super::weight;
use serde::Deserialize;
use serde_avro_fast::Schema;
use serde_avro_fast::de::read::SliceRead;
use serde_avro_fast::de::{DeserializerConfig, DeserializerState};
use serde_json::Value;
use std::collections::HashSet;
use std::fmt;
use std::io::Read;

/// Where a datum does not fit, in words without a value of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{what}{place}")]
pub(crate) struct Fault {
    what: String,
    place: Place,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A field, type or name that the one has and the other lacks.
    Shape,
    /// The bytes, or what the type makes of a value.
    Value,
}

impl Fault {
    fn new(what: impl Into<String>, place: Place, kind: Kind) -> Self {
        Self { what: what.into(), place, kind }
    }

    /// Whether schema and type do not fit, whatever the values.
    pub(crate) fn is_of_shape(&self) -> bool {
        self.kind == Kind::Shape
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Place(Option<String>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(path) => write!(f, ", at `{path}`"),
            None => Ok(()),
        }
    }
}

/// Deeper data is not decoded: it would end on the stack.
pub(super) const DEEPEST: usize = 64;

/// Decodes a datum that was written with `schema`.
#[inline]
pub(crate) fn decode<'de, T: Deserialize<'de>>(schema: &Schema, datum: &'de [u8]) -> Result<T, Fault> {
    let mut state = state(schema, datum);
    match T::deserialize(state.deserializer()) {
        Ok(value) if is_at_end(state) => Ok(value),
        Ok(_) => Err(Fault::new("there are bytes behind its end", Place(None), Kind::Value)),
        Err(_) => Err(fault::<T>(schema, datum)),
    }
}

fn state<'s, 'de>(schema: &'s Schema, datum: &'de [u8]) -> DeserializerState<'s, SliceRead<'de>> {
    let mut config = DeserializerConfig::new(schema);
    config.allowed_depth = DEEPEST;
    // Each item takes a byte or more: `weight::check`.
    config.max_seq_size = datum.len();
    DeserializerState::with_config(SliceRead::new(datum), config)
}

fn is_at_end(state: DeserializerState<'_, SliceRead<'_>>) -> bool {
    state.into_reader().read(&mut [0]).is_ok_and(|read| read == 0)
}

/// Decodes once more what does not decode, to say where.
#[cold]
fn fault<'de, T: Deserialize<'de>>(schema: &Schema, datum: &'de [u8]) -> Fault {
    let mut state = state(schema, datum);
    match serde_path_to_error::deserialize::<_, T>(state.deserializer()) {
        Ok(_) => Fault::new("it decodes now, and did not before", Place(None), Kind::Value),
        Err(error) => {
            let (what, kind) = without_values(&error.inner().to_string());
            Fault::new(what, place(error.path(), schema), kind)
        }
    }
}

/// The parts of serde's and the decoder's texts that hold nothing of the record.
fn without_values(text: &str) -> (String, Kind) {
    if text.starts_with("missing field `") || text.starts_with("duplicate field `") {
        return (text.to_owned(), Kind::Shape);
    }
    if let Some((found, expected)) = text.rsplit_once(", expected ") {
        let is_of_shape = ["invalid type", "unknown"].iter().any(|start| found.starts_with(start));
        let kind = if is_of_shape { Kind::Shape } else { Kind::Value };
        return (format!("it is not {expected}"), kind);
    }
    let what = if text.starts_with("Unexpected end of slice") || text.contains("Reached EOF") {
        "its bytes end too early".to_owned()
    } else if text.contains("max sequence size") {
        "it has a list that is longer than its bytes allow".to_owned()
    } else if text.contains("recursivity limit") {
        format!("it is nested more than {DEEPEST} deep")
    } else {
        "its bytes are not what the schema says".to_owned()
    };
    (what, Kind::Value)
}

/// A path of field names and indices. The keys of a map are data and stay out.
fn place(path: &serde_path_to_error::Path, schema: &Schema) -> Place {
    use serde_path_to_error::Segment;
    let mut text = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => text += &format!("[{index}]"),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                let is_of_schema = schema.json().contains(&format!("\"{key}\""));
                text += if text.is_empty() { "" } else { "." };
                text += if is_of_schema { key } else { "*" };
            }
            Segment::Unknown => {}
        }
    }
    Place(Some(text).filter(|text| !text.is_empty()))
}

/// Makes of a schema's text, with those that it refers to, what decodes.
pub(crate) fn parse(text: &str, referenced: &Referenced) -> Result<Schema, String> {
    let unusable = |error: &dyn fmt::Display| format!("its Avro schema cannot be used: {error}");
    let mut schema = serde_json::from_str(text).map_err(|error| unusable(&error))?;
    if !referenced.is_empty() {
        let mut inliner = Inliner { referenced, defined: HashSet::new() };
        inliner.inline(&mut schema, "", 0).map_err(|error| unusable(&error))?;
    }
    weight::check(&schema).map_err(|error| unusable(&error))?;
    let whole = if referenced.is_empty() { text } else { &schema.to_string() };
    whole.parse().map_err(|error: serde_avro_fast::schema::SchemaError| unusable(&error))
}

/// Puts each schema that is referred to where it is first used. Avro has no other way to
/// define a name in the text that uses it.
struct Inliner<'r> {
    referenced: &'r Referenced,
    defined: HashSet<String>,
}

/// As deep as a JSON text may be.
const DEEPEST_SCHEMA: usize = 120;

impl Inliner<'_> {
    fn inline(&mut self, schema: &mut Value, namespace: &str, depth: usize) -> Result<(), String> {
        if depth > DEEPEST_SCHEMA {
            return Err(format!("it is nested more than {DEEPEST_SCHEMA} deep"));
        }
        match schema {
            Value::String(name) => {
                let full = full_name(name, namespace);
                let found =
                    [&*full, name].into_iter().find_map(|name| Some((name, self.referenced.get(name)?)));
                let Some((name, text)) = found.filter(|_| !self.defined.contains(&full)) else {
                    return Ok(());
                };
                // Once, whatever it defines.
                if !self.defined.insert(name.to_owned()) {
                    return Ok(());
                }
                let mut definition = serde_json::from_str(text).map_err(|error| error.to_string())?;
                self.inline(&mut definition, "", depth + 1)?;
                // It must not be named by the text around it.
                if let Value::Object(fields) = &mut definition
                    && !fields.contains_key("namespace")
                {
                    fields.insert("namespace".into(), Value::String(String::new()));
                }
                *schema = definition;
                Ok(())
            }
            Value::Array(variants) => {
                variants.iter_mut().try_for_each(|variant| self.inline(variant, namespace, depth + 1))
            }
            Value::Object(fields) => {
                let namespace = namespace_of(fields, namespace);
                if let Some(name) = fields.get("name").and_then(Value::as_str) {
                    self.defined.insert(full_name(name, &namespace));
                }
                if let Some(Value::Array(members)) = fields.get_mut("fields") {
                    let mut types = members.iter_mut().filter_map(|field| field.get_mut("type"));
                    types.try_for_each(|kind| self.inline(kind, &namespace, depth + 1))?;
                }
                for inner in ["items", "values", "type"] {
                    if let Some(inner) = fields.get_mut(inner) {
                        self.inline(inner, &namespace, depth + 1)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The namespace of a type's own names.
pub(super) fn namespace_of(fields: &serde_json::Map<String, Value>, around: &str) -> String {
    let text = |field| fields.get(field).and_then(Value::as_str);
    match (text("name").and_then(|name| name.rsplit_once('.')), text("namespace")) {
        (Some((namespace, _)), _) | (None, Some(namespace)) => namespace.to_owned(),
        (None, None) => around.to_owned(),
    }
}

pub(super) fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn schema(text: &str) -> Schema {
        parse(text, &Referenced::default()).unwrap()
    }

    const ORDER: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
        {"name": "id", "type": "string"},
        {"name": "count", "type": "int"},
        {"name": "price", "type": "float"},
        {"name": "note", "type": ["null", "string"]},
        {"name": "lines", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
            {"name": "article", "type": "string"}, {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["NEW", "USED"]}}]}}},
        {"name": "labels", "type": {"type": "map", "values": "long"}}
    ]}"#;

    /// id "o1", count 3, price 1.5, note "n", one line ("a", USED), labels {"x": 7}
    const DATUM: &[u8] =
        &[4, b'o', b'1', 6, 0, 0, 0xc0, 0x3f, 2, 2, b'n', 2, 2, b'a', 2, 0, 2, 2, b'x', 14, 0];

    #[derive(Debug, Deserialize, PartialEq)]
    struct Renamed<'a> {
        #[serde(borrow)]
        id: &'a str,
        count: i64,
        price: f64,
        note: Option<String>,
        lines: Vec<Line>,
        labels: HashMap<String, i64>,
        #[serde(default)]
        added: Option<bool>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Line {
        #[serde(alias = "article")]
        product: String,
        kind: Kind,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "UPPERCASE")]
    enum Kind {
        New,
        Used,
    }

    #[test]
    fn a_datum_resolves_onto_the_type_by_names_aliases_defaults_and_wider_numbers() {
        let order: Renamed<'_> = decode(&schema(ORDER), DATUM).unwrap();
        let line = Line { product: "a".into(), kind: Kind::Used };
        let labels = HashMap::from([("x".to_owned(), 7)]);
        let note = Some("n".to_owned());
        assert_eq!(
            order,
            Renamed { id: "o1", count: 3, price: 1.5, note, lines: vec![line], labels, added: None }
        );
    }

    fn fault_of<T: for<'de> Deserialize<'de> + fmt::Debug>(datum: &[u8]) -> String {
        decode::<T>(&schema(ORDER), datum).unwrap_err().to_string()
    }

    #[test]
    fn a_fault_is_told_with_its_place_and_without_a_value() {
        #[derive(Debug, Deserialize)]
        #[expect(dead_code)]
        struct Wants<I, L> {
            id: I,
            lines: Vec<LineOf<L>>,
        }
        #[derive(Debug, Deserialize)]
        #[expect(dead_code)]
        struct LineOf<K> {
            article: K,
        }
        assert_eq!(fault_of::<Wants<u8, String>>(DATUM), "it is not u8, at `id`");
        assert_eq!(fault_of::<Wants<String, bool>>(DATUM), "it is not a boolean, at `lines[0].article`");
        #[derive(Debug, Deserialize)]
        #[expect(dead_code)]
        struct Labels {
            labels: HashMap<String, bool>,
        }
        assert_eq!(fault_of::<Labels>(DATUM), "it is not a boolean, at `labels.*`");
        #[derive(Debug, Deserialize)]
        #[expect(dead_code)]
        struct Missing {
            gone: i32,
        }
        assert_eq!(fault_of::<Missing>(DATUM), "missing field `gone`");
    }

    #[test]
    fn bytes_that_are_cut_or_too_many_are_faults_at_every_length() {
        for end in 0..DATUM.len() {
            assert!(decode::<Renamed<'_>>(&schema(ORDER), &DATUM[..end]).is_err(), "{end}");
        }
        let longer = [DATUM, &[0]].concat();
        let fault = decode::<Renamed<'_>>(&schema(ORDER), &longer).unwrap_err().to_string();
        assert_eq!(fault, "there are bytes behind its end");
    }

    #[test]
    fn a_length_that_lies_allocates_nothing_and_deep_data_ends() {
        let long: &[u8] = &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(decode::<String>(&schema("\"string\""), long).is_err());
        let list = schema(r#"{"type": "array", "items": "boolean"}"#);
        let fault = decode::<Vec<bool>>(&list, long).unwrap_err().to_string();
        assert_eq!(fault, "it has a list that is longer than its bytes allow");
        let list = schema(
            r#"{"type": "record", "name": "List", "fields": [{"name": "next", "type": ["null", "List"]}]}"#,
        );
        #[derive(Debug, Deserialize)]
        #[expect(dead_code)]
        struct List {
            next: Option<Box<List>>,
        }
        let deep = [vec![2; 100_000], vec![0]].concat();
        let fault = decode::<List>(&list, &deep).unwrap_err().to_string();
        assert!(fault.starts_with("it is nested more than 64 deep"), "{fault}");
    }

    /// All kinds of schemas, inside each other.
    const ALL: &str = r#"{"type": "record", "name": "All", "fields": [
        {"name": "n", "type": "null"}, {"name": "b", "type": "boolean"}, {"name": "i", "type": "int"},
        {"name": "l", "type": "long"}, {"name": "f", "type": "float"}, {"name": "d", "type": "double"},
        {"name": "by", "type": "bytes"}, {"name": "s", "type": "string"},
        {"name": "fi", "type": {"type": "fixed", "name": "Four", "size": 4}},
        {"name": "e", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
        {"name": "a", "type": {"type": "array", "items": {"type": "map", "values": ["null", "long", "All"]}}},
        {"name": "de", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "u", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "t", "type": {"type": "long", "logicalType": "timestamp-micros"}}]}"#;

    /// How many values there are in a value.
    struct Parts(usize);

    impl<'de> Deserialize<'de> for Parts {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Counting)
        }
    }

    struct Counting;

    impl<'de> serde::de::Visitor<'de> for Counting {
        type Value = Parts;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }

        fn visit_unit<E>(self) -> Result<Parts, E> {
            Ok(Parts(1))
        }

        fn visit_bool<E>(self, _: bool) -> Result<Parts, E> {
            Ok(Parts(1))
        }

        fn visit_i64<E>(self, _: i64) -> Result<Parts, E> {
            Ok(Parts(1))
        }

        fn visit_f64<E>(self, _: f64) -> Result<Parts, E> {
            Ok(Parts(1))
        }

        fn visit_str<E>(self, _: &str) -> Result<Parts, E> {
            Ok(Parts(1))
        }

        fn visit_bytes<E>(self, _: &[u8]) -> Result<Parts, E> {
            Ok(Parts(1))
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Parts, A::Error> {
            let mut parts = 1;
            while let Some(item) = items.next_element::<Parts>()? {
                parts += item.0;
            }
            Ok(Parts(parts))
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<Parts, A::Error> {
            let mut parts = 1;
            while let Some((_, value)) = entries.next_entry::<String, Parts>()? {
                parts += value.0;
            }
            Ok(Parts(parts))
        }
    }

    /// n, b, i.. as above, with one map in the list, of one entry that is such a record again.
    fn whole(depth: usize) -> Vec<u8> {
        let mut datum = vec![1, 6, 8, 0, 0, 0xc0, 0x3f, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 4, 1, 2, 4, b'h', b'i'];
        datum.extend([9, 9, 9, 9, 2]);
        match depth {
            0 => datum.push(0),
            _ => {
                datum.extend([2, 2, 2, b'k', 4]);
                datum.extend(whole(depth - 1));
                datum.extend([0, 0]);
            }
        }
        datum.extend([4, 0x30, 0x39, 2, b'u', 8]);
        datum
    }

    #[test]
    fn whatever_bytes_come_decoding_ends_without_a_panic() {
        use serde::de::IgnoredAny;
        let schemas =
            [ALL, ORDER, r#"{"type": "array", "items": {"type": "array", "items": "int"}}"#].map(schema);
        // 14 fields and the record itself; around each inner one a map, and the list.
        assert_eq!(decode::<Parts>(&schemas[0], &whole(2)).unwrap().0, 3 * 15 + 2);
        let mut random = fastrand::Rng::with_seed(6);
        for round in 0..10_000 {
            let mut datum = match round % 4 {
                0 => (0..random.usize(..64)).map(|_| random.u8(..)).collect(),
                1 => DATUM.to_vec(),
                _ => whole(random.usize(..6)),
            };
            for _ in 0..random.usize(..4) {
                if datum.is_empty() {
                    break;
                }
                let place = random.usize(..datum.len());
                match random.u8(..4) {
                    0 => datum[place] = random.u8(..),
                    1 => datum.truncate(place),
                    // A length that lies.
                    2 => drop(datum.splice(place..place, [0xff, 0xff, 0xff, 0xff, random.u8(..128)])),
                    _ => datum.extend_from_within(place..),
                }
            }
            for schema in &schemas {
                // What it decodes to does not matter.
                let _ = (decode::<Parts>(schema, &datum), decode::<IgnoredAny>(schema, &datum));
                let _ = decode::<Renamed<'_>>(schema, &datum);
            }
        }
    }

    #[test]
    fn what_a_schema_refers_to_is_put_where_it_is_first_used() {
        let mut referenced = Referenced::default();
        let money = r#"{"type": "record", "name": "Money", "namespace": "lib", "fields": [
            {"name": "cents", "type": "long"}, {"name": "unit", "type": "Unit"}]}"#;
        let unit = r#"{"type": "enum", "name": "Unit", "namespace": "lib", "symbols": ["EUR", "USD"]}"#;
        referenced.add("lib.Money".into(), "money".into(), 1, money.into());
        referenced.add("lib.Unit".into(), "unit".into(), 1, unit.into());
        let order = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
            {"name": "price", "type": "lib.Money"}, {"name": "tax", "type": ["null", "lib.Money"]},
            {"name": "in", "type": "lib.Unit"}]}"#;
        #[derive(Debug, Deserialize, PartialEq)]
        struct Money {
            cents: i64,
            unit: String,
        }
        #[derive(Debug, Deserialize, PartialEq)]
        struct Order {
            price: Money,
            tax: Option<Money>,
            r#in: String,
        }
        let schema = parse(order, &referenced).unwrap();
        let money = |cents, unit: &str| Money { cents, unit: unit.into() };
        assert_eq!(
            decode::<Order>(&schema, &[20, 0, 2, 4, 2, 2]).unwrap(),
            Order { price: money(10, "EUR"), tax: Some(money(2, "USD")), r#in: "USD".into() }
        );
    }

    #[test]
    fn references_in_a_circle_end() {
        let mut referenced = Referenced::default();
        let one = |name: &str, other: &str| {
            format!(
                r#"{{"type": "record", "name": "{name}", "fields": [{{"name": "f", "type": ["null", "{other}"]}}]}}"#
            )
        };
        referenced.add("A".into(), "a".into(), 1, one("A", "B"));
        referenced.add("B".into(), "b".into(), 1, one("B", "A"));
        assert!(parse(&one("C", "A"), &referenced).is_ok());
        referenced.add("S".into(), "s".into(), 1, "\"S\"".into());
        assert!(parse("\"S\"", &referenced).is_err());
    }

    #[test]
    fn references_to_what_has_no_name_do_not_multiply() {
        let mut referenced = Referenced::default();
        for number in 0..100 {
            let inner = format!(r#"["R{0}", "R{0}"]"#, number + 1);
            referenced.add(format!("R{number}"), number.to_string(), 1, inner);
        }
        assert!(parse("\"R0\"", &referenced).is_err());
    }
}

//! What the fuzzers in `fuzz/` try, and a test that tries it on all that they have kept.
//!
//! Whatever the bytes are: nothing panics, nothing is left over unseen, and memory stays within
//! what [`Target::most_memory`] says.

#![cfg_attr(not(fuzzing), allow(unreachable_pub, reason = "only the fuzzers reach it"))]

use super::references::Referenced;
use super::{Framed, Framing, split};
use crate::Headers;
use crate::error::lookup::{Part, SchemaId};
use crate::kafka::message::{Message, OwnedMessage};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt;
use std::hint::black_box;

/// Something that takes bytes from anywhere.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its folder and of its program.
    pub name: &'static str,
    /// Panics where the bytes find a fault.
    pub run: fn(&[u8]),
    /// Bytes of memory that it may take whatever comes.
    pub memory: u64,
    /// Bytes of memory that it may take for each byte.
    pub memory_a_byte: u64,
}

impl Target {
    /// So much memory it may take at one time.
    pub fn most_memory(&self, bytes: &[u8]) -> u64 {
        self.memory + self.memory_a_byte * bytes.len() as u64
    }
}

/// Where a record's schema id, message and datum are.
pub const WIRE: Target = Target { name: "wire", run: wire, memory: 4 << 10, memory_a_byte: 32 };
/// Avro data of a few schemas.
#[cfg(feature = "avro")]
pub const AVRO_DATUM: Target =
    Target { name: "avro_datum", run: avro_datum, memory: 256 << 10, memory_a_byte: 1 << 10 };
/// Avro schemas, and data of them.
#[cfg(feature = "avro")]
pub const AVRO_SCHEMA: Target =
    Target { name: "avro_schema", run: avro_schema, memory: 8 << 20, memory_a_byte: 4 << 10 };
/// Avro schemas, others that their data are read by, and data.
#[cfg(feature = "avro")]
pub const AVRO_RESOLUTION: Target =
    Target { name: "avro_resolution", run: avro_resolution, memory: 16 << 20, memory_a_byte: 8 << 10 };
/// Protobuf schemas, and data of them.
#[cfg(feature = "protobuf")]
pub const PROTOBUF_DATUM: Target =
    Target { name: "protobuf_datum", run: protobuf_datum, memory: 64 << 10, memory_a_byte: 4 << 10 };
/// JSON schemas, and values of them.
#[cfg(feature = "json-schema")]
pub const JSON_DATUM: Target =
    Target { name: "json_datum", run: json_datum, memory: 8 << 20, memory_a_byte: 32 << 10 };

/// The bytes before the first zero, and those behind it.
#[cfg(any(feature = "avro", feature = "protobuf", feature = "json-schema"))]
fn until_zero(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == 0) {
        Some(place) => (&bytes[..place], &bytes[place + 1..]),
        None => (bytes, &[]),
    }
}

/// A byte of choices, the length of a header, the header, the payload.
fn wire(bytes: &[u8]) {
    let [choices, length, rest @ ..] = bytes else { return };
    let part = if choices & 1 == 0 { Part::Value } else { Part::Key };
    let (header, payload) = rest.split_at(rest.len().min((*length).into()));
    let name = if choices & 1 == 0 { "__value_schema_id" } else { "__key_schema_id" };
    let mut headers = vec![(b"other".to_vec(), Some(payload.to_vec()))];
    if choices & 2 != 0 {
        headers.push((name.into(), Some(header.to_vec())));
    }
    let message = Message::Owned(Box::new(OwnedMessage { headers, ..Default::default() }));
    let Ok((id, framed)) = split(part, payload, Headers::of(&message), Framing::default()) else { return };
    let number = match id {
        SchemaId::Number(number) => [&[0][..], &number.to_be_bytes()].concat(),
        SchemaId::Guid(guid) => [&[1][..], &guid].concat(),
    };
    assert!(id.to_string().len() <= 36);
    // Put together again they are the bytes that came.
    if let Ok(datum) = framed.datum() {
        match choices & 2 {
            0 => assert_eq!([&*number, datum].concat(), payload),
            _ => assert_eq!((&*number, datum), (header, payload)),
        }
    }
    message_of(framed, payload, if choices & 2 == 0 { payload.len() - 5 } else { header.len() });
}

/// Follows the indexes of a message; they stand in so many bytes at most.
fn message_of(framed: Framed<'_>, payload: &[u8], indexes_at_most: usize) {
    #[cfg(feature = "protobuf")]
    {
        let mut steps = 0;
        let datum = framed.datum_of_message(|index| {
            steps += 1;
            index < 1 << 40
        });
        assert!(steps <= indexes_at_most.max(1));
        if let Ok(datum) = datum {
            assert!(payload.ends_with(datum));
        }
    }
    let _ = (framed, payload, indexes_at_most);
}

/// Anything, without its names.
#[derive(Debug, PartialEq)]
enum Tree {
    Leaf,
    Text(String),
    Bytes(Vec<u8>),
    Branches(Vec<Tree>),
}

impl Tree {
    fn parts(&self) -> usize {
        match self {
            Self::Branches(branches) => 1 + branches.iter().map(Self::parts).sum::<usize>(),
            _ => 1,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Growing)
    }
}

struct Growing;

impl<'de> Visitor<'de> for Growing {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Bytes(bytes.to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut branches = Vec::new();
        while let Some(item) = items.next_element()? {
            branches.push(item);
        }
        Ok(Tree::Branches(branches))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut branches = Vec::new();
        while let Some((_, value)) = entries.next_entry::<IgnoredAny, _>()? {
            branches.push(value);
        }
        Ok(Tree::Branches(branches))
    }
}

/// Schemas as they are met, and as they are feared.
#[cfg(feature = "avro")]
const SCHEMAS: [&str; 5] = [
    r#"{"type": "record", "name": "Order", "fields": [
        {"name": "id", "type": "string"}, {"name": "count", "type": "int"}, {"name": "at", "type": "long"},
        {"name": "paid", "type": "boolean"}, {"name": "price", "type": "double"}, {"name": "hash", "type": "bytes"}]}"#,
    r#"{"type": "record", "name": "All", "fields": [
        {"name": "n", "type": "null"}, {"name": "f", "type": "float"},
        {"name": "fixed", "type": {"type": "fixed", "name": "Four", "size": 4}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
        {"name": "lists", "type": {"type": "array", "items": {"type": "map", "values": ["null", "long", "All"]}}},
        {"name": "decimal", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "same", "type": {"type": "fixed", "name": "Sum", "size": 8, "logicalType": "decimal", "precision": 18, "scale": 0}},
        {"name": "big", "type": ["null", {"type": "bytes", "logicalType": "big-decimal"}]},
        {"name": "uuid", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "span", "type": {"type": "fixed", "name": "Span", "size": 12, "logicalType": "duration"}}]}"#,
    r#"{"type": "record", "name": "List", "fields": [
        {"name": "value", "type": "int"}, {"name": "next", "type": ["null", "List"]}]}"#,
    r#"{"type": "record", "name": "Tree", "fields": [
        {"name": "name", "type": "string"}, {"name": "branches", "type": {"type": "array", "items": "Tree"}}]}"#,
    r#"{"type": "map", "values": {"type": "map", "values": {"type": "record", "name": "Nothing", "fields": []}}}"#,
];

/// What handlers take.
#[cfg(feature = "avro")]
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Owned {
    id: String,
    count: i32,
    at: i64,
    paid: bool,
    price: f64,
    hash: Option<Vec<u8>>,
    n: Option<()>,
    f: f64,
    kind: Option<Kind>,
    lists: Vec<HashMap<String, Option<Choice>>>,
    decimal: Option<f64>,
    same: Option<i64>,
    uuid: String,
    value: Option<u8>,
    next: Option<Box<Owned>>,
    branches: Vec<Owned>,
    span: (u32, u32, u32),
}

#[cfg(feature = "avro")]
#[derive(Debug, Deserialize)]
enum Kind {
    A,
    B,
}

#[cfg(feature = "avro")]
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only decoded")]
enum Choice {
    Long(i64),
    All(Box<Owned>),
}

/// Which schema, and a datum.
#[cfg(feature = "avro")]
fn avro_datum(bytes: &[u8]) {
    use std::sync::LazyLock;
    static PARSED: LazyLock<Vec<super::avro::Schema>> = LazyLock::new(|| {
        SCHEMAS.iter().filter_map(|text| super::avro::parse(text, &Referenced::default()).ok()).collect()
    });
    let Some((choice, datum)) = bytes.split_first() else { return };
    let schema = &PARSED[usize::from(*choice) % PARSED.len()];
    let longer = [datum, &[0]].concat();
    decoded::<Owned>(schema, &longer);
    decoded::<HashMap<String, serde_json::Value>>(schema, &longer);
    avro_values(schema, longer);
}

/// Decodes a datum, and a byte more, to values of no type of their own.
#[cfg(feature = "avro")]
fn avro_values(schema: &super::avro::Schema, longer: Vec<u8>) {
    decoded::<IgnoredAny>(schema, &longer);
    if let Some(tree) = decoded::<Tree>(schema, &longer) {
        // Items that take no room come of no bytes, and are counted.
        assert!(tree.parts() <= 65 * (longer.len() + 1000), "{} of {}", tree.parts(), longer.len());
    }
}

/// What all bytes but the last decode to; then they do not with the last.
#[cfg(feature = "avro")]
fn decoded<T: serde::de::DeserializeOwned>(schema: &super::avro::Schema, longer: &[u8]) -> Option<T> {
    use super::avro::decode;
    match decode::<T>(schema, &longer[..longer.len() - 1]) {
        Ok(value) => {
            assert!(decode::<T>(schema, longer).is_err());
            Some(black_box(value))
        }
        Err(fault) => {
            assert!(!fault.to_string().contains("did not before"));
            None
        }
    }
}

/// How many other schemas it refers to, the schema, their names and texts, each with a zero
/// behind it, and a datum.
#[cfg(feature = "avro")]
fn avro_schema(bytes: &[u8]) {
    let Some((count, rest)) = bytes.split_first() else { return };
    let (schema, mut rest) = until_zero(rest);
    let Ok(schema) = std::str::from_utf8(schema) else { return };
    let mut referenced = Referenced::default();
    for version in 0..u32::from(count % 8) {
        let (name, behind) = until_zero(rest);
        let (text, behind) = until_zero(behind);
        rest = behind;
        let (Ok(name), Ok(text)) = (std::str::from_utf8(name), std::str::from_utf8(text)) else { return };
        referenced.add(name.into(), name.into(), version, text.into());
    }
    let Ok(schema) = super::avro::parse(schema, &referenced) else { return };
    avro_values(&schema, [rest, &[0]].concat());
    for mut sample in super::avro::samples::samples(&schema) {
        sample.push(0);
        avro_values(&schema, sample);
    }
}

/// The writer's schema and the reader's, each with a zero behind it, and a datum.
#[cfg(feature = "avro")]
fn avro_resolution(bytes: &[u8]) {
    let (writer, rest) = until_zero(bytes);
    let (reader, datum) = until_zero(rest);
    let (Ok(writer), Ok(reader)) = (std::str::from_utf8(writer), std::str::from_utf8(reader)) else { return };
    let Ok(writer) = super::avro::parse(writer, &Referenced::default()) else { return };
    let data = super::avro::samples::samples(&writer).into_iter().chain([datum.to_vec()]);
    for datum in data {
        let read = super::avro::decode_by::<Tree>(reader, &writer, &datum);
        let _ = black_box(read);
        // Bytes that are one whole datum to who skips it are one to the other too.
        if super::avro::decode_by::<IgnoredAny>(reader, &writer, &datum).is_ok() && !datum.is_empty() {
            let longer = [&datum[..], &[0]].concat();
            let is_read = super::avro::decode_by::<IgnoredAny>(reader, &writer, &longer).is_ok();
            assert!(!is_read || super::avro::is_bytes(&writer));
        }
    }
}

/// A message as prost makes it.
#[cfg(feature = "protobuf")]
#[derive(Clone, PartialEq, prost::Message)]
struct Order {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, repeated, tag = "2")]
    lines: Vec<Order>,
    #[prost(map = "string, message", tag = "3")]
    labels: HashMap<String, Order>,
    #[prost(sint64, repeated, tag = "4")]
    counts: Vec<i64>,
    #[prost(bytes = "vec", optional, tag = "5")]
    hash: Option<Vec<u8>>,
    #[prost(double, tag = "6")]
    price: f64,
    #[prost(message, optional, boxed, tag = "7")]
    next: Option<Box<Order>>,
    #[prost(bool, repeated, packed = "true", tag = "8")]
    paid: Vec<bool>,
}

#[cfg(feature = "protobuf")]
impl prost::Name for Order {
    const NAME: &'static str = "Order";
    const PACKAGE: &'static str = "shop";
}

/// A schema, and what follows the id.
#[cfg(feature = "protobuf")]
fn protobuf_datum(bytes: &[u8]) {
    let (schema, rest) = until_zero(bytes);
    let Ok(schema) = std::str::from_utf8(schema) else { return };
    let Ok(messages) = super::protobuf::parse(schema) else { return };
    let _ = messages.have("shop.Order.Line");
    let payload = [&[0; 5], rest].concat();
    let message = Message::Owned(Box::default());
    let Ok((_, framed)) = split(Part::Value, &payload, Headers::of(&message), Framing::default()) else {
        return;
    };
    let _ = black_box(crate::extract::protobuf::message::<Order>(&messages, framed));
}

/// How many other schemas it refers to, the schema, their names and texts, each with a zero
/// behind it, and a value.
#[cfg(feature = "json-schema")]
fn json_datum(bytes: &[u8]) {
    use crate::extract::json_schema::checked;
    let Some((count, rest)) = bytes.split_first() else { return };
    let (schema, mut rest) = until_zero(rest);
    let Ok(schema) = std::str::from_utf8(schema) else { return };
    let mut referenced = Referenced::default();
    for version in 0..u32::from(count % 4) {
        let (name, behind) = until_zero(rest);
        let (text, behind) = until_zero(behind);
        rest = behind;
        let (Ok(name), Ok(text)) = (std::str::from_utf8(name), std::str::from_utf8(text)) else { return };
        referenced.add(name.into(), name.into(), version, text.into());
    }
    let Ok(schema) =
        super::json::parse(schema, &referenced, crate::config::schema_registry::JsonSchemaDraft::Draft202012)
    else {
        return;
    };
    if checked::<serde_json::Value>(&schema, rest).is_ok() {
        assert!(checked::<IgnoredAny>(&schema, &[rest, b" 0"].concat()).is_err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn replay(target: Target) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target.name);
        let mut tried = 0;
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let memory = allocation_counter::measure(|| (target.run)(&bytes)).bytes_max;
            let most = target.most_memory(&bytes);
            assert!(memory <= most, "{} takes {memory} bytes of memory, more than {most}", path.display());
            tried += 1;
        }
        assert!(tried > 0, "there is nothing in {}", folder.display());
    }

    #[test]
    fn what_the_fuzzer_kept_of_frames_is_split() {
        replay(WIRE);
    }

    #[cfg(feature = "avro")]
    #[test]
    fn what_the_fuzzer_kept_of_avro_data_is_decoded_or_refused() {
        replay(AVRO_DATUM);
    }

    #[cfg(feature = "avro")]
    #[test]
    fn what_the_fuzzer_kept_of_avro_schemas_is_used_or_refused() {
        replay(AVRO_SCHEMA);
    }

    #[cfg(feature = "avro")]
    #[test]
    fn what_the_fuzzer_kept_of_resolution_is_resolved_or_refused() {
        replay(AVRO_RESOLUTION);
    }

    #[cfg(feature = "protobuf")]
    #[test]
    fn what_the_fuzzer_kept_of_protobuf_is_decoded_or_refused() {
        replay(PROTOBUF_DATUM);
    }

    #[cfg(feature = "json-schema")]
    #[test]
    fn what_the_fuzzer_kept_of_json_is_checked_or_refused() {
        replay(JSON_DATUM);
    }
}

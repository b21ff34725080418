//! What Google's own library has written, read here: the same values.
//!
//! `tests/schemas/python/protobuf_types.py` has made up `protobuf_types.jsonl`.

use prost::Message;
use serde_json::{Value, json};
use std::collections::HashMap;

#[derive(Clone, PartialEq, Message)]
struct All {
    #[prost(double, tag = "1")]
    a_double: f64,
    #[prost(float, tag = "2")]
    a_float: f32,
    #[prost(int32, tag = "3")]
    a_int32: i32,
    #[prost(int64, tag = "4")]
    a_int64: i64,
    #[prost(uint32, tag = "5")]
    a_uint32: u32,
    #[prost(uint64, tag = "6")]
    a_uint64: u64,
    #[prost(sint32, tag = "7")]
    a_sint32: i32,
    #[prost(sint64, tag = "8")]
    a_sint64: i64,
    #[prost(fixed32, tag = "9")]
    a_fixed32: u32,
    #[prost(fixed64, tag = "10")]
    a_fixed64: u64,
    #[prost(sfixed32, tag = "11")]
    a_sfixed32: i32,
    #[prost(sfixed64, tag = "12")]
    a_sfixed64: i64,
    #[prost(bool, tag = "13")]
    a_bool: bool,
    #[prost(string, tag = "14")]
    a_string: String,
    #[prost(bytes = "vec", tag = "15")]
    a_bytes: Vec<u8>,
    #[prost(sint64, repeated, tag = "20")]
    packed: Vec<i64>,
    #[prost(int32, repeated, tag = "21")]
    plain: Vec<i32>,
    #[prost(map = "string, int64", tag = "22")]
    labels: HashMap<String, i64>,
    #[prost(message, optional, boxed, tag = "23")]
    next: Option<Box<All>>,
    #[prost(oneof = "Choice", tags = "24, 25")]
    choice: Option<Choice>,
    /// Its value may be one that is newer.
    #[prost(int32, tag = "26")]
    kind: i32,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Choice {
    #[prost(string, tag = "24")]
    Left(String),
    #[prost(int64, tag = "25")]
    Right(i64),
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As the file has it, with what was not written as Protobuf's default.
fn seen(all: &All) -> Value {
    json!({
        "a_double": all.a_double, "a_float": f64::from(all.a_float), "a_int32": all.a_int32,
        "a_int64": all.a_int64, "a_uint32": all.a_uint32, "a_uint64": all.a_uint64,
        "a_sint32": all.a_sint32, "a_sint64": all.a_sint64, "a_fixed32": all.a_fixed32,
        "a_fixed64": all.a_fixed64, "a_sfixed32": all.a_sfixed32, "a_sfixed64": all.a_sfixed64,
        "a_bool": all.a_bool, "a_string": all.a_string, "a_bytes": hex(&all.a_bytes),
        "packed": all.packed, "plain": all.plain, "labels": all.labels, "kind": all.kind,
        "left": match &all.choice { Some(Choice::Left(left)) => json!(left), _ => Value::Null },
        "right": match &all.choice { Some(Choice::Right(right)) => json!(right), _ => Value::Null },
        "next": all.next.as_deref().map(seen),
    })
}

fn expected(fields: &Value) -> Value {
    let mut expected = seen(&All::default());
    for (name, value) in fields.as_object().into_iter().flatten() {
        expected[name] = if name == "next" { self::expected(value) } else { value.clone() };
    }
    expected
}

#[test]
fn what_googles_library_wrote_is_read_alike() {
    let mut messages = 0;
    for line in include_str!("protobuf_types.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let text = case["message"].as_str().unwrap();
        let bytes: Vec<u8> =
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
        assert_eq!(seen(&All::decode(&*bytes).unwrap()), expected(&case["fields"]), "{line}");
        messages += 1;
    }
    assert_eq!(messages, 60);
}

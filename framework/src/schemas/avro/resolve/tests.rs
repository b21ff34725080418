//! Resolution as the specification has it, and what does not resolve.

use super::super::reader::decode_by;
use super::super::{Schema, parse};
use crate::schemas::references::Referenced;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;

fn schema(schema: &Value) -> Schema {
    parse(&schema.to_string(), &Referenced::default()).unwrap()
}

fn record(name: &str, fields: Value) -> Value {
    json!({"type": "record", "name": name, "fields": fields})
}

fn read<T: serde::de::DeserializeOwned>(writer: &Value, reader: &Value, datum: &[u8]) -> Result<T, String> {
    decode_by(&reader.to_string(), &schema(writer), datum)
}

#[derive(Debug, Deserialize, PartialEq)]
struct Order {
    key: String,
    total: f64,
    note: Option<String>,
    labels: HashMap<String, i64>,
    kind: String,
}

#[test]
fn fields_are_found_by_aliases_promoted_reordered_left_out_and_filled() {
    let writer = record(
        "Order",
        json!([{"name": "id", "type": "string"}, {"name": "gone", "type": {"type": "array", "items": "long"}},
            {"name": "total", "type": "int"},
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["NEW", "LENT"]}}]),
    );
    let reader = record(
        "Order",
        json!([{"name": "labels", "type": {"type": "map", "values": "long"}, "default": {"a": 1}},
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["OTHER", "NEW"], "default": "OTHER"}},
            {"name": "key", "aliases": ["id"], "type": "string"}, {"name": "total", "type": "double"},
            {"name": "note", "type": ["null", "string"], "default": null}]),
    );
    let order = |kind: &str| Order {
        key: "k".into(),
        total: 5.0,
        note: None,
        labels: HashMap::from([("a".into(), 1)]),
        kind: kind.into(),
    };
    for (symbol, kind) in [(0, "NEW"), (2, "OTHER")] {
        let datum = [2, b'k', 4, 2, 4, 0, 10, symbol];
        assert_eq!(read(&writer, &reader, &datum), Ok(order(kind)));
    }
    let cut = read::<Order>(&writer, &reader, &[4, b'k']).unwrap_err();
    assert_eq!(cut, "its bytes end too early, at `id`");
    let long = read::<Order>(&writer, &reader, &[2, b'k', 4, 2]).unwrap_err();
    assert_eq!(long, "it has a list that is longer than its bytes allow, at `gone`");
    let longer = read::<Order>(&writer, &reader, &[2, b'k', 0, 10, 0, 7]).unwrap_err();
    assert_eq!(longer, "there are bytes behind its end");
}

#[test]
fn a_branch_is_matched_by_its_name_and_not_by_its_look() {
    let same = json!([{"name": "x", "type": "int"}]);
    let (a, b) = (record("A", same.clone()), record("B", same));
    let writer = json!([a, b]);
    #[derive(Debug, Deserialize, PartialEq)]
    enum Either {
        A { x: i32 },
        B { x: i32 },
        Null,
    }
    for reader in [json!([a, b]), json!([b, a]), json!(["null", b, a])] {
        assert_eq!(read(&writer, &reader, &[2, 6]), Ok(Either::B { x: 3 }), "{reader}");
        assert_eq!(read(&writer, &reader, &[0, 6]), Ok(Either::A { x: 3 }), "{reader}");
    }
    // Into a union and out of one.
    assert_eq!(read(&b, &json!(["null", a, b]), &[6]), Ok(Either::B { x: 3 }));
    #[derive(Debug, Deserialize, PartialEq)]
    struct X {
        x: i32,
    }
    let only = json!([a, "null"]);
    assert_eq!(read(&only, &a, &[0, 6]), Ok(X { x: 3 }));
    let problem = read::<X>(&only, &a, &[2]).unwrap_err();
    assert_eq!(problem, "null is not read as `A`");
    // The same kind comes before one that it is promoted to.
    #[derive(Debug, Deserialize, PartialEq)]
    enum Number {
        Double(f64),
        Int(i32),
    }
    assert_eq!(read(&json!("int"), &json!(["double", "int"]), &[6]), Ok(Number::Int(3)));
    assert_eq!(read(&json!("int"), &json!(["double", "string"]), &[6]), Ok(Number::Double(3.0)));
}

#[test]
fn small_decimals_and_texts_resolve() {
    let decimal = |scale| json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": scale});
    // One byte; apache-avro's own resolution wants as many as nine digits need.
    assert_eq!(read(&decimal(2), &json!(["null", decimal(2)]), &[2, 5]), Ok(Some("0.05".to_owned())));
    assert_eq!(read(&json!("string"), &json!("bytes"), &[4, b'h', b'i']), Ok("hi".to_owned()));
    assert_eq!(read(&json!("long"), &json!("float"), &[6]), Ok(3.0_f32));
}

#[test]
fn a_type_in_itself_resolves() {
    let list = |number: &str| {
        json!({"type": "record", "name": "List", "fields": [
            {"name": "n", "type": number}, {"name": "next", "type": ["null", "List"]}]})
    };
    #[derive(Debug, Deserialize, PartialEq)]
    struct List {
        n: f64,
        next: Option<Box<List>>,
    }
    let read_list = |datum| read::<List>(&list("int"), &list("double"), datum);
    let one = |n, next| List { n, next };
    assert_eq!(read_list(&[2, 2, 4, 0]), Ok(one(1.0, Some(Box::new(one(2.0, None))))));
    let deep = [vec![2; 10_000], vec![0]].concat();
    assert!(read_list(&deep).unwrap_err().starts_with("it is nested more than 64 deep"));
}

#[test]
fn what_does_not_resolve_is_told_with_its_place() {
    let of = |kind: Value| record("R", json!([{"name": "f", "type": kind}]));
    let logical = |kind, name| json!({"type": kind, "logicalType": name});
    let decimal = |scale| json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": scale});
    let kind = |symbols: &[&str]| json!({"type": "enum", "name": "E", "symbols": symbols});
    let fixed = |size| json!({"type": "fixed", "name": "F", "size": size});
    for (writer, reader, why) in [
        (json!("long"), json!("int"), "long is not read as int"),
        (json!("double"), json!("float"), "double is not read as float"),
        (json!("string"), json!("long"), "string is not read as long"),
        (fixed(4), fixed(5), "`F` is not read as `F`"),
        (kind(&["A"]), kind(&["B"]), "the reader's enum has none of its symbols, and no default"),
        // The number would mean another time, or another amount.
        (
            logical("long", "timestamp-millis"),
            logical("long", "timestamp-micros"),
            "timestampmillis is not read as timestampmicros",
        ),
        (decimal(2), decimal(3), "decimal is not read as decimal"),
        (json!("int"), json!(["null", "string"]), "the reader's union has no branch for int"),
    ] {
        let problem = read::<Value>(&of(writer), &of(reader), &[0]).unwrap_err();
        assert_eq!(problem, format!("its Avro schema does not resolve to the handler's: field `f`: {why}"));
    }
    let more = record("R", json!([{"name": "more", "type": "int"}]));
    let problem = read::<Value>(&of(json!("int")), &more, &[0]).unwrap_err();
    assert!(problem.ends_with("the reader's field `more` is not in it, and has no default"), "{problem}");
    let default = record("R", json!([{"name": "more", "type": "int", "default": "x"}]));
    assert!(read::<Value>(&of(json!("int")), &default, &[0]).is_err());
    let unknown = read::<String>(&kind(&["A", "B"]), &kind(&["B"]), &[0]).unwrap_err();
    assert_eq!(unknown, "the reader's enum lacks its symbol, and has no default");
    assert_eq!(read(&kind(&["A", "B"]), &kind(&["B"]), &[2]), Ok("B".to_owned()));
}

#[test]
fn defaults_do_not_make_much_of_little() {
    let empty = record("E", json!([]));
    let large = record("E", json!([{"name": "s", "type": "string", "default": "x".repeat(100_000)}]));
    let list = |items: &Value| json!({"type": "array", "items": items});
    let problem = read::<Value>(&list(&empty), &list(&large), &[0xc8, 1, 0]).unwrap_err();
    assert!(problem.starts_with("the defaults of the reader's schema make too much of it"), "{problem}");
    assert!(read::<Value>(&list(&empty), &list(&large), &[2, 0]).is_ok());
}

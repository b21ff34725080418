//! Which Avro type reads into which Rust type: the table of `docs/avro_types.md`, row by row.
//!
//! Each row is held against the decoder, on bytes of fastavro (`types.jsonl`, by
//! `tests/schemas/python/avro_types.py`), and against the check at the start. That `ReadsAvro` takes and
//! refuses the same is tested in `macros/src/reads_avro/types.rs`, from the text of this file.

use super::{decode, parse, samples};
use crate::schemas::references::Referenced;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use uuid::Uuid;

/// Schema and datum of a name in `types.jsonl`.
fn written(name: &str) -> (String, Vec<u8>) {
    let lines = include_str!("types.jsonl").lines();
    let mut cases = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let case = cases.find(|case| case["name"] == name).unwrap_or_else(|| panic!("{name} is not written"));
    let hex = case["datum"].as_str().unwrap();
    let datum = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
    (case["schema"].to_string(), datum.collect())
}

/// A record around the type, with a field behind it: what is read too short or too long shows there.
#[derive(Debug, Deserialize, PartialEq)]
struct Around<T> {
    field: T,
    behind: String,
}

fn reads<T: Debug + PartialEq + serde::de::DeserializeOwned>(name: &str, field: T) {
    let (schema, datum) = written(name);
    let schema = parse(&schema, &Referenced::default()).unwrap();
    let read = decode::<Around<T>>(&schema, &datum).map_err(|fault| fault.to_string());
    assert_eq!(read, Ok(Around { field, behind: "behind".to_owned() }), "{name}");
    assert_eq!(samples::reads::<Around<T>>(&schema), Ok(()), "{name}");
}

fn refuses<T: Debug + serde::de::DeserializeOwned>(name: &str, why: &str) {
    let (schema, datum) = written(name);
    let schema = parse(&schema, &Referenced::default()).unwrap();
    let fault = decode::<Around<T>>(&schema, &datum).unwrap_err().to_string();
    assert_eq!(fault, why, "{name}");
    assert_eq!(samples::reads::<Around<T>>(&schema), Err(why.to_owned()), "{name}");
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[derive(Debug, Deserialize, PartialEq)]
enum Kind {
    New,
    Used,
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize, PartialEq)]
enum Choice {
    Null,
    Long(i64),
    String(String),
    #[serde(rename = "shop.A")]
    A(A),
    B(A),
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize, PartialEq)]
struct A {
    x: i32,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Months {
    months: u32,
    days: u32,
    milliseconds: u32,
}

/// Who does not ask for the field never notices what it is.
#[test]
fn a_type_without_the_field_reads_each_row() {
    #[derive(Deserialize)]
    struct Behind {
        behind: String,
    }
    for line in include_str!("types.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let (schema, datum) = written(case["name"].as_str().unwrap());
        let schema = parse(&schema, &Referenced::default()).unwrap();
        assert_eq!(decode::<Behind>(&schema, &datum).unwrap().behind, "behind", "{}", case["name"]);
    }
}

/// A text in place of an enum is no proof against it.
#[test]
fn an_enum_that_a_text_names_passes_the_check_and_what_is_behind_it_is_checked_still() {
    #[derive(Debug, Deserialize, PartialEq)]
    enum Status {
        Created,
        Deleted,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "type")]
    enum Event {
        Opened { status: Status },
        Closed { by: Status },
    }
    #[derive(Debug, Deserialize)]
    #[expect(dead_code)]
    struct Narrow {
        status: Status,
        number: String,
    }
    let text = |fields: &str| format!(r#"{{"type": "record", "name": "E", "fields": [{fields}]}}"#);
    let string = |name| format!(r#"{{"name": "{name}", "type": "string"}}"#);
    let schema = text(&[string("type"), string("status"), string("by")].join(","));
    let schema = parse(&schema, &Referenced::default()).unwrap();
    assert_eq!(samples::reads::<Event>(&schema), Ok(()));
    let closed = b"\x0cClosed\x02x\x0eDeleted";
    assert_eq!(decode::<Event>(&schema, closed).unwrap(), Event::Closed { by: Status::Deleted });
    let schema = text(&format!(r#"{}, {{"name": "number", "type": "long"}}"#, string("status")));
    let schema = parse(&schema, &Referenced::default()).unwrap();
    assert_eq!(samples::reads::<Narrow>(&schema), Err("it is not a string, at `number`".to_owned()));
}

#[test]
fn a_branch_without_a_variant_is_told_what_it_would_be_called() {
    #[derive(Debug, Deserialize)]
    #[expect(dead_code)]
    enum Few {
        Long(i64),
    }
    let (schema, datum) = written("union of a record");
    let schema = parse(&schema, &Referenced::default()).unwrap();
    let fault = decode::<Around<Few>>(&schema, &datum).unwrap_err();
    let said = "no variant takes it; it would have to be called `shop.A` or `A` or `Record`, at `field`";
    assert_eq!((fault.to_string().as_str(), fault.is_of_shape()), (said, true));
}

#[test]
fn a_list_that_is_longer_or_shorter_than_its_array_is_refused() {
    let (schema, datum) = written("array");
    let schema = parse(&schema, &Referenced::default()).unwrap();
    let short = decode::<Around<[f64; 1]>>(&schema, &datum).unwrap_err().to_string();
    assert_eq!(short, "it has more in it than the type takes, at `field`");
    assert!(decode::<Around<[f64; 3]>>(&schema, &datum).is_err());
    assert!(decode::<Around<(f64,)>>(&schema, &datum).is_err());
}

/// Whole payloads of bytes, with their length and as Java's serializer writes them.
#[test]
fn bytes_alone_are_taken_with_or_without_their_length() {
    let schema = parse("\"bytes\"", &Referenced::default()).unwrap();
    for (datum, bytes) in [
        (&[6, 1, 2, 3][..], &[1, 2, 3][..]),
        (&[1, 2, 3], &[1, 2, 3]),
        (&[0], &[]),
        (&[], &[]),
        (&[0xff; 12], &[0xff; 12]),
    ] {
        assert_eq!(decode::<Vec<u8>>(&schema, datum).unwrap(), bytes);
    }
}

#[test]
fn types_that_other_parsers_take_are_taken() {
    let cents = r#"{"type": "record", "name": "Cents", "fields": [{"name": "n", "type": "long"}]}"#;
    let one = r#"{"name": "one", "type": {"type": "CENTS"}}"#.replace("CENTS", "Cents");
    let schemas = [
        // A name, and a definition, with a `type` around it; and a name before it is defined.
        format!(
            r#"{{"type": "record", "name": "R", "fields": [{{"name": "all", "type": {{"type": "array", "items": {{"type": {cents}}}}}}}, {one}]}}"#
        ),
        format!(
            r#"{{"type": "record", "name": "R", "fields": [{{"name": "all", "type": {{"type": "array", "items": {{"type": "Cents"}}}}}}, {{"name": "one", "type": {cents}}}]}}"#
        ),
        format!(
            r#"{{"type": "error", "name": "R", "fields": [{{"name": "all", "type": {{"type": "array", "items": {cents}}}}}, {one}]}}"#
        ),
        // A default, an alias and a logical type that are none, and letters that names do not have.
        format!(
            r#"{{"type": "record", "name": "a-b.R$1", "aliases": ["!"], "fields": [{{"name": "all", "type": {{"type": "array", "items": {cents}}}, "default": 7, "logicalType": 3}}, {one}]}}"#
        ),
    ];
    #[derive(Debug, Deserialize, PartialEq)]
    struct Cents {
        n: i64,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct R {
        all: Vec<Cents>,
        one: Cents,
    }
    for schema in schemas {
        let schema = parse(&schema, &Referenced::default()).unwrap();
        let expected = R { all: vec![Cents { n: 1 }], one: Cents { n: 2 } };
        assert_eq!(decode::<R>(&schema, &[2, 2, 0, 4]).unwrap(), expected);
    }
}

macro_rules! rows {
    ($($reads:ident!($name:literal, $type:ty, $value:expr);)*) => {
        #[test]
        fn each_row_is_what_decoder_and_check_make_of_it() {
            $(rows!(@$reads $name, $type, $value);)*
        }
    };
    (@reads $name:literal, $type:ty, $value:expr) => { reads::<$type>($name, $value) };
    (@refuses $name:literal, $type:ty, $value:expr) => { refuses::<$type>($name, $value) };
}

rows! {
    reads!("null", (), ());
    reads!("null", Option<i32>, None);
    reads!("boolean", bool, true);
    reads!("int", i32, -7);
    reads!("int", i64, -7);
    reads!("int", f32, -7.0);
    reads!("int", f64, -7.0);
    reads!("long", i64, 1 << 40);
    reads!("long", i128, 1 << 40);
    reads!("long", f64, (1_i64 << 40) as f64);
    reads!("float", f32, 1.5);
    reads!("float", f64, 1.5);
    reads!("double", f64, 0.1);
    refuses!("double", f32, "it is not f32, at `field`");
    refuses!("double", i64, "it is not i64, at `field`");
    reads!("string", String, text("h\u{e9}"));
    reads!("string", Box<str>, "h\u{e9}".into());
    refuses!("string", i64, "it is not i64, at `field`");
    reads!("bytes", Vec<u8>, vec![0, 255, 7]);
    refuses!("bytes", bool, "it is not a boolean, at `field`");
    reads!("fixed", Vec<u8>, vec![1, 2, 3, 4]);
    reads!("fixed", [u8; 4], [1, 2, 3, 4]);
    reads!("array", Vec<f64>, vec![1.5, 2.5]);
    reads!("array", [f64; 2], [1.5, 2.5]);
    reads!("array", (f64, f64), (1.5, 2.5));
    refuses!("array", String, "it is not a string, at `field`");
    reads!("map", HashMap<String, i64>, HashMap::from([(text("a"), 1)]));
    reads!("map", BTreeMap<String, i64>, BTreeMap::from([(text("a"), 1)]));
    reads!("record", A, A { x: 3 });
    reads!("record", HashMap<String, i32>, HashMap::from([(text("x"), 3)]));
    reads!("enum", Kind, Kind::Used);
    reads!("enum", String, text("Used"));
    reads!("enum of more", Kind, Kind::Other);
    reads!("enum in a string", Kind, Kind::New);
    reads!("option", Option<i64>, Some(5));
    reads!("option of null", Option<i64>, None);
    reads!("union of long", Choice, Choice::Long(5));
    reads!("union of string", Choice, Choice::String(text("s")));
    reads!("union of null", Choice, Choice::Null);
    reads!("union of a record", Choice, Choice::A(A { x: 3 }));
    reads!("union of another record", Choice, Choice::B(A { x: 4 }));
    reads!("union of an unknown record", Choice, Choice::Other);
    reads!("union of a record", Option<Choice>, Some(Choice::A(A { x: 3 })));
    reads!("decimal", String, text("-123.45"));
    reads!("decimal", f64, -123.45);
    reads!("decimal", rust_decimal::Decimal, "-123.45".parse().unwrap());
    reads!("decimal", Vec<u8>, vec![0xcf, 0xc7]);
    refuses!("decimal", i64, "it is not i64, at `field`");
    refuses!("decimal", bool, "it is not a boolean, at `field`");
    reads!("decimal without scale", i64, 12345);
    reads!("decimal without scale", String, text("12345"));
    reads!("decimal of 38 digits", String, text("1234567890123456789012345678.9012345678"));
    reads!("decimal of 64 digits", String, text("1234567890123456789012345678901234567890123456789012345678901234"));
    reads!("decimal of fixed", String, text("-0.00000000000000000000000000012345"));
    reads!("decimal of fixed", Vec<u8>, vec![255; 18].into_iter().chain([0xcf, 0xc7]).collect());
    reads!("decimal without precision", Vec<u8>, vec![0x30, 0x39]);
    reads!("uuid", String, text("0192f3a4-6c1e-7d6a-9a0e-2f6f4f7f9a11"));
    reads!("uuid", Uuid, "0192f3a4-6c1e-7d6a-9a0e-2f6f4f7f9a11".parse().unwrap());
    reads!("uuid of fixed", Uuid, "0192f3a4-6c1e-7d6a-9a0e-2f6f4f7f9a11".parse().unwrap());
    reads!("uuid of fixed", String, text("0192f3a4-6c1e-7d6a-9a0e-2f6f4f7f9a11"));
    reads!("uuid of fixed", [u8; 16], *Uuid::parse_str("0192f3a4-6c1e-7d6a-9a0e-2f6f4f7f9a11").unwrap().as_bytes());
    reads!("date", i32, 19_782);
    reads!("date", String, text("2024-02-29"));
    reads!("date", chrono::NaiveDate, "2024-02-29".parse().unwrap());
    reads!("time-millis", i32, 86_399_999);
    reads!("time-millis", String, text("23:59:59.999"));
    reads!("time-millis", chrono::NaiveTime, "23:59:59.999".parse().unwrap());
    reads!("time-micros", i64, 86_399_999_999);
    reads!("time-micros", chrono::NaiveTime, "23:59:59.999999".parse().unwrap());
    reads!("timestamp-millis", i64, 1_522_949_460_123);
    reads!("timestamp-millis", String, text("2018-04-05T17:31:00.123Z"));
    reads!("timestamp-millis", chrono::DateTime<chrono::Utc>, "2018-04-05T17:31:00.123Z".parse().unwrap());
    reads!("timestamp-micros", chrono::DateTime<chrono::Utc>, "2018-04-05T17:31:00.123456Z".parse().unwrap());
    reads!("local-timestamp-millis", chrono::NaiveDateTime, "2018-04-05T17:31:00.123".parse().unwrap());
    refuses!("date", bool, "it is not a boolean, at `field`");
    reads!("duration", Months, Months { months: 1, days: 2, milliseconds: 3 });
    reads!("duration", (u32, u32, u32), (1, 2, 3));
    reads!("map of decimals", HashMap<String, String>, HashMap::from([(text("a"), text("1.0"))]));
    reads!("array of uuids", Vec<Uuid>, vec!["0192f3a4-6c1e-7d6a-9a0e-2f6f4f7f9a11".parse().unwrap()]);
    reads!("array of options of dates", Vec<Option<chrono::NaiveDate>>, vec![None, Some("2024-02-29".parse().unwrap())]);
    reads!("union of timestamp", Option<chrono::DateTime<chrono::Utc>>, Some("2018-04-05T17:31:00.123Z".parse().unwrap()));
    reads!("array of an empty record", Vec<HashMap<String, i32>>, vec![HashMap::new(), HashMap::new()]);
}

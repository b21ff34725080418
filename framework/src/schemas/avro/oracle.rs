//! What fastavro has written and read, read here: the same values, whatever Rust type asks for
//! them.
//!
//! `tests/schemas/python/oracle.py` makes the cases up. Some are kept in `vectors.jsonl`;
//! `make test` makes new ones.

use super::reader::decode_by;
use super::{Schema, decode, parse};
use crate::schemas::references::Referenced;
use fastrand::Rng;
use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::process::Command;

thread_local! {
    static EXPECTED: RefCell<(Value, Rng)> = const { RefCell::new((Value::Null, Rng::with_seed(0))) };
}

/// A value that asks for what is expected, each time in another way: as a list or a tuple, as a map
/// or a struct of some fields, as an `Option` or an enum or neither.
struct Asked(Value);

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (expected, rng) = EXPECTED.take();
        let rng = RefCell::new(rng);
        Ask { expected: &expected, rng: &rng }.deserialize(deserializer).map(Self)
    }
}

#[derive(Clone, Copy)]
struct Ask<'e> {
    expected: &'e Value,
    rng: &'e RefCell<Rng>,
}

impl<'e> Ask<'e> {
    fn of(self, expected: &'e Value) -> Self {
        Self { expected, ..self }
    }

    fn chance(self, of: usize) -> usize {
        self.rng.borrow_mut().usize(..of)
    }

    /// How many bytes are expected.
    fn bytes(self) -> Option<usize> {
        self.expected.get("bytes").and_then(Value::as_str).map(|hex| hex.len() / 2)
    }
}

impl<'de> DeserializeSeed<'de> for Ask<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match (self.chance(8), self.expected) {
            (0, _) => return deserializer.deserialize_option(self),
            (1, _) => return deserializer.deserialize_newtype_struct("", self),
            (2, _) => return deserializer.deserialize_enum("", &[], self),
            _ => {}
        }
        match (self.chance(4), self.expected, self.bytes()) {
            (0, ..) => deserializer.deserialize_any(self),
            (1, _, Some(_)) => deserializer.deserialize_seq(self),
            (2, _, Some(length)) => deserializer.deserialize_tuple(length, self),
            (_, _, Some(_)) => deserializer.deserialize_byte_buf(self),
            (_, Value::Null, _) => deserializer.deserialize_unit(self),
            (_, Value::Bool(_), _) => deserializer.deserialize_bool(self),
            (1, Value::Number(_), _) => deserializer.deserialize_i128(self),
            (2, Value::Number(number), _) if number.is_u64() => deserializer.deserialize_u64(self),
            (_, Value::Number(_), _) => deserializer.deserialize_i64(self),
            (1, Value::String(_), _) => deserializer.deserialize_str(self),
            (_, Value::String(_), _) => deserializer.deserialize_string(self),
            (1, Value::Array(items), _) => deserializer.deserialize_tuple(items.len(), self),
            (_, Value::Array(_), _) => deserializer.deserialize_seq(self),
            (_, Value::Object(object), _) if object.contains_key("float") => {
                deserializer.deserialize_f64(self)
            }
            (1, ..) => deserializer.deserialize_map(self),
            _ => deserializer.deserialize_struct("Other", &[], self),
        }
    }
}

fn of_float(number: f64) -> Value {
    json!({"float": format!("{:016x}", number.to_bits())})
}

fn hex(bytes: &[u8]) -> Value {
    json!({"bytes": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()})
}

impl<'de> Visitor<'de> for Ask<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.expected)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i128<E>(self, number: i128) -> Result<Value, E> {
        Ok(number.to_string().into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(of_float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(hex(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        if let Some(length) = self.bytes() {
            let mut bytes = Vec::new();
            while bytes.len() < length
                && let Some(byte) = items.next_element()?
            {
                bytes.push(byte);
            }
            return Ok(hex(&bytes));
        }
        let expected = self.expected.as_array().map_or(&[][..], Vec::as_slice);
        let mut list = Vec::new();
        // A tuple never asks for what is behind its last.
        for item in expected {
            list.extend(items.next_element_seed(self.of(item))?);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let expected = self.expected.get("map").and_then(Value::as_object);
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = match expected.and_then(|expected| expected.get(&key)) {
                Some(value) if self.chance(4) > 0 => entries.next_value_seed(self.of(value))?,
                // A field that the struct does not have.
                Some(value) => entries.next_value::<IgnoredAny>().map(|_| value.clone())?,
                None => Value::Null,
            };
            map.insert(key, value);
        }
        Ok(json!({"map": map}))
    }

    /// A symbol or a text, or a variant that is called as the type.
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let (name, variant) = access.variant::<String>()?;
        match self.expected {
            Value::String(text) if *text == name => variant.unit_variant().map(|()| name.into()),
            Value::Null => variant.unit_variant().map(|()| Value::Null),
            _ => variant.newtype_variant_seed(self),
        }
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|place| u8::from_str_radix(&hex[place..place + 2], 16).unwrap()).collect()
}

const ROUNDS: u64 = 20;

fn read_in_each_way(expected: &Value, said: &str, decode: impl Fn() -> Result<Asked, String>) {
    for seed in 0..ROUNDS {
        EXPECTED.replace((expected.clone(), Rng::with_seed(seed)));
        match decode() {
            Ok(Asked(read)) => assert_eq!(read, *expected, "in way {seed} of {said}"),
            Err(problem) => panic!("{problem}, in way {seed} of {said}"),
        }
    }
}

/// Each byte that is missing or too many is noticed.
fn cut_is_refused(schema: &Schema, datum: &[u8]) {
    if schema.plan.is_bytes() {
        return;
    }
    for end in 0..datum.len() {
        assert!(decode::<IgnoredAny>(schema, &datum[..end]).is_err());
    }
    assert!(decode::<IgnoredAny>(schema, &[datum, &[0]].concat()).is_err());
}

fn try_cases(lines: &str) -> usize {
    let mut resolved = 0;
    for line in lines.lines() {
        let case: Map<String, Value> = serde_json::from_str(line).unwrap();
        let datum = bytes_of(case["datum"].as_str().unwrap());
        let schema = parse(&case["schema"].to_string(), &Referenced::default()).unwrap();
        read_in_each_way(&case["value"], line, || decode(&schema, &datum).map_err(|fault| fault.to_string()));
        cut_is_refused(&schema, &datum);
        if let (Some(reader), Some(read)) = (case.get("reader"), case.get("read")) {
            let reader = reader.to_string();
            read_in_each_way(read, line, || decode_by(&reader, &schema, &datum));
            resolved += 1;
        }
    }
    resolved
}

#[test]
fn what_fastavro_wrote_and_resolved_is_read_alike_by_every_type() {
    assert!(try_cases(include_str!("vectors.jsonl")) > 50);
}

/// Where `make test` has installed fastavro, of new cases each time.
#[test]
fn what_fastavro_writes_now_is_read_alike() {
    let Some(folder) = std::env::var_os("STACK_DIR") else {
        assert!(std::env::var_os("STACK_REQUIRED").is_none(), "there is no stack");
        return;
    };
    let seed = std::env::var("ORACLE_SEED").unwrap_or_else(|_| fastrand::u32(..).to_string());
    let python = Path::new(&folder).join("clients/python/bin/python");
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/schemas/python/oracle.py");
    let output = Command::new(python).arg(oracle).args([&*seed, "400"]).output().unwrap();
    assert!(output.status.success(), "ORACLE_SEED={seed}: {}", String::from_utf8_lossy(&output.stderr));
    println!("ORACLE_SEED={seed}");
    assert!(try_cases(&String::from_utf8(output.stdout).unwrap()) > 0);
}

//! Avro's binary encoding, into a serde type and out of one, by `apache-avro`.
//!
//! `text.rs` makes of a schema what that crate takes, `plan.rs` lays it out, `input.rs` is what the
//! crate's decoder reads, and `read.rs` stands between it and the type.

mod fault;
mod input;
mod logical;
#[cfg(test)]
mod oracle;
mod plan;
mod read;
mod reader;
mod resolve;
pub(crate) mod samples;
mod text;
#[cfg(test)]
mod types;
mod walk;
mod write;

pub(crate) use fault::Fault;
pub(super) use plan::Plan;
#[cfg(any(test, fuzzing))]
pub(crate) use reader::decode_by;
pub(crate) use reader::{decode_as, reads_as};

use super::references::Referenced;
use super::weight;
use crate::error::BoxError;
use apache_avro::AvroResult;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use input::Input;
use read::Reading;
use scoped_tls::scoped_thread_local;
use serde::Serialize;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use std::fmt;
use text::Role;
use write::Writing;

/// Deeper data is not decoded: it would end on the stack.
pub(super) const DEEPEST: usize = 64;

/// A schema, and what decodes by it.
pub(crate) struct Schema {
    plan: Plan,
    layout: Layout,
    readers: reader::Readers,
}

self_cell::self_cell! {
    /// The schema of how the bytes lie, and what borrows it.
    struct Layout {
        owner: apache_avro::Schema,
        #[covariant]
        dependent: Codec,
    }
}

/// What reads and writes by a layout.
struct Codec<'l> {
    reader: GenericDatumReader<'l>,
    writer: GenericDatumWriter<'l>,
}

impl<'l> Codec<'l> {
    fn of(layout: &'l apache_avro::Schema) -> AvroResult<Self> {
        Ok(Self {
            reader: GenericDatumReader::builder(layout).human_readable(true).build()?,
            // What is written was made by the schema.
            writer: GenericDatumWriter::builder(layout).validate(false).build()?,
        })
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)
    }
}

/// Makes of a schema's text, with those that it refers to, what decodes.
pub(crate) fn parse(text: &str, referenced: &Referenced) -> Result<Schema, String> {
    parse_as(Role::Writer, text, referenced)
}

fn parse_as(role: Role, text: &str, referenced: &Referenced) -> Result<Schema, String> {
    let unusable = |problem: &str| format!("its Avro schema cannot be used: {problem}");
    let whole = text::whole(text, referenced, role).map_err(|problem| unusable(&problem))?;
    weight::check(&whole).map_err(|problem| unusable(&problem))?;
    let refused = |error: apache_avro::Error| unusable(&crate::error::text::capped(error.to_string()));
    let schema = apache_avro::Schema::parse(&whole).map_err(refused)?;
    let plan = Plan::of(&schema).map_err(|problem| unusable(&problem))?;
    let layout = apache_avro::Schema::parse(&plan.layout()).map_err(refused)?;
    let layout = Layout::try_new(layout, |layout| Codec::of(layout)).map_err(refused)?;
    Ok(Schema { plan, layout, readers: reader::Readers::default() })
}

/// Decodes a datum that was written with `schema`.
///
/// Where the whole of it is bytes, Java's serializer writes them without their length.
#[inline]
pub(crate) fn decode<T: DeserializeOwned>(schema: &Schema, datum: &[u8]) -> Result<T, Fault> {
    if schema.plan.is_bytes() && !walk::is_delimited(datum) {
        let mut delimited = Vec::with_capacity(datum.len() + 10);
        walk::put_long(datum.len() as i64, &mut delimited);
        delimited.extend_from_slice(datum);
        return decode(schema, &delimited);
    }
    let input = Input::of(datum);
    // As it comes: to map it would copy the whole value once more.
    match read::<As<T>>(schema, &input) {
        Ok(As(value)) if input.is_at_end() => Ok(value),
        Ok(_) => Err(Fault::behind()),
        Err(_) => Err(fault::find::<T>(schema, datum)),
    }
}

#[inline]
fn read<T: DeserializeOwned>(schema: &Schema, input: &Input) -> AvroResult<T> {
    let reader = &schema.layout.borrow_dependent().reader;
    PLAN.set(&schema.plan, || INPUT.set(input, || reader.read_deser(&mut input::Reader(input))))
}

/// Writes a value behind what is there.
pub(super) fn encode<T: Serialize + ?Sized>(
    schema: &Schema,
    value: &T,
    bytes: &mut Vec<u8>,
) -> Result<(), BoxError> {
    let value = value.serialize(Writing::whole(&schema.plan))?;
    schema.layout.borrow_dependent().writer.write_value_ref(bytes, &value)?;
    Ok(())
}

/// Whether the whole is bytes, of which each number is one.
#[cfg(any(test, fuzzing))]
pub(crate) fn is_bytes(schema: &Schema) -> bool {
    schema.plan.is_bytes()
}

scoped_thread_local! {
    /// Of what is decoded on this thread. `read_deser` calls a function of the type, which has no
    /// other way to be told.
    static PLAN: Plan
}

scoped_thread_local! {
    static INPUT: Input
}

/// Reads what the decoder has come to.
#[inline]
fn whole<'de, T: Deserialize<'de>, D: Deserializer<'de>, E>(
    inner: D,
    read: impl FnOnce(Reading<'_, D>) -> Result<T, E>,
) -> Result<T, E> {
    PLAN.with(|plan| INPUT.with(|input| read(Reading::whole(inner, plan, input))))
}

/// A type that is read as the schema says.
#[repr(transparent)]
struct As<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for As<T> {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(inner: D) -> Result<Self, D::Error> {
        whole(inner, |reading| T::deserialize(reading)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
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
    struct Renamed {
        id: String,
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
        let order: Renamed = decode(&schema(ORDER), DATUM).unwrap();
        let line = Line { product: "a".into(), kind: Kind::Used };
        let labels = HashMap::from([("x".to_owned(), 7)]);
        let note = Some("n".to_owned());
        assert_eq!(
            order,
            Renamed { id: "o1".into(), count: 3, price: 1.5, note, lines: vec![line], labels, added: None }
        );
    }

    fn fault_of<T: DeserializeOwned + fmt::Debug>(datum: &[u8]) -> String {
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
            assert!(decode::<Renamed>(&schema(ORDER), &DATUM[..end]).is_err(), "{end}");
        }
        let longer = [DATUM, &[0]].concat();
        let fault = decode::<Renamed>(&schema(ORDER), &longer).unwrap_err().to_string();
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
                let _ = decode::<Renamed>(schema, &datum);
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

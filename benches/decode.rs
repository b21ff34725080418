//! The cost of decoding an event of ten fields, by the extractors and by the crates below them.

use crate::allocations;
use crate::bench::Bench;
use apache_avro::reader::datum::GenericDatumReader;
use harness::{Case, Moment, Report, Took};
use onceward::extract::{Avro, Context, FromRecord, Json};
use onceward::testing::{InMemoryRecord, TestRecord, context_with_registry};
use onceward::{AvroEncoder, SchemaRegistryConfig};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use support::unique;

const SCHEMA: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "id", "type": "string"}, {"name": "customer", "type": "string"},
    {"name": "created", "type": "long"}, {"name": "total", "type": "double"},
    {"name": "currency", "type": "string"}, {"name": "lines", "type": "int"},
    {"name": "paid", "type": "boolean"}, {"name": "note", "type": ["null", "string"]},
    {"name": "address", "type": "string"}, {"name": "country", "type": "string"}]}"#;

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
struct Order {
    id: String,
    customer: String,
    created: i64,
    total: f64,
    currency: String,
    lines: i32,
    paid: bool,
    note: Option<String>,
    address: String,
    country: String,
}

const RECORDS: u64 = 300_000;

pub fn run(bench: &Bench, report: &mut Report) {
    let order = Order {
        id: "0192f3a4-6c1e-7d6a-9a0e-2f6f4f7f9a11".into(),
        customer: "customer-0001234567".into(),
        created: 1_763_700_000_123,
        total: 1234.56,
        currency: "EUR".into(),
        lines: 7,
        paid: true,
        note: Some("leave it at the door, please".into()),
        address: "12 Example Street, 12345 Sampletown".into(),
        country: "DE".into(),
    };
    let registry = SchemaRegistryConfig::at(&bench.stack.registry_url);
    let encoder = AvroEncoder::new(&registry, SCHEMA).expect("a schema").registering();
    let avro = bench.runtime.block_on(encoder.value(&unique("decode"), &order)).expect("encoded");
    let json = serde_json::to_vec(&order).expect("JSON");
    let context = context_with_registry(&registry).expect("a context");
    let datum = avro[5..].to_vec();
    let schema = apache_avro::Schema::parse_str(SCHEMA).expect("a schema");
    let reader = GenericDatumReader::builder(&schema).build().expect("a reader");
    let (avro, json_record) =
        (InMemoryRecord::from(TestRecord::new(avro)), InMemoryRecord::from(TestRecord::new(json.clone())));
    let decoded = bench.runtime.block_on(avro.extract::<Avro<Order>>(&context)).expect("decoded");
    assert_eq!(decoded.0, order);
    let decoded = bench.runtime.block_on(json_record.extract::<Json<Order>>(&context)).expect("decoded");
    assert_eq!(decoded.0, order);

    let alone = || drop(black_box(reader.read_deser::<Order>(&mut black_box(&*datum))));
    let json_alone = || drop(black_box(serde_json::from_slice::<Order>(black_box(&json))));
    let ours = || extract::<Avro<Order>>(&avro, &context);
    let json_ours = || extract::<Json<Order>>(&json_record, &context);
    let paths: [(&str, &(dyn Fn() + Sync)); 4] =
        [("serde_json", &json_alone), ("Json<T>", &json_ours), ("apache-avro", &alone), ("Avro<T>", &ours)];
    let mut one_thread = Case::new("decode, 10 fields");
    let mut two_threads = Case::new("decode, 10 fields, two threads");
    for (name, path) in paths {
        let allocations = allocations_of(path);
        report.figures("decode, 10 fields, allocations", name, &[("allocations a record", allocations, "")]);
        one_thread = one_thread.contender(name, move || timed(bench, 1, path));
        two_threads = two_threads.contender(name, move || timed(bench, 2, path));
    }
    report.compare(one_thread);
    report.compare(two_threads);
}

fn extract<'a, E: FromRecord<'a>>(record: &'a InMemoryRecord, context: &'a Context) {
    drop(black_box(E::from_record(black_box(record.record()), context)));
}

fn allocations_of(decode: &dyn Fn()) -> f64 {
    const TIMES: u64 = 1000;
    let before = allocations::so_far();
    (0..TIMES).for_each(|_| decode());
    (allocations::so_far() - before) as f64 / TIMES as f64
}

/// The same on each of so many threads.
fn timed(bench: &Bench, threads: u64, decode: &(dyn Fn() + Sync)) -> Took {
    let records = bench.records(RECORDS);
    let start = Moment::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..records).for_each(|_| decode()));
        }
    });
    start.took(threads * records)
}

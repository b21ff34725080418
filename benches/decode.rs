//! What an event of ten fields costs to decode, by the extractors and by what they stand on.

use crate::allocations;
use harness::{Contender, Moment, Took, compare};
use onceward::extract::{Avro, Context, FromRecord, Json};
use onceward::testing::{InMemoryRecord, TestRecord, context_with_registry};
use onceward::{AvroEncoder, SchemaRegistryConfig};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use support::{Stack, unique};
use tokio::runtime::Runtime;

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

pub fn run(runtime: &Runtime, stack: &Stack, rounds: usize) -> Vec<String> {
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
    let registry = SchemaRegistryConfig::at(&stack.registry_url);
    let encoder = AvroEncoder::new(&registry, SCHEMA).expect("a schema").registering();
    let avro = runtime.block_on(encoder.value(&unique("decode"), &order)).expect("encoded");
    let json = serde_json::to_vec(&order).expect("JSON");
    println!("\n{} bytes of Avro, {} of JSON", avro.len() - 5, json.len());
    let context = context_with_registry(&registry).expect("a context");
    let datum = avro[5..].to_vec();
    let schema: serde_avro_fast::Schema = SCHEMA.parse().expect("a schema");
    let (avro, json_record) =
        (InMemoryRecord::from(TestRecord::new(avro)), InMemoryRecord::from(TestRecord::new(json.clone())));
    let decoded = runtime.block_on(avro.extract::<Avro<Order>>(&context)).expect("decoded");
    assert_eq!(decoded.0, order);

    let alone = || drop(black_box(serde_avro_fast::from_datum_slice::<Order>(black_box(&datum), &schema)));
    let json_alone = || drop(black_box(serde_json::from_slice::<Order>(black_box(&json))));
    let ours = || extract::<Avro<Order>>(&avro, &context);
    let json_ours = || extract::<Json<Order>>(&json_record, &context);
    println!("\n| path | allocations a record |\n|---|---|");
    let paths: [(&str, &dyn Fn()); 4] = [
        ("serde_avro_fast", &alone),
        ("Avro<T>", &ours),
        ("serde_json", &json_alone),
        ("Json<T>", &json_ours),
    ];
    for (name, path) in paths {
        println!("| {name} | {} |", allocations_of(path));
    }
    let one = |decode| -> Box<dyn FnMut() -> Took + '_> { Box::new(move || timed(1, decode)) };
    let two = |decode| -> Box<dyn FnMut() -> Took + '_> { Box::new(move || timed(2, decode)) };
    let contenders: Vec<Contender<'_>> = vec![
        ("serde_json", one(&json_alone)),
        ("Json<T>", one(&json_ours)),
        ("serde_avro_fast", one(&alone)),
        ("Avro<T>", one(&ours)),
    ];
    let decode = compare("decode, 10 fields", rounds, contenders);
    let contenders: Vec<Contender<'_>> = vec![
        ("serde_avro_fast, one thread", one(&alone)),
        ("serde_avro_fast, two threads", two(&alone)),
        ("Avro<T>, one thread", one(&ours)),
        ("Avro<T>, two threads", two(&ours)),
    ];
    vec![decode, compare("decode, side by side", rounds, contenders)]
}

fn extract<'a, E: FromRecord<'a>>(record: &'a InMemoryRecord, context: &'a Context) {
    drop(black_box(E::from_record(black_box(record.record()), context).expect("decoded")));
}

fn allocations_of(decode: &dyn Fn()) -> f64 {
    const TIMES: u64 = 1000;
    let before = allocations::so_far();
    (0..TIMES).for_each(|_| decode());
    (allocations::so_far() - before) as f64 / TIMES as f64
}

/// The same on each of so many threads.
fn timed(threads: u64, decode: &(dyn Fn() + Sync)) -> Took {
    let start = Moment::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..RECORDS).for_each(|_| decode()));
        }
    });
    start.took(threads * RECORDS)
}

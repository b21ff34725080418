//! Handlers that decode: JSON, and Avro by a schema from the registry, against a plain loop that
//! decodes by the same crates.

use crate::application::timed;
use crate::bench::Bench;
use crate::loops::{self, Settings};
use crate::topics::{Filling, Order, filled, with_payloads};
use apache_avro::reader::datum::GenericDatumReader;
use harness::{Case, Report};
use onceward::prelude::*;
use onceward::{AvroEncoder, SchemaRegistryConfig};
use serde::Deserialize;
use std::hint::black_box;
use support::unique;

const SCHEMA: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "id", "type": "long"}, {"name": "customer", "type": "string"},
    {"name": "total", "type": "double"}, {"name": "paid", "type": "boolean"},
    {"name": "note", "type": "string"}]}"#;

/// As that crate wants it: called as its record, and with a number of the schema's type.
#[derive(Deserialize)]
#[serde(rename = "Order")]
#[expect(dead_code, reason = "only decoded")]
struct Plain {
    id: i64,
    customer: String,
    total: f64,
    paid: bool,
    note: String,
}

/// Confluent's magic byte and the schema's id.
const PREFIX: usize = 5;

const FILLING: Filling = Filling { partitions: 8, records: 400_000, size: 512, keys: 600, codec: "none" };

#[handler(topic = "overridden")]
async fn on_json(Json(order): Json<Order>) -> HandlerResult {
    black_box(order);
    Ok(())
}

#[handler(topic = "overridden")]
async fn on_avro(Avro(order): Avro<Order>) -> HandlerResult {
    black_box(order);
    Ok(())
}

pub fn json(bench: &Bench, report: &mut Report) {
    let filling = Filling { records: bench.records(FILLING.records), ..FILLING };
    let (topic, records) = (&*filled(bench, filling), filling.records);
    let decode = |payload: &[u8]| drop(black_box(serde_json::from_slice::<Order>(payload).expect("JSON")));
    report.compare(
        Case::new("512 B of JSON, decoded, 8 partitions")
            .contender("plain loop", || loops::plain(bench, topic, records, Settings::Tuned, decode))
            .contender("onceward", || {
                timed(bench, records, |count| {
                    let route = on_json {}.route().topic(topic).group(unique("bench"));
                    bench.app().handler(route.around(count))
                })
            }),
    );
}

pub fn avro(bench: &Bench, report: &mut Report) {
    let filling = Filling { records: bench.records(FILLING.records), ..FILLING };
    let registry = SchemaRegistryConfig::at(&bench.stack.registry_url);
    let encoder = AvroEncoder::new(&registry, SCHEMA).expect("a schema").registering();
    let subject = unique("orders");
    let encode = async |id| encoder.value(&subject, &Order::new(id, filling.size)).await.expect("encoded");
    let mut payloads = Vec::new();
    bench.runtime.block_on(async {
        for id in 0..1000 {
            payloads.push(encode(id).await);
        }
    });
    let (topic, records) = (&*with_payloads(bench, filling, &payloads), filling.records);
    let schema = apache_avro::Schema::parse_str(SCHEMA).expect("a schema");
    let reader = GenericDatumReader::builder(&schema).build().expect("a reader");
    let decode = |payload: &[u8]| {
        let order = reader.read_deser::<Plain>(&mut &payload[PREFIX..]);
        drop(black_box(order.expect("Avro")));
    };
    report.compare(
        Case::new("the same in Avro, decoded, 8 partitions")
            .contender("plain loop", || loops::plain(bench, topic, records, Settings::Tuned, decode))
            .contender("onceward", || {
                timed(bench, records, |count| {
                    let route = on_avro {}.route().topic(topic).group(unique("bench"));
                    bench.app().schema_registry(registry.clone()).handler(route.around(count))
                })
            }),
    );
}

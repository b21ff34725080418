//! What other clients write is read, and they read what we write. The registry is the real one.

use super::*;
use onceward::AvroEncoder;
use std::path::Path;
use std::process::Command;

/// Runs one of the programs in `python/`, and gives what it prints.
fn python(world: &World, program: &str, words: &[&str]) -> String {
    let folder = std::env::var("STACK_DIR").expect("set where KAFKA_BROKERS is");
    let output = Command::new(Path::new(&folder).join("clients/python/bin/python"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/python").join(program))
        .args([&world.stack.brokers, &world.stack.registry_url, &world.topic])
        .args(words)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn reads_what_python_writes<H: Handler>(handler: H, format: &str) {
    let world = World::new(stack_or_leave_out!(), 1).await;
    python(&world, "write.py", &[format, "1", "63", "64", "100000"]);
    let seen = Seen::default();
    let registry = SchemaRegistryConfig::at(&world.stack.registry_url);
    let running = Running::start(world.app(world.route(handler), &seen).schema_registry(registry));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1, 63, 64, 100_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_of_pythons_serializer_is_read() {
    reads_what_python_writes(one {}, "avro").await;
}

#[handler(topic = "overridden")]
async fn counted(Protobuf(value): Protobuf<formats::Counted>, seen: State<Seen>) -> HandlerResult {
    seen.note(value.number, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_of_pythons_serializer_is_read() {
    reads_what_python_writes(counted {}, "protobuf").await;
}

#[handler(topic = "overridden")]
async fn described(JsonSchema(value): JsonSchema<Numbered>, seen: State<Seen>) -> HandlerResult {
    seen.note(value.number, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_pythons_serializer_is_read() {
    reads_what_python_writes(described {}, "json").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_reads_the_avro_that_we_write() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let registry = SchemaRegistryConfig::at(&world.stack.registry_url);
    let encoder = AvroEncoder::new(&registry, NUMBER).unwrap().registering();
    for number in [1, -64, 100_000] {
        world.send(0, &encoder.value(&world.topic, &Numbered { number }).await.unwrap()).await;
    }
    assert_eq!(python(&world, "read.py", &["3"]), "1\n-64\n100000\n");
}

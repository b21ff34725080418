//! What other clients write is read, and they read what we write. The registry is the real one.

use super::*;
use onceward::AvroEncoder;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a program prints that gets the world's addresses and these words.
fn output(world: &World, mut program: Command, words: &[&str]) -> String {
    let world = [&world.stack.brokers, &world.stack.registry_url, &world.topic];
    let output = program.args(world).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Where `stack/install` has put what they need.
fn clients() -> PathBuf {
    Path::new(&std::env::var("STACK_DIR").expect("set where KAFKA_BROKERS is")).join("clients")
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name)
}

fn python(program: &str) -> Command {
    let mut python = Command::new(clients().join("python/bin/python"));
    python.arg(source(program));
    python
}

fn java() -> Command {
    let mut java = Stack::ctl_command(&["java", "-cp"]);
    java.arg(clients().join("libs/*")).arg(source("java/Numbers.java"));
    java
}

async fn reads_what_is_written<H: Handler>(handler: H, writer: impl FnOnce() -> Command, word: &str) {
    let world = World::new(stack_or_leave_out!(), 1).await;
    output(&world, writer(), &[word, "1", "63", "64", "100000"]);
    let seen = Seen::default();
    let registry = SchemaRegistryConfig::at(&world.stack.registry_url);
    let running = Running::start(world.app(world.route(handler), &seen).schema_registry(registry));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1, 63, 64, 100_000]);
}

async fn others_read(reader: impl FnOnce() -> Command, words: &[&str]) {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let registry = SchemaRegistryConfig::at(&world.stack.registry_url);
    let encoder = AvroEncoder::new(&registry, NUMBER).unwrap().registering();
    for number in [1, -64, 100_000] {
        world.send(0, &encoder.value(&world.topic, &Numbered { number }).await.unwrap()).await;
    }
    assert_eq!(output(&world, reader(), words), "1\n-64\n100000\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_of_pythons_serializer_is_read() {
    reads_what_is_written(one {}, || python("python/write.py"), "avro").await;
}

#[handler(topic = "overridden")]
async fn counted(Protobuf(value): Protobuf<formats::Counted>, seen: State<Seen>) -> HandlerResult {
    seen.note(value.number, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_of_pythons_serializer_is_read() {
    reads_what_is_written(counted {}, || python("python/write.py"), "protobuf").await;
}

#[handler(topic = "overridden")]
async fn described(JsonSchema(value): JsonSchema<Numbered>, seen: State<Seen>) -> HandlerResult {
    seen.note(value.number, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_pythons_serializer_is_read() {
    reads_what_is_written(described {}, || python("python/write.py"), "json").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_of_javas_own_writer_is_read() {
    reads_what_is_written(one {}, java, "write").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_reads_the_avro_that_we_write() {
    others_read(|| python("python/read.py"), &["3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_reads_the_avro_that_we_write() {
    others_read(java, &["read", "3"]).await;
}

//! Dead letters as other tools read them: Python's confluent-kafka, and Spring Kafka by its own constants.

use super::*;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{PATIENCE, Running, stack_or_leave_out};

#[handler(topic = "overridden")]
async fn refuse(_record: Record<'_>) -> HandlerResult {
    Err(HandlerError::new("refused").permanent())
}

/// Where `stack/install` has put what a reader needs.
fn clients() -> PathBuf {
    Path::new(&std::env::var("STACK_DIR").expect("set where KAFKA_BROKERS is")).join("clients")
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("failures/readers").join(name)
}

/// Two letters, and what their originals were.
async fn two_letters(stack: Stack) -> World {
    let topic = stack.topic_with("failures", 1, &[("retention.ms", "-1")]).await;
    let world = World { letters: format!("{topic}.dlq"), group: unique("group"), topic, stack };
    let headers = OwnedHeaders::new()
        .insert(Header { key: "b", value: Some("1") })
        .insert(Header::<&str> { key: "A", value: None })
        .insert(Header { key: "b", value: Some(&[0xff, 0][..]) });
    for (key, payload) in [(Some(&b"\xff\0"[..]), Some(&b"\xfepayload"[..])), (None, None)] {
        let mut record = FutureRecord::<[u8], [u8]>::to(&world.topic)
            .headers(headers.clone())
            .timestamp(1_700_000_000_123);
        (record.key, record.payload) = (key, payload);
        world.stack.producer().send(record, PATIENCE).await.unwrap();
    }
    let running = Running::start(world.app(world.route(refuse {}), &Calls::default()));
    world.caught_up(1).await;
    running.stop().await.unwrap();
    world
}

fn lines(world: &World, mut command: Command) -> Vec<String> {
    let output = command.args([&world.stack.brokers, &world.letters, "2"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_confluent_kafka_reads_the_original_bytes_and_springs_headers() {
    let world = two_letters(stack_or_leave_out!()).await;
    let mut python = Command::new(clients().join("python/bin/python"));
    python.arg(source("letters.py"));
    let topic = &world.topic;
    let headers = "b=x31,A=null,b=xff00";
    assert_eq!(
        lines(&world, python),
        [
            format!("xff00 xfe7061796c6f6164 {headers} {topic} 0 0 1700000000123 refused"),
            format!("null null {headers} {topic} 0 1 1700000000123 refused"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn spring_kafka_reads_letters_by_its_own_header_constants() {
    let world = two_letters(stack_or_leave_out!()).await;
    let mut java = Stack::ctl_command(&["java", "-cp"]);
    java.arg(clients().join("libs/*")).arg(source("Letters.java"));
    let World { topic, group, .. } = &world;
    assert_eq!(
        lines(&world, java),
        [
            format!("xff00 xfe7061796c6f6164 {topic} 0 0 1700000000123 CreateTime {group} refused"),
            format!("null null {topic} 0 1 1700000000123 CreateTime {group} refused"),
        ]
    );
}

//! Topics for dead letters as others set them up: rights, limits, and letters that are there already.

use super::*;
use onceward::REDRIVEN_HEADER;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Header;
use rdkafka::producer::FutureRecord;
use rdkafka::{Offset, TopicPartitionList};
use support::{PATIENCE, Running, header, produce_one, stack_or_leave_out, text};

#[handler(topic = "overridden", max_attempts = 1)]
async fn fails(_payload: &[u8]) -> HandlerResult {
    Err(HandlerError::new("for good").permanent())
}

fn grant(world: &World, words: &[&str]) {
    let status = Stack::ctl_command(&["tool", "org.apache.kafka.tools.AclCommand"])
        .args(["--bootstrap-server", &world.stack.brokers, "--add", "--allow-principal", "User:limited"])
        .args(words)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{words:?}: {status}");
}

/// Runs until the topic is worked off.
async fn run(world: &World, limited: bool) {
    let mut app = world.app(world.route(fails {}), &Calls::default());
    if limited {
        app = app
            .brokers(&world.stack.brokers_limited)
            .kafka("security.protocol", "SASL_PLAINTEXT")
            .kafka("sasl.mechanism", "PLAIN")
            .kafka("sasl.username", "limited")
            .kafka("sasl.password", "limited");
    }
    let running = Running::start(app);
    world.caught_up(1).await;
    running.stop().await.unwrap();
}

async fn send(world: &World, payload: &str) {
    produce_one(&world.stack.producer(), &world.topic, 0, Some(payload), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_the_guide_asks_for_suffice_also_after_a_restart() {
    let world = World::new(stack_or_leave_out!(), 1, 1).await;
    grant(&world, &["--operation", "Read", "--group", &world.group]);
    grant(&world, &["--operation", "Read", "--operation", "DescribeConfigs", "--topic", &world.topic]);
    let letters = ["Read", "Write", "DescribeConfigs", "Create"].map(|right| ["--operation", right]).concat();
    grant(&world, &[&letters[..], &["--topic", &world.letters]].concat());
    run(&world, true).await;
    send(&world, "1").await;
    run(&world, true).await;
    assert_eq!(numbers(&world.letters().await), [0, 1]);
}

/// Has all be delivered again.
#[allow(clippy::disallowed_methods, reason = "as another tool may do")]
fn rewind(world: &World) {
    let consumer: BaseConsumer = world.stack.client().set("group.id", &world.group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&world.topic, 0, Offset::Offset(0)).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_and_a_letter_that_was_sent_back_are_written_once_though_they_are_delivered_again() {
    let world = World::new(stack_or_leave_out!(), 1, 1).await;
    run(&world, false).await;
    let first = world.letters().await.remove(0);
    let headers =
        first.headers().unwrap().clone().insert(Header { key: REDRIVEN_HEADER, value: Some("now") });
    let mut record = FutureRecord::<[u8], [u8]>::to(&world.topic).headers(headers);
    (record.key, record.payload) = (first.key(), first.payload());
    world.stack.producer().send(record, PATIENCE).await.unwrap();
    run(&world, false).await;
    rewind(&world);
    run(&world, false).await;
    let letters = world.letters().await;
    assert_eq!(letters.len(), 2, "each once");
    let says = |name| text(&letters[1], name);
    assert_eq!((says("onceward.dlq.offset"), says("onceward.dlq.last-offset")), ("0", "1"));
    assert_eq!((says("onceward.dlq.times"), says("onceward.dlq.last-handler")), ("2", "fails"));
    assert_eq!(says("onceward.identity"), text(&first, "onceward.identity"));
    assert!(header(&letters[1], REDRIVEN_HEADER).is_none());
}

/// Digits that gzip makes half as long, and lz4 does not.
fn digits(count: usize) -> String {
    let mut state = 7_u64;
    let mut digit = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from_digit((state >> 60) as u32, 16).unwrap()
    };
    (0..count).map(|_| digit()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_its_producer_compressed_is_copied_compressed() {
    let stack = stack_or_leave_out!();
    for (payload, letters) in [("x".repeat(2_000_000), None), (digits(60_000), Some("42100"))] {
        let topic = stack.topic_with("failures", 1, &[("max.message.bytes", "40000")]).await;
        let world =
            World { letters: format!("{topic}.dlq"), group: unique("group"), topic, stack: stack.clone() };
        if let Some(limit) = letters {
            stack.topic_named(&world.letters, 1, &[("max.message.bytes", limit)]).await;
        }
        let mut client = stack.client();
        client.set("compression.type", "gzip").set("message.max.bytes", "10000000");
        let producer: rdkafka::producer::FutureProducer = client.create().unwrap();
        produce_one(&producer, &world.topic, 0, Some(&payload), &[]).await;
        run(&world, false).await;
        let copies = world.letters().await;
        assert!(copies[0].payload().unwrap() == payload.as_bytes());
        assert_eq!(text(&copies[0], "onceward.dlq.reason"), "permanent", "with all that is to be said");
    }
}

/// The broker measures the batch, and refuses all that is in it.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_too_large_only_together_are_published() {
    let world = World::new(stack_or_leave_out!(), 1, 20).await;
    let small = world.stack.topic_with("published", 1, &[("max.message.bytes", "3000")]).await;
    #[derive(Clone)]
    struct To(String);
    #[handler(topic = "overridden", order = "none", concurrency = 20, max_attempts = 1)]
    async fn publishes(payload: &[u8], to: State<To>) -> HandlerResult<ProducerRecord> {
        let number = std::str::from_utf8(payload)?;
        Ok(ProducerRecord::to(&to.0.0).payload(format!("{number:>2000}")))
    }
    let app = world.app(world.route(publishes {}), &Calls::default()).state(To(small.clone()));
    let running = Running::start(app.kafka("linger.ms", "200"));
    world.caught_up(1).await;
    running.stop().await.unwrap();
    let published = read_all(&world.stack, &small, 0).await;
    assert_eq!(published.len(), 20);
}

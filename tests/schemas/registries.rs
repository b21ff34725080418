//! Registries as others have them: several addresses, none of the newer questions, other ids.

use super::*;
use formats::Counted;
use onceward::Config;
use prost::Message as _;
use rdkafka::message::{Header, OwnedHeaders};
use stub::Trouble;
use support::text;

impl World {
    fn with(&self, registry: SchemaRegistryConfig, seen: &Seen) -> Running {
        Running::start(self.app(self.route(one {}), seen).schema_registry(registry))
    }

    async fn send_by_guid(&self, value: &[u8]) {
        let guid = [&[1][..], &[7; 16]].concat();
        let headers = OwnedHeaders::new().insert(Header { key: "__value_schema_id", value: Some(&guid) });
        let record = FutureRecord::<[u8], [u8]>::to(&self.topic).partition(0).payload(value).headers(headers);
        self.stack.producer().send(record, Duration::from_secs(10)).await.unwrap();
    }

    async fn reasons(&self) -> Vec<String> {
        self.letters().await.iter().map(|letter| text(letter, "onceward.dlq.message").to_owned()).collect()
    }
}

const GUID: &str = "/schemas/guids/07070707-0707-0707-0707-070707070707?deleted=true";

#[tokio::test(flavor = "multi_thread")]
async fn a_guid_at_a_registry_that_has_none_is_unknown_and_the_partition_goes_on() {
    for no_address in ["404 Not Found\r\n\r\n", "405 Method Not Allowed\r\n\r\n<html>"] {
        let world = World::new(stack_or_leave_out!(), 1).await;
        world.registry.has(7, NUMBER);
        world.registry.refuses(GUID, no_address);
        world.send_by_guid(&datum(1)).await;
        world.send(0, &framed(7, &datum(2))).await;
        let seen = Seen::default();
        let running = world.with(SchemaRegistryConfig::at(&world.registry.url), &seen);
        world.caught_up().await;
        running.stop().await.unwrap();
        assert_eq!(seen.numbers(), [2]);
        let reasons = world.reasons().await;
        assert!(reasons[0].ends_with("the registry does not know it, or no GUIDs at all"), "{reasons:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guid_waits_for_what_is_no_registry() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.registry.is_in(Trouble::Says("404 Not Found\r\n\r\n<html>no such page</html>"));
    world.send_by_guid(&datum(1)).await;
    let seen = Seen::default();
    let running = world.with(SchemaRegistryConfig::at(&world.registry.url), &seen);
    eventually("it is asked twice", async || world.registry.asked() >= 4).await;
    let body = serde_json::json!({ "schema": NUMBER }).to_string();
    world.registry.answers(GUID, body);
    world.registry.is_in(None);
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1]);
    assert!(world.letters().await.is_empty());
}

/// Nobody listens there.
const AWAY: &str = "http://127.0.0.1:1";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_second_lacks_waits_while_the_first_is_away() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.send(0, &framed(7, &datum(1))).await;
    let seen = Seen::default();
    let running = world.with(SchemaRegistryConfig::at(format!("{AWAY},{}", world.registry.url)), &seen);
    eventually("the second is asked twice", async || world.registry.asked_for(7) >= 2).await;
    assert!(world.letters().await.is_empty());
    // What the second has counts.
    world.registry.has(7, NUMBER);
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1]);
    assert!(seen.all_at_first());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_does_not_know_is_unknown_while_the_second_is_away() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.registry.has(7, NUMBER);
    world.send(0, &framed(404, &datum(1))).await;
    world.send(0, &framed(7, &datum(2))).await;
    let seen = Seen::default();
    let running = world.with(SchemaRegistryConfig::at(format!("{},{AWAY}", world.registry.url)), &seen);
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [2]);
    assert_eq!(world.reasons().await, ["the value (schema id 404): the registry does not know it"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_eight_bytes_are_read_where_they_are_set() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.registry.has(7, NUMBER);
    world.send(0, &[&[0][..], &7_u64.to_be_bytes(), &datum(1)].concat()).await;
    world.send(0, &framed(7, &datum(2))).await;
    let mut config = SchemaRegistryConfig::at(&world.registry.url);
    config.id_bytes = Some(8);
    let seen = Seen::default();
    let running = world.with(config, &seen);
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1]);
    assert_eq!(world.reasons().await, ["the value ends inside its schema id"]);
}

#[handler(topic = "overridden")]
async fn by_message(Protobuf(value): Protobuf<Counted>, seen: State<Seen>) -> HandlerResult {
    seen.note(value.number, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn message_indexes_without_zigzag_are_read_where_they_are_set() {
    let schema = "syntax = \"proto3\"; package test; message Other {} message Counted { int64 number = 1; }";
    let value = framed(7, &[&[1, 1][..], &Counted { number: 5 }.encode_to_vec()].concat());
    for is_set in [true, false] {
        let world = World::new(stack_or_leave_out!(), 1).await;
        let body = serde_json::json!({"schema": schema, "schemaType": "PROTOBUF"}).to_string();
        world.registry.answers("/schemas/ids/7?deleted=true", body);
        world.send(0, &value).await;
        let mut config = Config::default();
        config.schema_registry.deprecated_message_indexes = Some(is_set);
        let seen = Seen::default();
        let running = Running::start(world.app(world.route(by_message {}), &seen).config(config));
        world.caught_up().await;
        running.stop().await.unwrap();
        assert_eq!(seen.numbers(), if is_set { vec![5] } else { vec![] });
        let reasons = world.reasons().await;
        let told =
            reasons.iter().all(|reason| reason.contains("`schema_registry.deprecated_message_indexes`"));
        assert!(told && reasons.len() == usize::from(!is_set), "{reasons:?}");
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sum {
    #[prost(int64, tag = "1")]
    number: i64,
}

impl prost::Name for Sum {
    const NAME: &'static str = "Counted";
    const PACKAGE: &'static str = "test";
}

fn as_sum(old: Counted) -> Sum {
    Sum { number: old.number * 100 }
}

onceward::versions! {
    Sum by schema;
    1 => Counted;
    2 => Sum from as_sum;
}

#[handler(topic = "overridden")]
async fn newest(Upcast(Protobuf(sum)): Upcast<Protobuf<Sum>>, seen: State<Seen>) -> HandlerResult {
    seen.note(sum.number, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_that_of_the_messages_own_subject_too() {
    for by_topic in [true, false] {
        let world = World::new(stack_or_leave_out!(), 1).await;
        let schema = |more| {
            format!(
                "syntax = \"proto3\"; package test; message Other {{}} message Counted {{ int64 number = 1; {more} }}"
            )
        };
        let subject =
            if by_topic { format!("{}-test.Counted", world.topic) } else { "test.Counted".to_owned() };
        for (version, more) in [(1, ""), (2, "int64 more = 2;")] {
            let body = serde_json::json!({"schema": schema(more), "schemaType": "PROTOBUF"}).to_string();
            world.registry.answers(&format!("/schemas/ids/{version}?deleted=true"), body);
        }
        let value = |id| framed(id, &[&[2, 2][..], &Counted { number: 5 }.encode_to_vec()].concat());
        for version in [1, 2] {
            let found =
                serde_json::json!({"subject": subject, "version": version, "id": version, "schema": ""});
            world.registry.answers(&format!("/subjects/{subject}?deleted=false"), found.to_string());
            world.registry.answers(&format!("/subjects/{subject}"), found.to_string());
            world.send(0, &value(version)).await;
            let seen = Seen::default();
            let running = Running::start(world.app(world.route(newest {}), &seen));
            world.caught_up().await;
            running.stop().await.unwrap();
            assert_eq!(seen.numbers(), [if version == 1 { 500 } else { 5 }]);
        }
        assert_eq!(world.reasons().await, [""; 0]);
    }
}

//! Formats beside Avro.

use super::*;
use prost::Message as _;
use rdkafka::Message as _;
use support::text;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Counted {
    #[prost(int64, tag = "1")]
    pub(crate) number: i64,
}

impl prost::Name for Counted {
    const NAME: &'static str = "Counted";
    const PACKAGE: &'static str = "test";
}

#[handler(topic = "overridden")]
pub(crate) async fn protobuf(
    Key(Protobuf(key)): Key<Protobuf<Counted>>,
    value: Option<Protobuf<Counted>>,
    seen: State<Seen>,
) -> HandlerResult {
    seen.note(key.number, 1);
    seen.note(value.map_or(-1, |value| value.number), 1);
    Ok(())
}

impl World {
    pub(crate) async fn send_keyed(&self, key: &[u8], value: Option<&[u8]>) {
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.topic).partition(0).key(key);
        record.payload = value;
        self.stack.producer().send(record, Duration::from_secs(10)).await.unwrap();
    }

    /// The texts of the dead letters, which hold the values.
    async fn problems_of(&self, values: &[Vec<u8>]) -> Vec<String> {
        let letters = self.letters().await;
        let payloads: Vec<_> = letters.iter().map(|letter| letter.payload().unwrap().to_vec()).collect();
        assert_eq!(payloads, values);
        letters.iter().map(|letter| text(letter, "onceward.dlq.message").to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_is_decoded_by_the_message_that_the_record_names() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let schema = "syntax = \"proto3\"; package test; message Other { message Inner {} string text = 1; } \
                  message Counted { int64 number = 1; }";
    let body = serde_json::json!({"schema": schema, "schemaType": "PROTOBUF"}).to_string();
    world.registry.answers("/schemas/ids/7?deleted=true", body);
    world.registry.has(8, NUMBER);
    let counted = |number| Counted { number }.encode_to_vec();
    let framed_message = |indexes: &[u8], datum: &[u8]| framed(7, &[indexes, datum].concat());
    let key = framed_message(&[2, 2], &counted(1));
    world.send_keyed(&key, Some(&framed_message(&[2, 2], &counted(2)))).await;
    world.send_keyed(&key, None).await;
    let bad = [
        framed_message(&[0], &counted(3)),
        framed_message(&[4, 0, 0], &[]),
        framed_message(&[2, 6], &counted(3)),
        framed_message(&[2, 2], &[8]),
        framed_message(&[], &[]),
        framed(8, &datum(3)),
    ];
    for value in &bad {
        world.send_keyed(&key, Some(value)).await;
    }
    let seen = Seen::default();
    let running = Running::start(world.app(world.route(protobuf {}), &seen));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1, 2, 1, -1]);
    let problems = world.problems_of(&bad).await;
    let starts = [
        "the value (schema id 7): it is a message `test.Other`, and the handler takes `test.Counted`",
        "the value (schema id 7): it is a message `test.Other.Inner`, and the handler takes `test.Counted`",
        "the value (schema id 7): its schema has no message at the place that it names",
        "the value (schema id 7): failed to decode Protobuf message: ",
        "the value (schema id 7): the indexes of its message are no numbers, or too many",
        "the value (schema id 8): it is a schema of Avro, and the handler takes Protobuf",
    ];
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
    }
}

#[handler(topic = "overridden")]
pub(crate) async fn json_schema(value: JsonSchema<Option<Numbered>>, seen: State<Seen>) -> HandlerResult {
    seen.note(value.0.map_or(-1, |value| value.number), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_checked_against_the_schema_that_the_record_names() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    // `small` stands in a schema that it refers to.
    let schema = serde_json::json!({"properties": {"number": {"$ref": "small.json"}}}).to_string();
    let references = serde_json::json!([{"name": "small.json", "subject": "small", "version": 3}]);
    let body = serde_json::json!({"schema": schema, "schemaType": "JSON", "references": references});
    world.registry.answers("/schemas/ids/7?deleted=true", body.to_string());
    let small = serde_json::json!({"type": "integer", "maximum": 9}).to_string();
    let body =
        serde_json::json!({"schema": small, "schemaType": "JSON", "id": 6, "subject": "small", "version": 3});
    world.registry.answers("/subjects/small/versions/3", body.to_string());
    world.send_keyed(b"k", Some(&framed(7, b"{\"number\": 5}"))).await;
    world.send_keyed(b"k", None).await;
    let bad = [framed(7, b"{\"number\": 10}"), framed(7, b"{\"numb"), framed(7, b"{}")];
    for value in &bad {
        world.send_keyed(b"k", Some(value)).await;
    }
    let seen = Seen::default();
    let running = Running::start(world.app(world.route(json_schema {}), &seen));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [5, -1]);
    let problems = world.problems_of(&bad).await;
    let starts = [
        "the value (schema id 7): it does not fit its schema at ",
        "the value (schema id 7): it is JSON that ends too early (line 1, column 6)",
        "the value (schema id 7): it is JSON, but not of the handler's type: missing field `number`",
    ];
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
    }
}

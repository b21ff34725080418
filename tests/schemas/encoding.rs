//! Writing by a schema of the registry, here the real one.

use super::*;
use formats::Counted;
use onceward::{AvroEncoder, JsonSchemaEncoder, ProtobufEncoder, SubjectName};
use stub::Trouble;

fn registry(stack: &Stack) -> SchemaRegistryConfig {
    SchemaRegistryConfig::at(&stack.registry_url)
}

/// A schema of a name that no other test uses.
fn numbered(name: &str, fields: &str) -> String {
    format!(
        r#"{{"type": "record", "name": "{name}", "fields": [{{"name": "number", "type": "int"}}{fields}]}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_by_any_subject_is_read_again() {
    let stack = stack_or_leave_out!();
    let world = World::new(stack.clone(), 1).await;
    let name = unique("Numbered").replace('-', "_");
    for (number, subject) in (1..).zip([SubjectName::Topic, SubjectName::Record, SubjectName::TopicRecord]) {
        let encoder = AvroEncoder::new(&registry(&stack), &numbered(&name, "")).unwrap();
        let encoder = encoder.subject(subject).registering();
        let value = encoder.value(&world.topic, &Numbered { number }).await.unwrap();
        world.send(0, &value).await;
        // By now it is there for one that only looks.
        let other = AvroEncoder::new(&registry(&stack), &numbered(&name, "")).unwrap().subject(subject);
        assert_eq!(other.value(&world.topic, &Numbered { number }).await.unwrap(), value);
    }
    let seen = Seen::default();
    let app = world.app(world.route(one {}), &seen).schema_registry(registry(&stack));
    let running = Running::start(app);
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_as_protobuf_is_read_again() {
    let stack = stack_or_leave_out!();
    let world = World::new(stack.clone(), 1).await;
    let schema = "syntax = \"proto3\"; package test; message Other {} message Counted { int64 number = 1; }";
    for (number, subject) in [(1, SubjectName::Topic), (3, SubjectName::TopicRecord)] {
        let encoder = ProtobufEncoder::new(&registry(&stack), schema).unwrap();
        let encoder = encoder.subject(subject).registering();
        let key = encoder.key(&world.topic, &Counted { number }).await.unwrap();
        let value = encoder.value(&world.topic, &Counted { number: number + 1 }).await.unwrap();
        world.send_keyed(&key, Some(&value)).await;
    }
    let seen = Seen::default();
    let app = world.app(world.route(formats::protobuf {}), &seen).schema_registry(registry(&stack));
    let running = Running::start(app);
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1, 2, 3, 4]);
    let other = schema.replace("Counted", "Else");
    let encoder = ProtobufEncoder::new(&registry(&stack), &other).unwrap();
    let error = encoder.value(&world.topic, &Counted { number: 1 }).await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("no message `test.Counted`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_as_json_by_a_schema_is_read_again() {
    let stack = stack_or_leave_out!();
    let world = World::new(stack.clone(), 1).await;
    let schema = r#"{"title": "Numbered", "type": "object", "properties": {"number": {"type": "integer", "maximum": 9}}}"#;
    let encoder = JsonSchemaEncoder::new(&registry(&stack), schema).unwrap().registering();
    let encoder = encoder.subject(SubjectName::TopicRecord);
    let value = encoder.value(&world.topic, &Numbered { number: 5 }).await.unwrap();
    world.send(0, &value).await;
    let seen = Seen::default();
    let app = world.app(world.route(formats::json_schema {}), &seen).schema_registry(registry(&stack));
    let running = Running::start(app);
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [5]);
    let error = encoder.value(&world.topic, &Numbered { number: 10 }).await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("/properties/number/maximum"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_the_registry_lacks_or_refuses_is_named() {
    let stack = stack_or_leave_out!();
    let topic = unique("encoding");
    let encoder = |fields| AvroEncoder::new(&registry(&stack), &numbered("Numbered", fields)).unwrap();
    let value = Numbered { number: 1 };
    let error = encoder("").value(&topic, &value).await.unwrap_err();
    let lacks = format!("the schema registry does not have this schema under subject `{topic}-value`");
    assert!(error.is_permanent() && error.to_string().starts_with(&lacks), "{error}");
    encoder("").registering().value(&topic, &value).await.unwrap();
    // Without a default, what was written before could not be read.
    let error = encoder(r#", {"name": "more", "type": "string"}"#).registering().value(&topic, &value).await;
    let error = error.unwrap_err();
    let refuses = format!("the schema registry refuses this schema under subject `{topic}-value`: ");
    assert!(error.is_permanent() && error.to_string().starts_with(&refuses), "{error}");
    let error = encoder("").value(&topic, &Other { text: "x" }).await.unwrap_err();
    assert!(error.is_permanent(), "{error}");
}

#[derive(Serialize)]
struct Other {
    text: &'static str,
}

#[handler(topic = "overridden")]
async fn publishing(
    Avro(value): Avro<Numbered>,
    Attempt(attempt): Attempt,
    encoder: State<Arc<AvroEncoder>>,
    seen: State<Seen>,
    to: State<String>,
) -> HandlerResult<ProducerRecord> {
    // Each number to a topic of its own, so that each asks for a subject.
    let topic = format!("{}-{}", to.0, value.number);
    let payload = encoder.value(&topic, &value).await?;
    seen.note(value.number, attempt);
    Ok(ProducerRecord::to(topic).payload(payload))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_writes_while_the_registry_is_in_trouble_loses_no_attempt() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.registry.has(7, NUMBER);
    let to = unique("encoded");
    for number in 0..2 {
        world.stack.topic_named(&format!("{to}-{number}"), 1, &[]).await;
        world
            .registry
            .answers(&format!("/subjects/{to}-{number}-value?deleted=false"), r#"{"id": 7}"#.into());
    }
    let seen = Seen::default();
    let encoder = AvroEncoder::new(&SchemaRegistryConfig::at(&world.registry.url), NUMBER).unwrap();
    let app = world.app(world.route(publishing {}), &seen).state(Arc::new(encoder)).state(to.clone());
    let running = Running::start(app);
    world.send(0, &framed(7, &datum(0))).await;
    // It knows how to read then.
    world.caught_up().await;
    let before = world.registry.asked();
    world.registry.is_in(Trouble::Says("503 Service Unavailable\r\n\r\n"));
    world.send(0, &framed(7, &datum(1))).await;
    eventually("it is asked again and again", async || world.registry.asked() > before + 3).await;
    assert_eq!(seen.numbers(), [0]);
    world.registry.is_in(None);
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [0, 1]);
    assert!(seen.all_at_first());
    let published = read_all(&world.stack, &format!("{to}-1"), 0).await;
    assert_eq!(rdkafka::Message::payload(&published[0]).unwrap(), framed(7, &datum(1)));
}

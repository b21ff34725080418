//! Versions of an event, and several event types on one topic, by their schemas.

use super::*;
use onceward::{AvroEncoder, SchemaCheck, SubjectName, Unmatched};
use stub::Trouble;
use support::text;

#[derive(Debug, Deserialize, Serialize)]
struct OrderV1 {
    total: i64,
}

/// The same with a field more, which the type above does not need.
#[derive(Debug, Serialize)]
struct OrderV1WithNote {
    total: i64,
    note: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct Order {
    cents: i64,
}

fn in_cents(old: OrderV1) -> Order {
    Order { cents: old.total * 100 }
}

onceward::versions! {
    Order by schema;
    1 => OrderV1;
    3 => Order from in_cents;
}

const TOTAL: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "total", "type": "long"}]}"#;
const NOTE: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "total", "type": "long"}, {"name": "note", "type": "string", "default": ""}]}"#;
const CENTS: &str = r#"{"type": "record", "name": "Order", "namespace": "shop", "fields": [
    {"name": "cents", "type": "long", "default": 0}]}"#;

#[handler(topic = "overridden")]
async fn upcast(
    Upcast(Avro(order)): Upcast<Avro<Order>>,
    Attempt(attempt): Attempt,
    seen: State<Seen>,
) -> HandlerResult {
    seen.note(order.cents, attempt);
    Ok(())
}

fn registry(stack: &Stack) -> SchemaRegistryConfig {
    SchemaRegistryConfig::at(&stack.registry_url)
}

fn encoder(stack: &Stack, schema: &str) -> AvroEncoder {
    AvroEncoder::new(&registry(stack), schema).unwrap().registering()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_that_of_its_subject_whether_known_from_the_start_or_not() {
    let stack = stack_or_leave_out!();
    for check in [SchemaCheck::Refuse, SchemaCheck::Off] {
        let world = World::new(stack.clone(), 1).await;
        let topic = &world.topic;
        let old = encoder(&stack, TOTAL).value(topic, &OrderV1 { total: 1 }).await.unwrap();
        let noted = OrderV1WithNote { total: 2, note: "x".into() };
        let noted = encoder(&stack, NOTE).value(topic, &noted).await.unwrap();
        let new = encoder(&stack, CENTS).value(topic, &Order { cents: 3 }).await.unwrap();
        let mut config = Config::default();
        config.schema_registry = registry(&stack);
        config.schema_registry.check = Some(check);
        let seen = Seen::default();
        let app = world.app(world.route(upcast {}), &seen).config(config);
        let running = Running::start(app);
        // Of another name, so no version of this topic's subject.
        let other = CENTS.replace("Order", "Other");
        let other = encoder(&stack, &other).value("elsewhere", &Order { cents: 4 }).await.unwrap();
        for value in [&old, &noted, &other, &new, &new[..5].to_vec(), &old] {
            world.send(0, value).await;
        }
        world.caught_up().await;
        running.stop().await.unwrap();
        assert_eq!(seen.numbers(), [100, 200, 3, 100]);
        assert!(seen.all_at_first());
        let letters = world.letters().await;
        let [stranger, cut] = &letters[..] else { panic!("{letters:?}") };
        let said = text(stranger, "onceward.dlq.message");
        assert!(said.contains("it is no version of subject") && said.contains(topic.as_str()), "{said}");
        assert_eq!(text(cut, "onceward.dlq.schema-subject"), format!("{topic}-value"));
        let said = text(cut, "onceward.dlq.message");
        assert!(said.contains("its bytes end too early, at `cents`"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_version_is_tried_on_the_type_that_is_its_own() {
    let stack = stack_or_leave_out!();
    let world = World::new(stack.clone(), 1).await;
    encoder(&stack, TOTAL).value(&world.topic, &OrderV1 { total: 1 }).await.unwrap();
    // As version 2 it belongs to a type that wants a total.
    let cents = encoder(&stack, CENTS).value(&world.topic, &Order { cents: 3 }).await.unwrap();
    let app = world.app(world.route(upcast {}), &Seen::default()).schema_registry(registry(&stack));
    let error = Running::start(app).ended().await.unwrap_err().to_string();
    assert!(error.contains("version 2 of subject") && error.contains("missing field `total`"), "{error}");
    drop(cents);
}

#[derive(Debug, Deserialize, Serialize)]
struct Cancelled {
    number: i64,
}

#[handler(topic = "overridden", event = "shop.Placed")]
async fn placed(Avro(value): Avro<Numbered>, Attempt(attempt): Attempt, seen: State<Seen>) -> HandlerResult {
    seen.note(value.number, attempt);
    Ok(())
}

#[handler(topic = "overridden", event = "shop.Cancelled")]
async fn cancelled(
    Avro(value): Avro<Cancelled>,
    Attempt(attempt): Attempt,
    seen: State<Seen>,
) -> HandlerResult {
    seen.note(-value.number, attempt);
    Ok(())
}

fn named(name: &str) -> String {
    format!(
        r#"{{"type": "record", "name": "{name}", "namespace": "shop", "fields": [{{"name": "number", "type": "int"}}]}}"#
    )
}

impl World {
    fn by_name(&self, seen: &Seen) -> App {
        self.app(self.route(placed {}), seen)
            .handler(self.route(cancelled {}))
            .event_type(self.topic.clone(), EventType::Schema)
            .unmatched(self.topic.clone(), Unmatched::DeadLetter)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn event_types_are_told_apart_by_the_names_of_their_schemas() {
    let stack = stack_or_leave_out!();
    let world = World::new(stack.clone(), 1).await;
    let encode = async |name: &str, number| {
        let encoder = encoder(&stack, &named(name)).subject(SubjectName::TopicRecord);
        encoder.value(&world.topic, &Numbered { number }).await.unwrap()
    };
    let values = [
        encode("Placed", 1).await,
        encode("Cancelled", 2).await,
        encode("Returned", 3).await,
        b"garbage".to_vec(),
        encode("Placed", 4).await,
    ];
    for value in &values {
        world.send(0, value).await;
    }
    let seen = Seen::default();
    let running = Running::start(world.by_name(&seen).schema_registry(registry(&stack)));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1, -2, 4], "in order, across handlers");
    let letters = world.letters().await;
    let said: Vec<_> = letters.iter().map(|letter| text(letter, "onceward.dlq.message")).collect();
    assert_eq!(letters.len(), 2, "{said:?}");
    assert!(said[0].contains("shop.Returned") && said[1].contains("none"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_of_a_union_are_event_types_of_their_own() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.registry.has(7, &format!("[{}, {}]", named("Cancelled"), named("Placed")));
    world.send(0, &framed(7, &[2, 2])).await;
    world.send(0, &framed(7, &[0, 4])).await;
    let seen = Seen::default();
    let running = Running::start(world.by_name(&seen));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1, -2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_wait_for_a_registry_that_cannot_say_their_event_type() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.registry.has(7, &named("Placed"));
    world.registry.is_in(Trouble::Says("503 Service Unavailable\r\n\r\n"));
    world.send(0, &framed(7, &datum(1))).await;
    let seen = Seen::default();
    let running = Running::start(world.by_name(&seen));
    eventually("it is asked for the schema", async || world.registry.asked_for(7) > 1).await;
    // Also a stop does not wait for it.
    running.stop().await.unwrap();
    assert!(seen.numbers().is_empty());
    let running = Running::start(world.by_name(&seen));
    world.registry.is_in(None);
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1]);
    assert!(seen.all_at_first());
    assert!(world.letters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_need_a_registry() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let app = world.stack.app().dedupe(DedupeKind::Memory).state(Seen::default());
    let app = app.handler(world.route(bytes {})).event_type(world.topic.clone(), EventType::Schema);
    let error = Running::start(app).ended().await.unwrap_err().to_string();
    assert!(error.contains("`EventType::Schema`") && error.contains("SCHEMA_REGISTRY_URL"), "{error}");
}

#[handler(topic = "overridden", event = "shop.Placed")]
async fn bytes(_: Bytes) -> HandlerResult {
    Ok(())
}

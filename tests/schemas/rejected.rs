//! Records that cannot be decoded by any schema go to the dead-letter topic at once.

use super::*;
use rdkafka::Message;
use support::{header, text};

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_decode_is_dead_lettered_with_its_reason_and_its_bytes() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.registry.has(7, NUMBER);
    world
        .registry
        .has(8, r#"{"type": "record", "name": "Other", "fields": [{"name": "secret", "type": "string"}]}"#);
    world.registry.has(9, "this is no schema");
    let protobuf = serde_json::json!({"schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF"});
    world.registry.answers("/schemas/ids/10?deleted=true", protobuf.to_string());
    let bad = [
        (framed(404, &datum(1)), "the value (schema id 404): the registry does not know it"),
        (framed(u32::MAX, &datum(1)), "the value (schema id 4294967295): 4294967295 is no schema id"),
        (framed(7, &[]), "the value (schema id 7): its bytes end too early, at `number`"),
        (framed(7, &[2, 2]), "the value (schema id 7): there are bytes behind its end"),
        (framed(8, b"\x0ehunter2"), "the value (schema id 8): missing field `number`"),
        (framed(9, &datum(1)), "the value (schema id 9): its Avro schema cannot be used"),
        (
            framed(10, &datum(1)),
            "the value (schema id 10): it is a schema of Protobuf, and the handler takes Avro",
        ),
        (b"{\"number\": 1}".to_vec(), "the value does not begin with the magic byte 0"),
        (vec![], "the value is empty"),
        (vec![0, 0, 0], "the value ends inside its schema id"),
    ];
    for (place, (value, _)) in (0u8..).zip(&bad) {
        world.send(0, &framed(7, &datum(place))).await;
        world.send(0, value).await;
    }
    let seen = Seen::default();
    let running = Running::start(world.app(world.route(one {}), &seen));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), (0..bad.len() as i64).collect::<Vec<_>>(), "the others go on, in order");
    let letters = world.letters().await;
    assert_eq!(letters.len(), bad.len());
    for (letter, (value, problem)) in letters.iter().zip(&bad) {
        assert_eq!(letter.payload().unwrap(), value);
        assert_eq!(text(letter, "onceward.dlq.reason"), "rejected");
        let said = text(letter, "onceward.dlq.message");
        assert!(said.starts_with(problem), "{said}");
        assert!(!said.contains("hunter"), "{said}");
        let id = problem.strip_prefix("the value (schema id ").map(|rest| rest.split_once(')').unwrap().0);
        assert_eq!(header(letter, "onceward.dlq.schema"), id.map(str::as_bytes), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_comes_late_to_the_registry_is_not_unknown() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.send(0, &framed(7, &datum(1))).await;
    let seen = Seen::default();
    let running = Running::start(world.app(world.route(one {}), &seen));
    eventually("it is asked", async || world.registry.asked_for(7) > 0).await;
    world.registry.has(7, NUMBER);
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1]);
    assert!(world.letters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_id_is_not_asked_for_by_each_record() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    for number in 0..20 {
        world.send(0, &framed(404, &datum(number))).await;
    }
    let running = Running::start(world.app(world.route(one {}), &Seen::default()));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(world.letters().await.len(), 20);
    assert_eq!(world.registry.asked_for(404), 2, "and once more, since it may have come late");
}

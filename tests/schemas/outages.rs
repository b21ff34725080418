//! A registry that cannot be asked is no record's fault.

use super::*;
use rdkafka::message::{Header, OwnedHeaders};
use stub::Trouble;

const TROUBLES: [Trouble; 9] = [
    Trouble::Says("503 Service Unavailable\r\n\r\n"),
    Trouble::Says("500 Internal Server Error\r\n\r\n{\"error_code\":50001,\"message\":\"store\"}"),
    Trouble::Says("429 Too Many Requests\r\nretry-after: 1\r\n\r\n"),
    Trouble::Says("401 Unauthorized\r\n\r\n{\"error_code\":40101,\"message\":\"who are you\"}"),
    Trouble::Says("404 Not Found\r\n\r\n<html>no such page</html>"),
    Trouble::Says("302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n"),
    Trouble::Says("200 OK\r\ncontent-type: text/html\r\n\r\n<html>please log in</html>"),
    Trouble::Says("200 OK\r\n\r\n{\"schema"),
    Trouble::IsSilent,
];

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_in_trouble_costs_no_attempt_and_no_record() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    for id in 0..TROUBLES.len() as u32 {
        world.registry.has(id, NUMBER);
    }
    let seen = Seen::default();
    let running = Running::start(world.app(world.route(one {}), &seen));
    for (place, trouble) in (0u8..).zip(TROUBLES) {
        let id = u32::from(place);
        world.registry.is_in(trouble);
        world.send(0, &framed(id, &datum(place))).await;
        eventually(&format!("{trouble:?}: it is asked twice"), async || world.registry.asked_for(id) >= 2)
            .await;
        assert_eq!(seen.numbers().len(), usize::from(place), "{trouble:?}");
        world.registry.is_in(None);
        eventually(&format!("{trouble:?} is over"), async || seen.numbers().len() > usize::from(place)).await;
    }
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), (0..TROUBLES.len() as i64).collect::<Vec<_>>());
    assert!(seen.all_at_first());
    assert!(world.letters().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_for_time_gets_it() {
    let world = World::new(stack_or_leave_out!(), 8).await;
    world.registry.has(1, NUMBER);
    world.registry.is_in(Trouble::Says("429 Too Many Requests\r\nretry-after: 3\r\n\r\n"));
    for partition in 0..8 {
        world.send(partition, &framed(1, &datum(1))).await;
    }
    let seen = Seen::default();
    let running = Running::start(world.app(world.route(one {}), &seen));
    eventually("it is asked", async || world.registry.asked_for(1) > 0).await;
    let since = std::time::Instant::now();
    eventually("it is asked again", async || world.registry.asked_for(1) > 1).await;
    assert!(since.elapsed() > Duration::from_millis(2500), "after {:?}", since.elapsed());
    world.registry.is_in(None);
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1; 8]);
}

#[tokio::test(flavor = "multi_thread")]
async fn known_schemas_need_no_registry() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.registry.has(1, NUMBER);
    world.send(0, &framed(1, &datum(1))).await;
    let seen = Seen::default();
    let running = Running::start(world.app(world.route(one {}), &seen));
    eventually("the first is handled", async || seen.numbers() == [1]).await;
    world.registry.is_in(Trouble::IsSilent);
    world.send(0, &framed(1, &datum(2))).await;
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_the_registry() {
    drains(Trouble::Says("503 Service Unavailable\r\n\r\n")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_an_answer_of_the_registry() {
    drains(Trouble::IsSilent).await;
}

async fn drains(trouble: Trouble) {
    let world = World::new(stack_or_leave_out!(), 1).await;
    world.registry.has(1, NUMBER);
    world.registry.is_in(trouble);
    world.send(0, &framed(1, &datum(1))).await;
    let seen = Seen::default();
    let mut patient = Config::default();
    patient.schema_registry.timeout = Some(Duration::from_secs(60));
    patient.schema_registry.check = Some(onceward::SchemaCheck::Off);
    let running = Running::start(world.app(world.route(one {}), &seen).config(patient));
    eventually("it is asked", async || world.registry.asked_for(1) > 0).await;
    // With what is left unfinished this would be an error.
    running.stop().await.unwrap();
    world.registry.is_in(None);
    let running = Running::start(world.app(world.route(one {}), &seen));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_is_told_who_asks() {
    let stack = stack_or_leave_out!();
    // "me:secret" in Base64.
    for (as_whom, user) in [("Basic bWU6c2VjcmV0", true), ("Bearer secret", false)] {
        let world = World::new(stack.clone(), 1).await;
        world.registry.has(7, NUMBER);
        world.send(0, &framed(7, &datum(1))).await;
        let mut registry = SchemaRegistryConfig::at(&world.registry.url);
        if user {
            (registry.username, registry.password) = (Some("me".into()), Some("secret".into()));
        } else {
            registry.token = Some("secret".into());
        }
        let seen = Seen::default();
        let running = Running::start(world.app(world.route(one {}), &seen).schema_registry(registry));
        world.caught_up().await;
        running.stop().await.unwrap();
        assert_eq!(seen.numbers(), [1]);
        assert_eq!(world.registry.asked_by().as_deref(), Some(as_whom));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_a_header_names_by_guid_is_looked_up() {
    let world = World::new(stack_or_leave_out!(), 1).await;
    let guid: Vec<u8> = (0..16).collect();
    let body = serde_json::json!({ "schema": NUMBER }).to_string();
    world.registry.answers("/schemas/guids/00010203-0405-0607-0809-0a0b0c0d0e0f?deleted=true", body);
    let id = [&[1], &guid[..]].concat();
    let headers = OwnedHeaders::new().insert(Header { key: "__value_schema_id", value: Some(&id) });
    let value = datum(5);
    let record = FutureRecord::<[u8], [u8]>::to(&world.topic).partition(0).payload(&value).headers(headers);
    world.stack.producer().send(record, Duration::from_secs(10)).await.unwrap();
    let seen = Seen::default();
    let running = Running::start(world.app(world.route(one {}), &seen));
    world.caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(seen.numbers(), [5]);
}

//! What cannot be meant is refused at startup.

use super::*;
use onceward::middleware::{DeadLetter, Idempotency, Retry};
use onceward::{DeadLetterConfig, ErrorPolicy, Route};
use rdkafka::admin::AdminOptions;
use support::{Running, stack_or_leave_out};

#[handler(topic = "overridden")]
async fn infallible(_payload: &[u8]) {}

#[handler(topic = "overridden")]
async fn fallible(_payload: &[u8]) -> HandlerResult {
    Ok(())
}

impl World {
    async fn refusal(&self, app: App) -> String {
        let error = format!("{:?}", Running::start(app).ended().await.unwrap_err());
        assert!(!error.contains('\n'), "{error}");
        assert_eq!(self.stack.committed(&self.group, &self.topic, 0), None, "{error}");
        error
    }

    async fn refuses(&self, route: Route<fallible>, names: &[&str]) {
        let error = self.refusal(self.stack.app().handler(route)).await;
        for name in names {
            assert!(error.contains(name), "`{name}` is missing in: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_cannot_be_meant_are_refused() {
    let world = World::new(stack_or_leave_out!(), 1, 1).await;
    let route = || world.route(fallible {});
    world.refuses(route().max_attempts(0), &["`fallible`", "`max_attempts` is 0", "1 means"]).await;
    world.refuses(route().max_starts(0), &["`max_starts` is 0"]).await;
    world.refuses(route().dead_letter(&world.topic), &[&world.topic, "own dead-letter topic"]).await;
    world.refuses(route().dead_letter("none").rejected("x"), &["`rejected`", "none"]).await;
    let both = || ErrorPolicy::Skip;
    let twice = route().on_error::<std::fmt::Error>(both()).on_error::<std::fmt::Error>(both());
    world.refuses(twice, &["two policies", "core::fmt::Error"]).await;

    let infallible = world.route(infallible {}).on_error::<std::fmt::Error>(ErrorPolicy::Skip);
    let error = world.refusal(world.stack.app().handler(infallible)).await;
    assert!(error.contains("returns no error") && error.contains("core::fmt::Error"), "{error}");

    let inside = world.route(fallible {}).stack((Retry, (DeadLetter, (Idempotency, ()))));
    let error = world.refusal(world.stack.app().handler(inside)).await;
    assert!(error.contains("`DeadLetter` stands inside `Retry`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_that_would_go_in_a_circle_are_refused() {
    let world = World::new(stack_or_leave_out!(), 1, 1).await;
    world.stack.topic_named(&world.letters, 1, &[]).await;
    let both = world.route(fallible {}).topics([&world.topic, &world.letters]);
    world.refuses(both, &[&world.letters, "circle", "another group"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_topic_that_could_not_take_a_copy_is_refused() {
    let world = World::new(stack_or_leave_out!(), 1, 1).await;
    let route = || world.route(fallible {});
    let never = DeadLetterConfig::default().create(false);
    let error = world.refusal(world.stack.app().dead_letters(never).handler(route())).await;
    assert!(error.contains(&world.letters) && error.contains("`dead_letter.create`"), "{error}");

    for (setting, value, says) in [
        ("cleanup.policy", "compact", "`cleanup.policy=delete`"),
        ("max.message.bytes", "1000", "`max.message.bytes` to 1114124"),
        ("min.insync.replicas", "2", "`min.insync.replicas`"),
    ] {
        world.stack.topic_named(&world.letters, 1, &[(setting, value)]).await;
        world.refuses(route(), &[&world.letters, says]).await;
        let deleted =
            world.stack.admin().delete_topics(&[&world.letters], &AdminOptions::new()).await.unwrap();
        assert!(deleted[0].is_ok(), "{deleted:?}");
        support::eventually("it is gone", async || {
            let found = rdkafka::consumer::Consumer::fetch_metadata(
                &world.stack.client().create::<rdkafka::consumer::BaseConsumer>().unwrap(),
                Some(&world.letters),
                support::PATIENCE,
            );
            found.unwrap().topics()[0].error().is_some()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_topic_is_refused_with_what_is_wrong_and_what_to_do() {
    let stack = stack_or_leave_out!();
    let topic = stack.topic_with("failures", 4, &[("max.message.bytes", "3000")]).await;
    let letters = format!("{topic}.dlq");
    let world = World { stack, topic, letters, group: unique("group") };
    let route = || world.route(fallible {});

    world.stack.topic_named(&world.letters, 1, &[("max.message.bytes", "3000")]).await;
    world.refuses(route(), &[&world.letters, "3000 bytes", "`max.message.bytes` to 68536"]).await;
    world.stack.alter_topic(&world.letters, &[("max.message.bytes", "100000")]).await;
    let mut to_source = DeadLetterConfig::default();
    to_source.partition = Some(onceward::DeadLetterPartition::Source);
    let error = world.refusal(world.stack.app().dead_letters(to_source).handler(route())).await;
    assert!(error.contains("has 1 partition") && error.contains("has 4"), "{error}");

    // Kafka takes `.` and `_` for one.
    let colliding = unique("letters").replace('-', "_");
    world.stack.topic_named(&colliding, 1, &[]).await;
    let wanted = colliding.replacen('_', ".", 1);
    world.refuses(route().dead_letter(&wanted), &[&wanted, "collide", &colliding]).await;
}

//! What handlers publish: acknowledged before their record is done, and known again on the other side.

use super::*;
use onceward::{HOPS_HEADER, IDENTITY_HEADER};
use support::{Breakable, Running, eventually, header, produce_one, stack_or_leave_out, text};

#[derive(Clone)]
struct Target(String);

#[handler(topic = "overridden")]
async fn double(payload: &[u8], target: State<Target>) -> HandlerResult<Vec<ProducerRecord>> {
    let number = number(payload)?;
    let one = |n: u32| {
        ProducerRecord::to(&target.0.0).key(number.to_string()).payload(n.to_string()).header("own", "1")
    };
    Ok(vec![one(number), one(number + 100)])
}

#[handler(topic = "overridden")]
async fn publish_in_the_middle(
    payload: &[u8],
    publisher: Publisher<'_>,
    target: State<Target>,
    calls: State<Calls>,
) -> HandlerResult {
    let record = ProducerRecord::to(&target.0.0).payload(payload.to_vec());
    let published = publisher.publish(record).await?;
    calls.note(u32::try_from(published.offset)?, 1);
    Ok(())
}

#[handler(topic = "overridden")]
async fn note(payload: &[u8], calls: State<Calls>) -> HandlerResult {
    calls.note(number(payload)?, 1);
    Ok(())
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread")]
async fn records_that_a_handler_returns_are_published_with_their_cause() {
    let world = World::new(stack_or_leave_out!(), 1, 0).await;
    let target = world.stack.topic("target", 1).await;
    let producer = world.stack.producer();
    produce_one(
        &producer,
        &world.topic,
        0,
        Some("1"),
        &[("ce_id", "e1"), ("ce_source", "/s"), ("traceparent", TRACE)],
    )
    .await;
    let inherited = [("ce_correlationid", "c"), ("ce_id", "e2"), (HOPS_HEADER, "3")];
    produce_one(&producer, &world.topic, 0, Some("2"), &inherited).await;
    let app = world.app(world.route(double {}), &Calls::default()).state(Target(target.clone()));
    let running = Running::start(app);
    world.caught_up(1).await;
    running.stop().await.unwrap();
    let published = read_all(&world.stack, &target, 0).await;
    assert_eq!(numbers(&published), [1, 101, 2, 102]);
    for (record, (correlation, causation, hops)) in
        published.iter().zip([("e1", "e1", "1"), ("e1", "e1", "1"), ("c", "e2", "4"), ("c", "e2", "4")])
    {
        assert_eq!(text(record, "ce_correlationid"), correlation);
        assert_eq!(text(record, "ce_causationid"), causation);
        assert_eq!(text(record, HOPS_HEADER), hops);
        assert_eq!(text(record, "own"), "1");
    }
    assert!(text(&published[0], "traceparent").starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    assert!(header(&published[2], "traceparent").is_none());
    let identities: std::collections::HashSet<&str> =
        published.iter().map(|record| text(record, IDENTITY_HEADER)).collect();
    assert_eq!(identities.len(), 4, "each is an event of its own");
}

/// The handler is called again, and what it publishes is known on the other side.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_published_twice_counts_once_in_the_next_service() {
    let world = World::new(stack_or_leave_out!(), 1, 5).await;
    let target = world.stack.topic("target", 1).await;
    let start = async || {
        // No dedupe: the second time around it publishes all again.
        let app = world
            .app(world.route(double {}), &Calls::default())
            .dedupe(DedupeKind::Off)
            .state(Target(target.clone()));
        let running = Running::start(app);
        world.caught_up(1).await;
        running.stop().await.unwrap();
    };
    start().await;
    let reset = Stack::ctl_command(&["tool", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"])
        .args(["--bootstrap-server", &world.stack.brokers, "--group", &world.group, "--topic", &world.topic])
        .args(["--reset-offsets", "--to-earliest", "--execute"])
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(reset.success());
    start().await;
    assert_eq!(read_all(&world.stack, &target, 0).await.len(), 20);

    let next =
        World { stack: world.stack.clone(), letters: String::new(), topic: target, group: unique("group") };
    let calls = Calls::default();
    let running = Running::start(next.app(next.route(note {}), &calls));
    next.caught_up(1).await;
    running.stop().await.unwrap();
    let mut seen: Vec<u32> = calls.all().into_iter().map(|(number, _)| number).collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_gives_the_place_of_what_is_acknowledged() {
    let world = World::new(stack_or_leave_out!(), 1, 5).await;
    let target = world.stack.topic("target", 1).await;
    let calls = Calls::default();
    let app = world.app(world.route(publish_in_the_middle {}), &calls).state(Target(target.clone()));
    let running = Running::start(app);
    world.caught_up(1).await;
    running.stop().await.unwrap();
    assert_eq!(calls.all(), (0..5).map(|offset| (offset, 1)).collect::<Vec<_>>());
    assert_eq!(numbers(&read_all(&world.stack, &target, 0).await), [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_publish_in_a_circle_are_stopped_by_a_dead_letter() {
    let world = World::new(stack_or_leave_out!(), 1, 1).await;
    let mut config = Config::default();
    config.max_hops = Some(5);
    let app = world
        .app(world.route(publish_in_the_middle {}), &Calls::default())
        .config(config)
        .state(Target(world.topic.clone()));
    let running = Running::start(app);
    eventually("the circle ends", async || world.stack.committed(&world.group, &world.topic, 0) == Some(6))
        .await;
    running.stop().await.unwrap();
    let letters = world.letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(text(&letters[0], "onceward.dlq.reason"), "max_hops");
    assert_eq!(text(&letters[0], HOPS_HEADER), "5");
}

/// Its record is not done before, and no attempt is counted meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_while_a_handler_publishes_counts_no_attempt() {
    let kafka = Breakable::start(stack_or_leave_out!());
    let world = World::new(kafka.stack.clone(), 1, 0).await;
    let target = world.stack.topic("target", 1).await;
    #[handler(topic = "overridden", max_attempts = 1)]
    async fn publish_slowly(
        payload: &[u8],
        Attempt(attempt): Attempt,
        target: State<Target>,
        calls: State<Calls>,
    ) -> HandlerResult<ProducerRecord> {
        calls.note(number(payload)?, attempt);
        if calls.all().len() == 1 {
            // Until the broker is away.
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Ok(ProducerRecord::to(&target.0.0).payload(payload.to_vec()))
    }
    produce_one(&world.stack.producer(), &world.topic, 0, Some("1"), &[]).await;
    let calls = Calls::default();
    // Longer than a record waits for its acknowledgement.
    let app = world
        .app(world.route(publish_slowly {}), &calls)
        .kafka("session.timeout.ms", "45000")
        .state(Target(target.clone()));
    let running = Running::start(app);
    eventually("the handler is called", async || calls.of(1) == 1).await;
    kafka.ctl(&["stop", "kafka", "--kill"]);
    eventually("it is called again", async || calls.of(1) > 1).await;
    kafka.ctl(&["start", "kafka"]);
    world.caught_up(1).await;
    running.stop().await.unwrap();
    assert!(calls.all().iter().all(|call| *call == (1, 1)), "{:?}", calls.all());
    assert!(!read_all(&world.stack, &target, 0).await.is_empty());
}

#[handler(topic = "overridden", max_attempts = 1)]
async fn forwards(
    payload: &[u8],
    Attempt(attempt): Attempt,
    target: State<Target>,
    calls: State<Calls>,
) -> HandlerResult<ProducerRecord> {
    calls.note(number(payload)?, attempt);
    Ok(ProducerRecord::to(&target.0.0).payload(payload.to_vec()))
}

/// Nothing is lost to the dead-letter topic meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_holds_the_partition_that_publishes_to_it_until_it_is_there() {
    let world = World::new(stack_or_leave_out!(), 1, 5).await;
    let (target, calls) = (unique("later"), Calls::default());
    let app = world.app(world.route(forwards {}), &calls).state(Target(target.clone()));
    let running = Running::start(app);
    eventually("it is tried again", async || calls.of(0) >= 3).await;
    assert!(calls.all().iter().all(|call| *call == (0, 1)), "{:?}", calls.all());
    world.stack.topic_named(&target, 1, &[]).await;
    world.caught_up(1).await;
    running.stop().await.unwrap();
    assert_eq!(numbers(&read_all(&world.stack, &target, 0).await), [0, 1, 2, 3, 4]);
    assert!(calls.all().iter().all(|(_, attempt)| *attempt == 1), "{:?}", calls.all());
}

/// No topic can ever have it, so that waiting would not help.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_topic_can_have_is_a_failure_of_the_record() {
    let world = World::new(stack_or_leave_out!(), 1, 1).await;
    let app = world.app(world.route(forwards {}), &Calls::default()).state(Target("no/name".to_owned()));
    let running = Running::start(app);
    world.caught_up(1).await;
    running.stop().await.unwrap();
    assert!(text(&world.letters().await[0], "onceward.dlq.message").contains("no topic can have this name"));
}

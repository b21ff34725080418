//! Handlers as users write them: what they take, what they read, and what stands around them.
#![allow(clippy::unwrap_used)] // In tests a panic is the report.

use onceward::middleware::{
    Delivery, Each, Idempotency, Middleware, Next, NextRun, Outcomes, RecordMiddleware, Run,
};
use onceward::prelude::*;
use onceward::{BoxRoute, Config, Error, TopicPartition, Unmatched};
use rdkafka::Message;
use rdkafka::message::{Header, Headers as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::FutureRecord;
use serde::Deserialize;
use std::borrow::Cow;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{
    PATIENCE, Running, Stack, eventually, fill, produce, produce_one, read_all, stack_or_leave_out, unique,
};

/// Lines that handlers leave, in order.
#[derive(Default, Clone)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn sorted(&self) -> Vec<String> {
        let mut lines = self.all();
        lines.sort();
        lines
    }
}

async fn catch_up(app: App, stack: &Stack, group: &str, topics: &[&str]) {
    let running = Running::start(app);
    for topic in topics {
        stack.caught_up(group, topic, 1).await;
    }
    running.stop().await.unwrap();
}

// --- what they take ---

#[derive(Deserialize)]
struct Flight<'a> {
    tailnum: &'a str,
    distance: i64,
}

#[derive(Debug, PartialEq)]
struct Tenant(String);

impl<'a> onceward::extract::FromRecord<'a> for Tenant {
    fn from_record(
        record: Record<'a>,
        _: &'a onceward::extract::Context,
    ) -> Result<Self, onceward::extract::Rejection> {
        let tenant = record.headers().get_str("tenant");
        tenant
            .map(|tenant| Self(tenant.to_owned()))
            .ok_or_else(|| onceward::extract::Rejection::new("no header `tenant`"))
    }
}

#[handler(topic = "overridden")]
#[allow(clippy::too_many_arguments)]
async fn take_all(
    Json(flight): Json<Flight<'_>>,
    copied: Bytes,
    borrowed: &[u8],
    Key(text): Key<&str>,
    Key(bytes): Key<&[u8]>,
    Key(owned): Key<String>,
    headers: Headers<'_>,
    record: Record<'_>,
    position: Position,
    Attempt(attempt): Attempt,
    tenant: Tenant,
    lines: State<Lines>,
) -> HandlerResult {
    assert_eq!(copied, borrowed);
    assert_eq!((text.as_bytes(), bytes, &*owned), (bytes, text.as_bytes(), text));
    assert_eq!(record.payload(), Some(borrowed));
    assert_eq!(headers.len(), 2);
    assert_eq!(headers.get("tenant"), Some(tenant.0.as_bytes()));
    assert_eq!(position.partition, TopicPartition::new(record.topic(), 0));
    assert_eq!((position.offset, position.timestamp), (1, Some(1_700_000_000_123)));
    lines.add(format!("{} {} {text} {tenant:?} {attempt}", flight.tailnum, flight.distance));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_takes_what_its_arguments_say() {
    let stack = stack_or_leave_out!();
    let topic = stack.topic_with("extract", 1, &[("retention.ms", "-1")]).await;
    let (group, lines) = (unique("group"), Lines::default());
    let producer = stack.producer();
    // So that the offset is not the default.
    let config = {
        let mut config = Config::default();
        config.start = Some(onceward::Start::Offset(1));
        config
    };
    produce_one(&producer, &topic, 0, Some("not looked at"), &[]).await;
    let headers = OwnedHeaders::new()
        .insert(Header { key: "tenant", value: Some("first") })
        .insert(Header { key: "tenant", value: Some("acme") });
    let record = FutureRecord::<str, str>::to(&topic)
        .key("N14228")
        .payload(r#"{"tailnum": "N14228", "distance": 1400}"#)
        .headers(headers)
        .timestamp(1_700_000_000_123);
    producer.send(record, PATIENCE).await.unwrap();
    let route = take_all {}.route().topic(&topic).group(&group);
    let app = stack.app().config(config).state(lines.clone()).handler(route);
    catch_up(app, &stack, &group, &[&topic]).await;
    assert_eq!(lines.all(), [r#"N14228 1400 N14228 Tenant("acme") 1"#]);
}

#[handler(topic = "overridden")]
async fn take_numbers(
    Key(signed): Key<i64>,
    Key(maybe): Key<Option<u32>>,
    Key(bytes): Key<Vec<u8>>,
    lines: State<Lines>,
) {
    lines.add(format!("{signed} {maybe:?} {bytes:?}"));
}

#[handler(topic = "overridden")]
async fn take_maybe(
    Key(key): Key<Option<&str>>,
    payload: Option<&[u8]>,
    copied: Option<Bytes>,
    Json(json): Json<Option<i64>>,
    lines: State<Lines>,
) {
    assert_eq!(payload, copied.as_deref());
    lines.add(format!("{key:?} {payload:?} {json:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_numbers_and_nothing_is_an_option() {
    let stack = stack_or_leave_out!();
    let (topic, group, lines) = (stack.topic("options", 1).await, unique("group"), Lines::default());
    let producer = stack.producer();
    produce(&producer, &topic, [("17".to_owned(), "4".to_owned())]).await;
    let route = take_numbers {}.route().topic(&topic).group(&group);
    catch_up(stack.app().state(lines.clone()).handler(route), &stack, &group, &[&topic]).await;
    assert_eq!(lines.all(), ["17 Some(17) [49, 55]"]);

    let (group, lines) = (unique("group"), Lines::default());
    produce_one(&producer, &topic, 0, None, &[]).await;
    let route = take_maybe {}.route().topic(&topic).group(&group);
    catch_up(stack.app().state(lines.clone()).handler(route), &stack, &group, &[&topic]).await;
    assert_eq!(lines.all(), [r#"Some("17") Some([52]) Some(4)"#, "None None None"]);
}

#[handler(topic = "overridden", tombstones = "skip")]
async fn skip_tombstones(payload: &[u8], lines: State<Lines>) -> HandlerResult {
    lines.add(std::str::from_utf8(payload)?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_are_skipped_where_the_handler_says_so_and_an_empty_payload_is_none() {
    let stack = stack_or_leave_out!();
    let (topic, group, lines) = (stack.topic("tombstones", 1).await, unique("group"), Lines::default());
    let producer = stack.producer();
    for payload in [Some("1"), None, Some(""), None, Some("2")] {
        produce_one(&producer, &topic, 0, payload, &[]).await;
    }
    let route = skip_tombstones {}.route().topic(&topic).group(&group);
    catch_up(stack.app().state(lines.clone()).handler(route), &stack, &group, &[&topic]).await;
    assert_eq!(lines.all(), ["1", "", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_was_not_given_is_refused_at_startup() {
    let stack = stack_or_leave_out!();
    let topic = stack.topic("stateless", 1).await;
    let route = skip_tombstones {}.route().topic(&topic).group(unique("group"));
    let error = stack.app().handler(route).run().await.unwrap_err();
    assert_eq!(
        format!("{error:?}"),
        "handler `skip_tombstones`: it takes `State<handlers::Lines>`, but the application has no states; give it with \
         `App::state(..)`"
    );
}

// --- batches ---

#[handler(topic = "overridden", max_run_records = 7)]
async fn sum(numbers: Batch<(Key<String>, Json<i64>)>, lines: State<Lines>) -> HandlerResult {
    assert!((1..=7).contains(&numbers.len()));
    let sum: i64 = numbers.iter().map(|(_, Json(number))| number).sum();
    lines.add(sum.to_string());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_handler_gets_all_records_in_runs_of_bounded_size() {
    let stack = stack_or_leave_out!();
    let (topic, group, lines) = (stack.topic("batch", 1).await, unique("group"), Lines::default());
    fill(&stack, &topic, 0, 100).await;
    let route = sum {}.route().topic(&topic).group(&group);
    catch_up(stack.app().state(lines.clone()).handler(route), &stack, &group, &[&topic]).await;
    let lines = lines.all();
    assert!((100_usize.div_ceil(7)..100).contains(&lines.len()), "{lines:?}");
    assert_eq!(lines.iter().map(|line| line.parse::<i64>().unwrap()).sum::<i64>(), 99 * 50);
}

/// Record 5 fails twice; it says so by its place, or for all of the batch.
#[derive(Default, Clone)]
struct Failures(Arc<AtomicUsize>);

impl Failures {
    fn fails(&self, number: i64) -> bool {
        number == 5 && self.0.fetch_add(1, Ordering::Relaxed) < 2
    }
}

#[handler(topic = "overridden")]
async fn say_which(
    numbers: Batch<(Json<i64>, Attempt)>,
    failures: State<Failures>,
    lines: State<Lines>,
) -> Vec<HandlerResult> {
    let one = |(Json(number), Attempt(attempt))| {
        if failures.fails(number) {
            return Err(HandlerError::new("not yet").retry_after(Duration::from_millis(10)));
        }
        lines.add(format!("{number} at attempt {attempt}"));
        Ok(())
    };
    numbers.into_iter().map(one).collect()
}

#[handler(topic = "overridden")]
async fn say_nothing(
    numbers: Batch<(Json<i64>, Attempt)>,
    failures: State<Failures>,
    lines: State<Lines>,
) -> HandlerResult {
    if numbers.iter().any(|(Json(number), _)| failures.fails(*number)) {
        return Err(HandlerError::new("one of them"));
    }
    for (Json(number), Attempt(attempt)) in numbers {
        lines.add(format!("{number} at attempt {attempt}"));
    }
    Ok(())
}

fn attempts(of: impl IntoIterator<Item = i64>, failed: u32) -> Vec<String> {
    let attempt = |number| if number == 5 { failed + 1 } else { 1 };
    of.into_iter().map(|number| format!("{number} at attempt {}", attempt(number))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_only_the_record_that_failed_is_tried_again() {
    let stack = stack_or_leave_out!();
    let (topic, group, lines) = (stack.topic("culprit", 1).await, unique("group"), Lines::default());
    fill(&stack, &topic, 0, 10).await;
    let route = say_which {}.route().topic(&topic).group(&group);
    let app = stack.app().state(lines.clone()).state(Failures::default()).handler(route);
    catch_up(app, &stack, &group, &[&topic]).await;
    // The others of its batch were done with it.
    assert_eq!(lines.sorted(), attempts(0..10, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_that_makes_a_batch_fail_is_found_and_holds_back_those_after_it() {
    let stack = stack_or_leave_out!();
    let (topic, group, lines) = (stack.topic("halving", 1).await, unique("group"), Lines::default());
    fill(&stack, &topic, 0, 10).await;
    // It fails while it is looked for, and once more alone.
    let failures = Failures(Arc::new(AtomicUsize::new(usize::MAX - 20)));
    let route = say_nothing {}.route().topic(&topic).group(&group);
    let app = stack.app().state(lines.clone()).state(failures.clone()).handler(route);
    let running = Running::start(app);
    stack.caught_up(&group, &topic, 1).await;
    running.stop().await.unwrap();
    assert_eq!(lines.all(), attempts(0..10, 0));
}

// --- several of them ---

#[handler(topic = "overridden")]
async fn one(record: Record<'_>, lines: State<Lines>) {
    lines.add(format!("one {}", record.topic()));
}

#[handler(topic = "overridden")]
async fn other(record: Record<'_>, lines: State<Lines>) {
    lines.add(format!("other {}", record.topic()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_application_has_several_handlers_topics_patterns_and_groups() {
    let stack = stack_or_leave_out!();
    let prefix = unique("several");
    let topics: Vec<String> = {
        let mut topics = Vec::new();
        for name in ["a", "b", "c-1", "c-2"] {
            topics.push(stack.topic(&format!("{prefix}-{name}"), 1).await);
        }
        topics
    };
    let (groups, lines) = ([unique("group"), unique("group")], Lines::default());
    for topic in &topics {
        fill(&stack, topic, 0, 1).await;
    }
    let pattern = format!("^{prefix}-c-[0-9]-");
    let app = stack
        .app()
        .state(lines.clone())
        .handler(one {}.route().topics(&topics[..2]).group(&groups[0]))
        .handler(other {}.route().topic(&pattern).group(&groups[0]))
        // Another group gets the same records.
        .handler(other {}.route().topics([&topics[0]]).group(&groups[1]));
    let running = Running::start(app);
    for topic in &topics {
        stack.caught_up(&groups[0], topic, 1).await;
    }
    stack.caught_up(&groups[1], &topics[0], 1).await;
    running.stop().await.unwrap();
    let mut expected = vec![
        format!("one {}", topics[0]),
        format!("one {}", topics[1]),
        format!("other {}", topics[2]),
        format!("other {}", topics[3]),
        format!("other {}", topics[0]),
    ];
    expected.sort();
    assert_eq!(lines.sorted(), expected);
}

// --- several types of events on a topic ---

#[handler(topic = "overridden", event = "departed")]
async fn departed(payload: &[u8], lines: State<Lines>) -> HandlerResult {
    lines.add(format!("departed {}", std::str::from_utf8(payload)?));
    Ok(())
}

#[handler(topic = "overridden", event = "landed")]
async fn landed(payload: &[u8], lines: State<Lines>) -> HandlerResult {
    lines.add(format!("landed {}", std::str::from_utf8(payload)?));
    Ok(())
}

fn by_type(stack: &Stack, topic: &str, group: &str, lines: &Lines) -> App {
    stack
        .app()
        .state(lines.clone())
        .handler(departed {}.route().topic(topic).group(group))
        .handler(landed {}.route().topic(topic).group(group))
}

fn by_first_letter(record: Record<'_>) -> Option<Cow<'_, str>> {
    record.payload()?.first().map(|letter| Cow::from(if *letter == b'd' { "departed" } else { "landed" }))
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_to_their_handlers_by_header_field_or_function() {
    let stack = stack_or_leave_out!();
    let producer = stack.producer();
    type Events<'e> = &'e [(&'e str, &'e [(&'e str, &'e str)])];
    let cases: [(&str, Option<EventType>, Events<'_>); 4] = [
        ("default", None, &[("1", &[("ce_type", "departed")]), ("2", &[("ce_type", "landed")])]),
        (
            "header",
            Some(EventType::header("kind")),
            &[("1", &[("kind", "departed")]), ("2", &[("ce_type", "departed"), ("kind", "landed")])],
        ),
        (
            "field",
            Some(EventType::field("type")),
            &[(r#"{"type": "departed"}"#, &[]), (r#"{"n": 2, "type": "landed"}"#, &[])],
        ),
        ("function", Some(EventType::function(by_first_letter)), &[("d1", &[]), ("l2", &[])]),
    ];
    for (name, event_type, events) in cases {
        let (topic, group, lines) = (stack.topic(name, 1).await, unique("group"), Lines::default());
        for (payload, headers) in events {
            produce_one(&producer, &topic, 0, Some(payload), headers).await;
        }
        let mut app = by_type(&stack, &topic, &group, &lines);
        if let Some(event_type) = event_type {
            app = app.event_type(&topic, event_type);
        }
        catch_up(app, &stack, &group, &[&topic]).await;
        assert_eq!(
            lines.all(),
            [format!("departed {}", events[0].0), format!("landed {}", events[1].0)],
            "{name}"
        );
    }
}

/// A topic with an event of each type, and one of neither between them.
async fn with_a_stranger(stack: &Stack) -> String {
    let topic = stack.topic("stranger", 1).await;
    let producer = stack.producer();
    for (payload, event) in [("1", "departed"), ("2", "painted"), ("3", "landed")] {
        produce_one(&producer, &topic, 0, Some(payload), &[("ce_type", event)]).await;
    }
    topic
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_no_handler_takes_is_skipped_where_that_was_said() {
    let stack = stack_or_leave_out!();
    let (topic, group, lines) = (with_a_stranger(&stack).await, unique("group"), Lines::default());
    let app = by_type(&stack, &topic, &group, &lines).unmatched(&topic, Unmatched::Skip);
    catch_up(app, &stack, &group, &[&topic]).await;
    assert_eq!(lines.all(), ["departed 1", "landed 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_no_handler_takes_stops_the_application_and_is_not_committed() {
    let stack = stack_or_leave_out!();
    let (topic, group, lines) = (with_a_stranger(&stack).await, unique("group"), Lines::default());
    let error = Running::start(by_type(&stack, &topic, &group, &lines)).ended().await.unwrap_err();
    assert!(matches!(&error, Error::Unmatched { offset: 1, event, .. } if event == "painted"), "{error:?}");
    assert!(error.to_string().contains(&format!("{topic}/0/1")), "{error}");
    assert_eq!(lines.all(), ["departed 1"]);
    assert_eq!(stack.committed(&group, &topic, 0), Some(1));
}

fn headers_of(message: &OwnedMessage) -> Vec<(String, Option<Vec<u8>>)> {
    let headers = message.headers().unwrap();
    headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_in_the_dead_letter_topic_is_the_record_byte_for_byte() {
    let stack = stack_or_leave_out!();
    let topic = stack.topic("copied", 1).await;
    let letters = format!("{topic}.dlq");
    stack.topic_named(&letters, 1, &[]).await;
    let (group, lines) = (unique("group"), Lines::default());
    let producer = stack.producer();
    let headers = OwnedHeaders::new()
        .insert(Header { key: "b", value: Some("1") })
        .insert(Header::<&str> { key: "A", value: None })
        .insert(Header { key: "b", value: Some(&[0xff, 0][..]) })
        .insert(Header { key: "a", value: Some("") });
    type Part = Option<&'static [u8]>;
    let originals: [(Part, Part); 4] = [
        (Some(b"\xff\0key"), Some(b"\xfe\0payload")),
        (None, None),
        (Some(b""), Some(b"")),
        (None, Some(b"x")),
    ];
    for (key, payload) in originals {
        let mut record = FutureRecord::<[u8], [u8]>::to(&topic).partition(0).headers(headers.clone());
        (record.key, record.payload) = (key, payload);
        producer.send(record, PATIENCE).await.unwrap();
    }
    let app = by_type(&stack, &topic, &group, &lines).unmatched(&topic, Unmatched::DeadLetter);
    catch_up(app, &stack, &group, &[&topic]).await;
    assert!(lines.all().is_empty());

    let copies = read_all(&stack, &letters, 0).await;
    assert_eq!(stack.watermarks(&letters, 0), (0, 4), "each once");
    for (offset, (copy, (key, payload))) in copies.iter().zip(originals).enumerate() {
        assert_eq!((copy.key(), copy.payload()), (key, payload));
        let headers = headers_of(copy);
        let theirs = [("b", Some(&b"1"[..])), ("A", None), ("b", Some(&[0xff, 0])), ("a", Some(b""))];
        let theirs = theirs.map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
        assert_eq!(headers[..4], theirs);
        let text = |name: &str| {
            let (_, value) = headers[4..].iter().find(|(header, _)| header == name).unwrap();
            String::from_utf8(value.clone().unwrap()).unwrap()
        };
        assert_eq!(text("onceward.dlq.topic"), topic);
        assert_eq!(text("onceward.dlq.offset"), offset.to_string());
        assert_eq!(text("onceward.dlq.group"), group);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_topic_that_is_missing_is_refused_at_startup() {
    let stack = stack_or_leave_out!();
    let (topic, group, lines) = (with_a_stranger(&stack).await, unique("group"), Lines::default());
    let never = onceward::DeadLetterConfig::default().create(false);
    let app = by_type(&stack, &topic, &group, &lines).dead_letters(never);
    let error = app.run().await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("`{topic}.dlq`: it does not exist, and `dead_letter.create`")),
        "{error}"
    );
    assert!(lines.all().is_empty());
}

/// The offset moves when the copy is acknowledged, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_the_broker_refuses_holds_its_record_back_until_it_takes_it() {
    let stack = stack_or_leave_out!();
    let topic = stack.topic("refused", 1).await;
    let letters = format!("{topic}.dlq");
    stack.topic_named(&letters, 1, &[]).await;
    let (group, lines) = (unique("group"), Lines::default());
    // Copies are compressed, which makes no text of chance that small.
    let mut random = fastrand::Rng::with_seed(7);
    let payload: String = std::iter::repeat_with(|| random.alphanumeric()).take(10_000).collect();
    produce_one(&stack.producer(), &topic, 0, Some("1"), &[("ce_type", "departed")]).await;
    let app = by_type(&stack, &topic, &group, &lines).unmatched(&topic, Unmatched::DeadLetter);
    let running = Running::start(app);
    eventually("it runs", async || lines.all() == ["departed 1"]).await;
    // At the start it would be refused.
    stack.alter_topic(&letters, &[("max.message.bytes", "2000")]).await;
    produce_one(&stack.producer(), &topic, 0, Some(&payload), &[("ce_type", "painted")]).await;
    produce_one(&stack.producer(), &topic, 0, Some("3"), &[("ce_type", "landed")]).await;
    eventually("what is before it is committed", async || stack.committed(&group, &topic, 0) == Some(1))
        .await;
    assert_eq!(lines.all(), ["departed 1"]);
    stack.alter_topic(&letters, &[("max.message.bytes", "100000")]).await;
    stack.caught_up(&group, &topic, 1).await;
    running.stop().await.unwrap();
    assert_eq!(lines.all(), ["departed 1", "landed 3"]);
    assert_eq!(stack.watermarks(&letters, 0), (0, 1));
}

/// A policy that names one of a pattern's topics counts for that one.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_may_name_one_topic_of_a_pattern() {
    let stack = stack_or_leave_out!();
    let (topic, group, lines) = (with_a_stranger(&stack).await, unique("group"), Lines::default());
    let letters = format!("{topic}.dlq");
    stack.topic_named(&letters, 1, &[]).await;
    let pattern = format!("^{topic}$");
    let app = by_type(&stack, &pattern, &group, &lines).unmatched(&topic, Unmatched::DeadLetter);
    catch_up(app, &stack, &group, &[&topic]).await;
    assert_eq!(lines.all(), ["departed 1", "landed 3"]);
    assert_eq!(stack.watermarks(&letters, 0), (0, 1));
}

// --- what stands around them ---

/// Notes when it is gone through, around each record.
struct Around(&'static str, Lines);

impl RecordMiddleware for Around {
    async fn call<'a, N: Next<'a>>(&'a self, delivery: Delivery<'a>, next: N) -> HandlerResult<Outcome> {
        let offset = delivery.record().offset();
        self.1.add(format!("{} in {offset}", self.0));
        let outcome = next.run(delivery).await;
        self.1.add(format!("{} out {offset}", self.0));
        outcome
    }
}

/// Notes when it is gone through, around each run, and how its records ended.
struct AroundRun(&'static str, Lines);

impl Middleware for AroundRun {
    async fn call<'a, N: NextRun>(&'a self, run: Run<'a>, next: &'a N) -> Outcomes {
        self.1.add(format!("{} in", self.0));
        let outcomes = next.run(run).await;
        let ends: Vec<_> = outcomes.iter().map(Outcome::name).collect();
        self.1.add(format!("{} out {}", self.0, ends.join(" ")));
        outcomes
    }
}

#[handler(topic = "overridden")]
async fn note(position: Position, lines: State<Lines>) {
    lines.add(format!("handler {}", position.offset));
}

#[tokio::test(flavor = "multi_thread")]
async fn middleware_is_gone_through_from_the_outermost_and_back() {
    let stack = stack_or_leave_out!();
    let (topic, group, lines) = (stack.topic("middleware", 1).await, unique("group"), Lines::default());
    fill(&stack, &topic, 0, 1).await;
    let route: BoxRoute = note {}
        .route()
        .topic(&topic)
        .group(&group)
        .middleware(Around("first", lines.clone()))
        .middleware(Around("second", lines.clone()))
        .around(AroundRun("inner", lines.clone()))
        .around(AroundRun("outer", lines.clone()))
        .boxed();
    catch_up(stack.app().state(lines.clone()).handler(route), &stack, &group, &[&topic]).await;
    assert_eq!(
        lines.all(),
        [
            "outer in",
            "inner in",
            "first in 0",
            "second in 0",
            "handler 0",
            "second out 0",
            "first out 0",
            "inner out completed",
            "outer out completed"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_ones_own_takes_the_place_of_the_default_one() {
    let stack = stack_or_leave_out!();
    let (topic, group, lines) = (stack.topic("list", 1).await, unique("group"), Lines::default());
    fill(&stack, &topic, 0, 1).await;
    let list = (Idempotency, (Each(Around("only", lines.clone())), ()));
    let route = note {}.route().topic(&topic).group(&group).stack(list);
    catch_up(stack.app().state(lines.clone()).handler(route), &stack, &group, &[&topic]).await;
    assert_eq!(lines.all(), ["only in 0", "handler 0", "only out 0"]);
}

#[handler(topic = "overridden")]
async fn panic_twice(Attempt(attempt): Attempt, position: Position, lines: State<Lines>) {
    assert!(position.offset != 3 || attempt > 2, "attempt {attempt} panics");
    lines.add(format!("{} at attempt {attempt}", position.offset));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_is_called_again() {
    let stack = stack_or_leave_out!();
    let (topic, group, lines) = (stack.topic("panic", 1).await, unique("group"), Lines::default());
    fill(&stack, &topic, 0, 6).await;
    let route = panic_twice {}.route().topic(&topic).group(&group);
    catch_up(stack.app().state(lines.clone()).handler(route), &stack, &group, &[&topic]).await;
    let expected = [(0, 1), (1, 1), (2, 1), (3, 3), (4, 1), (5, 1)];
    assert_eq!(lines.all(), expected.map(|(offset, attempt)| format!("{offset} at attempt {attempt}")));
}

#[handler(topic = "overridden", timeout = "100ms")]
async fn hang_once(Attempt(attempt): Attempt, lines: State<Lines>) {
    if attempt == 1 {
        std::future::pending::<()>().await;
    }
    lines.add(format!("attempt {attempt}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_runs_past_its_timeout_is_called_again() {
    let stack = stack_or_leave_out!();
    let (topic, group, lines) = (stack.topic("timeout", 1).await, unique("group"), Lines::default());
    fill(&stack, &topic, 0, 1).await;
    let route = hang_once {}.route().topic(&topic).group(&group);
    catch_up(stack.app().state(lines.clone()).handler(route), &stack, &group, &[&topic]).await;
    assert_eq!(lines.all(), ["attempt 2"]);
}

// --- what configuration overrides ---

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_stronger_than_code() {
    let stack = stack_or_leave_out!();
    let (topic, group, lines) = (stack.topic("file", 1).await, unique("group"), Lines::default());
    fill(&stack, &topic, 0, 10).await;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{group}.toml"));
    let text = format!(
        "start = \"offset:4\"\n[handlers.sum]\ntopic = \"{topic}\"\ngroup = \"{group}\"\nmax_run_records = 1\n"
    );
    std::fs::write(&path, text).unwrap();
    let route = sum {}.route().topic("another").group("another");
    let app = stack.app().config(Config::file(&path).unwrap()).state(lines.clone()).handler(route);
    catch_up(app, &stack, &group, &[&topic]).await;
    assert_eq!(lines.all(), ["4", "5", "6", "7", "8", "9"]);
    std::fs::remove_file(path).unwrap();
}

#[tokio::test]
#[ignore = "a program that another test starts"]
async fn program_that_is_set_by_its_environment() {
    let Ok(path) = std::env::var("TEST_DONE") else { return };
    let done = Arc::new(AtomicBool::new(false));
    let lines = Lines::default();
    let app = App::from_env().unwrap().state(lines.clone()).handler(sum {}.route().group("another"));
    let running = Running::start(app);
    eventually("both are handled", async || lines.all().len() == 2).await;
    running.stop().await.unwrap();
    done.store(true, Ordering::Relaxed);
    std::fs::write(path, lines.all().join(" ")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_stronger_than_the_file_it_names() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("environment", 1).await, unique("group"));
    fill(&stack, &topic, 0, 10).await;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (file, done) = (folder.join(format!("{group}.toml")), folder.join(format!("{group}.done")));
    let text =
        "dedupe = \"off\"\nstart = \"offset:8\"\n[handlers.sum]\ntopic = \"nowhere\"\nmax_run_records = 1\n";
    std::fs::write(&file, text).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "program_that_is_set_by_its_environment", "--ignored"])
        .env("TEST_DONE", &done)
        .env("ONCEWARD_CONFIG", &file)
        .env("ONCEWARD_HANDLERS__SUM__TOPIC", &topic)
        .env("ONCEWARD_HANDLERS__SUM__GROUP", &group)
        .env("ONCEWARD_KAFKA__FETCH_WAIT_MAX_MS", "100")
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(std::fs::read_to_string(&done).unwrap(), "8 9");
    std::fs::remove_file(file).unwrap();
    std::fs::remove_file(done).unwrap();
}

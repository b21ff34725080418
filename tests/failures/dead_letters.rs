//! Copies of what was given up: exact, safe before the offset moves, and once.

use super::*;
use onceward::middleware::{Delivery, Next, RecordMiddleware};
use onceward::{DeadLetterConfig, DeadLetterPartition, HeaderFamily, REDRIVEN_HEADER};
use rdkafka::admin::AdminOptions;
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use support::{
    Breakable, Database, PATIENCE, Program, Proxy, Running, Signal, eventually, header, produce_one,
    stack_or_leave_out, text,
};
use tokio::sync::{Notify, Semaphore};

/// Fails where the payload does not begin with a digit.
#[handler(topic = "overridden", max_attempts = 1)]
async fn only_digits(payload: Option<&[u8]>, calls: State<Calls>) -> HandlerResult {
    let first = payload.and_then(|payload| payload.first()).copied().unwrap_or_default();
    if !first.is_ascii_digit() {
        return Err(HandlerError::new("no digit").permanent());
    }
    calls.note(u32::from(first - b'0'), 1);
    Ok(())
}

fn headers_of(message: &OwnedMessage) -> Vec<(String, Option<Vec<u8>>)> {
    let headers = message.headers().unwrap();
    headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_the_record_byte_for_byte_and_says_what_happened() {
    let stack = stack_or_leave_out!();
    // Or its old records would be deleted.
    let topic = stack.topic_with("failures", 1, &[("retention.ms", "-1")]).await;
    let world = World { letters: format!("{topic}.dlq"), group: unique("group"), topic, stack };
    let theirs = OwnedHeaders::new()
        .insert(Header { key: "b", value: Some("1") })
        .insert(Header::<&str> { key: "A", value: None })
        .insert(Header { key: "b", value: Some(&[0xff, 0][..]) })
        .insert(Header { key: "Authorization", value: Some("secret") })
        .insert(Header { key: "a", value: Some("") });
    type Part = Option<&'static [u8]>;
    let originals: [(Part, Part); 4] = [
        (Some(b"\xff\0key"), Some(b"\xfe\0payload")),
        (None, None),
        (Some(b""), Some(b"")),
        (None, Some(b"x")),
    ];
    for (key, payload) in originals {
        let mut record =
            FutureRecord::<[u8], [u8]>::to(&world.topic).headers(theirs.clone()).timestamp(1_700_000_000_000);
        (record.key, record.payload) = (key, payload);
        world.stack.producer().send(record, PATIENCE).await.unwrap();
    }
    let mut config = DeadLetterConfig::default();
    config.headers = Some(vec![HeaderFamily::Spring, HeaderFamily::Connect, HeaderFamily::Streams]);
    config.drop_headers = vec!["authorization".to_owned()];
    let app = world.app(world.route(only_digits {}), &Calls::default()).dead_letters(config);
    let running = Running::start(app);
    world.caught_up(1).await;
    running.stop().await.unwrap();

    let letters = world.letters().await;
    assert_eq!(letters.len(), originals.len(), "each once");
    for (offset, (letter, (key, payload))) in (0_i64..).zip(letters.iter().zip(originals)) {
        assert_eq!((letter.key(), letter.payload()), (key, payload));
        let kept = [("b", Some(&b"1"[..])), ("A", None), ("b", Some(&[0xff, 0])), ("a", Some(b""))];
        let kept = kept.map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
        assert_eq!(headers_of(letter)[..4], kept);
        for (name, value) in [
            ("onceward.dlq.topic", &*world.topic),
            ("onceward.dlq.partition", "0"),
            ("onceward.dlq.offset", &offset.to_string()),
            ("onceward.dlq.timestamp", "1700000000000"),
            ("onceward.dlq.group", &world.group),
            ("onceward.dlq.handler", "only_digits"),
            ("onceward.dlq.reason", "permanent"),
            ("onceward.dlq.attempts", "1"),
            ("onceward.dlq.message", "no digit"),
            ("kafka_dlt-original-topic", &world.topic),
            ("kafka_dlt-original-consumer-group", &world.group),
            ("kafka_dlt-original-timestamp-type", "CreateTime"),
            ("kafka_dlt-exception-message", "no digit"),
            ("__connect.errors.topic", &world.topic),
            ("__connect.errors.offset", &offset.to_string()),
            ("__streams.errors.partition", "0"),
        ] {
            assert_eq!(text(letter, name), value, "{name}");
        }
        assert_eq!(header(letter, "kafka_dlt-original-partition"), Some(&0_i32.to_be_bytes()[..]));
        assert_eq!(header(letter, "kafka_dlt-original-offset"), Some(&offset.to_be_bytes()[..]));
        assert_eq!(
            header(letter, "kafka_dlt-original-timestamp"),
            Some(&1_700_000_000_000_i64.to_be_bytes()[..])
        );
        assert!(letter.timestamp().to_millis().unwrap() > 1_700_000_000_000, "the copy's own is now");
        assert!(header(letter, "onceward.identity").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_dies_again_keeps_where_it_came_from_first() {
    let world = World::new(stack_or_leave_out!(), 1, 0).await;
    produce_one(&world.stack.producer(), &world.topic, 0, Some("x"), &[]).await;
    let running = Running::start(world.app(world.route(only_digits {}), &Calls::default()));
    world.caught_up(1).await;
    running.stop().await.unwrap();
    let again = World {
        stack: world.stack.clone(),
        topic: world.letters.clone(),
        letters: format!("{}.dlq", world.letters),
        group: unique("group"),
    };
    let running = Running::start(again.app(again.route(only_digits {}), &Calls::default()));
    again.stack.caught_up(&again.group, &again.topic, 1).await;
    running.stop().await.unwrap();
    let (first, second) = (world.letters().await, again.letters().await);
    assert_eq!(text(&second[0], "onceward.dlq.topic"), world.topic);
    assert_eq!(text(&second[0], "kafka_dlt-original-topic"), world.topic);
    assert_eq!(text(&second[0], "onceward.identity"), text(&first[0], "onceward.identity"));
    let origins = headers_of(&second[0]).iter().filter(|(name, _)| name == "onceward.dlq.topic").count();
    assert_eq!(origins, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_decode_goes_there_at_once_and_to_a_topic_of_its_own_where_one_is_set() {
    let world = World::new(stack_or_leave_out!(), 1, 0).await;
    #[handler(topic = "overridden")]
    async fn take_json(Json(number): Json<u32>, calls: State<Calls>) -> HandlerResult {
        calls.note(number, 1);
        if number == 2 { Err(HandlerError::new("for good").permanent()) } else { Ok(()) }
    }
    for payload in ["1", r#"{"password": "hunter2"}"#, "\"hunter2\"", "2", "3"] {
        produce_one(&world.stack.producer(), &world.topic, 0, Some(payload), &[]).await;
    }
    let rejected = format!("{}.rejected", world.topic);
    let calls = Calls::default();
    let running = Running::start(world.app(world.route(take_json {}).rejected(&rejected), &calls));
    world.caught_up(1).await;
    running.stop().await.unwrap();
    assert_eq!(calls.all(), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(numbers(&world.letters().await), [2]);
    let rejected = read_all(&world.stack, &rejected, 0).await;
    assert_eq!(rejected.len(), 2);
    for letter in rejected {
        assert_eq!(text(&letter, "onceward.dlq.reason"), "rejected");
        assert_eq!(text(&letter, "onceward.dlq.attempts"), "1");
        assert!(!text(&letter, "onceward.dlq.message").contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_to_its_keys_partition_or_to_its_sources() {
    let stack = stack_or_leave_out!();
    for (partition, spread) in [(None, false), (Some(DeadLetterPartition::Source), true)] {
        let world = World::new(stack.clone(), 4, 0).await;
        let mut config = DeadLetterConfig::default();
        config.partition = partition;
        for source in 0..4 {
            let record = FutureRecord::to(&world.topic).partition(source).key("one key").payload("x");
            stack.producer().send(record, PATIENCE).await.unwrap();
        }
        let app = world.app(world.route(only_digits {}), &Calls::default()).dead_letters(config);
        let running = Running::start(app);
        world.caught_up(4).await;
        running.stop().await.unwrap();
        let mut counts = Vec::new();
        for partition in 0..4 {
            counts.push(read_all(&stack, &world.letters, partition).await.len());
        }
        let expected: &[usize] = if spread { &[1, 1, 1, 1] } else { &[0, 0, 0, 4] };
        counts.sort_unstable();
        assert_eq!(counts, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_would_be_too_large_says_only_what_is_needed_to_send_it_back() {
    let stack = stack_or_leave_out!();
    let topic = stack.topic_with("failures", 1, &[("max.message.bytes", "3200")]).await;
    let world = World { letters: format!("{topic}.dlq"), group: unique("group"), topic, stack };
    world.stack.topic_named(&world.letters, 1, &[("max.message.bytes", "3200")]).await;
    // Bytes that no compression makes fewer.
    let next = |state: &u64| {
        Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    let noise = std::iter::successors(Some(7_u64), next).map(|state| (state >> 56) as u8);
    let payload: Vec<u8> = std::iter::once(b'x').chain(noise).take(2800).collect();
    let record = FutureRecord::<[u8], [u8]>::to(&world.topic).payload(&payload);
    world.stack.producer().send(record, PATIENCE).await.unwrap();
    let mut config = DeadLetterConfig::default();
    config.headers = Some(vec![HeaderFamily::Spring, HeaderFamily::Connect, HeaderFamily::Streams]);
    // The start would refuse the topic.
    config.check = Some(false);
    let app = world.app(world.route(only_digits {}), &Calls::default()).dead_letters(config);
    let running = Running::start(app);
    world.caught_up(1).await;
    running.stop().await.unwrap();
    let letters = world.letters().await;
    assert_eq!(letters[0].payload(), Some(&payload[..]));
    assert_eq!(text(&letters[0], "onceward.dlq.offset"), "0");
    assert!(header(&letters[0], "onceward.identity").is_some());
    assert!(header(&letters[0], "kafka_dlt-original-topic").is_none());
}

// --- what holds a record back ---

/// Two partitions: the first record of the first one fails, the others do not.
async fn failing_among_others(stack: Stack) -> World {
    let world = World::new(stack, 2, 0).await;
    for (partition, payload) in [(0, "x"), (0, "1"), (1, "2"), (1, "3")] {
        produce_one(&world.stack.producer(), &world.topic, partition, Some(payload), &[]).await;
    }
    world
}

/// The failing record holds its partition and no other.
async fn holds(world: &World, calls: &Calls) {
    eventually("the other partition is done", async || {
        world.stack.committed(&world.group, &world.topic, 1) == Some(2)
    })
    .await;
    // Long enough for several tries.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(calls.of(1), 0, "nothing passes the record");
    assert!(matches!(world.stack.committed(&world.group, &world.topic, 0), None | Some(0)));
}

async fn goes_on(world: &World, calls: &Calls, running: Running) {
    world.caught_up(2).await;
    running.stop().await.unwrap();
    assert_eq!((calls.of(1), calls.of(2), calls.of(3)), (1, 1, 1));
    let letters = world.letters().await;
    assert_eq!(letters.iter().map(|letter| letter.payload().unwrap()).collect::<Vec<_>>(), [b"x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_topic_that_is_gone_holds_the_record_until_there_is_one() {
    let world = failing_among_others(stack_or_leave_out!()).await;
    world.stack.topic_named(&world.letters, 1, &[]).await;
    let calls = Calls::default();
    let never = DeadLetterConfig::default().create(false);
    let (topic, stack) = (world.letters.clone(), world.stack.clone());
    // After the checks of the start.
    let app =
        world.app(world.route(only_digits {}), &calls).dead_letters(never).on_start(move || async move {
            stack.admin().delete_topics(&[&topic], &AdminOptions::new()).await?;
            Ok(())
        });
    let running = Running::start(app);
    holds(&world, &calls).await;
    world.stack.topic_named(&world.letters, 1, &[]).await;
    goes_on(&world, &calls, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_topic_that_is_missing_is_made_when_it_is_needed_and_not_before() {
    let world = failing_among_others(stack_or_leave_out!()).await;
    let calls = Calls::default();
    let there = |world: &World| {
        let consumer: rdkafka::consumer::BaseConsumer = world.stack.client().create().unwrap();
        let metadata = rdkafka::consumer::Consumer::fetch_metadata(&consumer, None, PATIENCE).unwrap();
        metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == world.letters)
            .map(|topic| topic.partitions().len())
    };
    let before = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (noted, found) = (before.clone(), there(&world));
    let app = world.app(world.route(only_digits {}), &calls).on_start(move || async move {
        *noted.lock().unwrap() = Some(found);
        Ok(())
    });
    let running = Running::start(app);
    world.caught_up(2).await;
    assert_eq!(*before.lock().unwrap(), Some(None));
    assert_eq!(there(&world), Some(2), "as many partitions as its source");
    running.stop().await.unwrap();
    let mut letters = world.letters().await;
    letters.extend(read_all(&world.stack, &world.letters, 1).await);
    assert_eq!(letters.len(), 1);
}

/// The service as a user who may do only what was granted.
fn limited(world: &World, calls: &Calls) -> App {
    world
        .app(world.route(only_digits {}), calls)
        .brokers(&world.stack.brokers_limited)
        .kafka("security.protocol", "SASL_PLAINTEXT")
        .kafka("sasl.mechanism", "PLAIN")
        .kafka("sasl.username", "limited")
        .kafka("sasl.password", "limited")
}

fn acl(world: &World, change: &str, words: &[&str]) {
    let status = Stack::ctl_command(&["tool", "org.apache.kafka.tools.AclCommand"])
        .args(["--bootstrap-server", &world.stack.brokers, change, "--allow-principal", "User:limited"])
        .args(if change == "--remove" { &["--force"][..] } else { &[] })
        .args(words)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{words:?}: {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_missing_is_said_at_the_start_and_holds_the_record_later() {
    let world = failing_among_others(stack_or_leave_out!()).await;
    world.stack.topic_named(&world.letters, 1, &[]).await;
    let calls = Calls::default();
    acl(&world, "--add", &["--operation", "Read", "--topic", &world.topic]);
    acl(&world, "--add", &["--operation", "Read", "--group", &world.group]);
    acl(&world, "--add", &["--operation", "Read", "--topic", &world.letters]);
    let error = format!("{:?}", limited(&world, &calls).run().await.unwrap_err());
    assert!(error.contains(&world.letters) && error.contains("WRITE"), "{error}");

    let write = ["--operation", "Write", "--topic", &world.letters];
    acl(&world, "--add", &write);
    let (brokers, letters) = (world.stack.clone(), world.letters.clone());
    let revoking = World { stack: brokers, topic: world.topic.clone(), letters, group: world.group.clone() };
    let app = limited(&world, &calls).on_start(move || async move {
        acl(&revoking, "--remove", &["--operation", "Write", "--topic", &revoking.letters]);
        Ok(())
    });
    let running = Running::start(app);
    holds(&world, &calls).await;
    acl(&world, "--add", &write);
    goes_on(&world, &calls, running).await;
}

/// Tells of a failure, and holds it back until there is a permit.
struct Hold(Arc<Notify>, Arc<Semaphore>);
impl RecordMiddleware for Hold {
    async fn call<'a, N: Next<'a>>(&'a self, delivery: Delivery<'a>, next: N) -> HandlerResult<Outcome> {
        let outcome = next.run(delivery).await;
        if outcome.is_err() {
            self.0.notify_one();
            self.1.acquire().await?.forget();
        }
        outcome
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_during_the_publish_loses_nothing() {
    let kafka = Breakable::start(stack_or_leave_out!());
    let world = failing_among_others(kafka.stack.clone()).await;
    world.stack.topic_named(&world.letters, 1, &[]).await;
    let calls = Calls::default();
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let route = world.route(only_digits {}).middleware(Hold(reached.clone(), go_on.clone()));
    let running = Running::start(world.app(route, &calls));
    reached.notified().await;
    kafka.ctl(&["stop", "kafka", "--kill"]);
    go_on.add_permits(100);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(calls.of(1), 0, "nothing passes the record");
    kafka.ctl(&["start", "kafka"]);
    goes_on(&world, &calls, running).await;
}

/// Longer than a copy waits for its acknowledgement.
const SILENCE: Duration = Duration::from_secs(12);

/// A member behind a network that can be broken, about to write its second letter: with the
/// first it has looked what is there.
async fn about_to_write_a_letter(
    kafka: &Breakable,
    proxy: &Proxy,
    session: &str,
) -> (World, Running, Arc<Semaphore>) {
    let world = World::new(kafka.stack.clone(), 1, 0).await;
    world.stack.topic_named(&world.letters, 1, &[]).await;
    let (failed, go_on) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(1)));
    let route = world.route(only_digits {}).middleware(Hold(failed.clone(), go_on.clone()));
    let app = world.app(route, &Calls::default()).brokers(proxy.address());
    let app = app.kafka("session.timeout.ms", session).kafka("reconnect.backoff.max.ms", "200");
    let running = Running::start(app);
    for payload in ["x", "y"] {
        produce_one(&world.stack.producer(), &world.topic, 0, Some(payload), &[]).await;
        failed.notified().await;
    }
    assert_eq!(world.letters().await.len(), 1);
    (world, running, go_on)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_acknowledgement_is_late_is_not_written_again() {
    let kafka = Breakable::start(stack_or_leave_out!());
    let proxy = kafka.proxy().await;
    let (world, running, go_on) = about_to_write_a_letter(&kafka, &proxy, "30000").await;
    proxy.hold_answers(true);
    go_on.add_permits(100);
    eventually("the second letter is there", async || world.letters().await.len() == 2).await;
    tokio::time::sleep(SILENCE).await;
    proxy.hold_answers(false);
    world.caught_up(1).await;
    running.stop().await.unwrap();
    assert_eq!(world.letters().await.len(), 2, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_cut_off_writes_no_copy_once_another_has() {
    let kafka = Breakable::start(stack_or_leave_out!());
    let proxy = kafka.proxy().await;
    let (world, cut_off, go_on) = about_to_write_a_letter(&kafka, &proxy, "6000").await;
    proxy.close();
    go_on.add_permits(1);
    let other = Running::start(world.app(world.route(only_digits {}), &Calls::default()));
    eventually("the other has taken over", async || world.letters().await.len() == 2).await;
    proxy.open();
    tokio::time::sleep(SILENCE).await;
    for running in [cut_off, other] {
        running.stop().await.unwrap();
    }
    assert_eq!(world.letters().await.len(), 2, "each once");
}

// --- what was dead-lettered stays so ---

#[handler(topic = "overridden", max_attempts = 1)]
async fn write_digits(payload: &[u8], tx: &mut Tx) -> HandlerResult {
    let payload = std::str::from_utf8(payload)?;
    sqlx::query("insert into effects (payload) values ($1)").bind(payload).execute(tx).await?;
    if payload.starts_with(|first: char| first.is_ascii_digit()) { Ok(()) } else { Err("no digit".into()) }
}

pub(super) async fn effects_table(stack: &Stack) -> Database {
    let database = stack.database().await;
    database.execute("create table effects (place bigserial, payload text not null)").await;
    database
}

pub(super) async fn effects(database: &Database) -> Vec<String> {
    let rows = sqlx::query_scalar("select payload from effects order by place");
    rows.fetch_all(&mut database.connect().await).await.unwrap()
}

/// The same handler, mended: it takes what it gave up before.
#[handler(topic = "overridden", name = "write_digits")]
async fn write_all(payload: &[u8], tx: &mut Tx) -> HandlerResult {
    let payload = std::str::from_utf8(payload)?;
    sqlx::query("insert into effects (payload) values ($1)").bind(payload).execute(tx).await?;
    Ok(())
}

#[tokio::test]
#[ignore = "a program that another test starts"]
async fn program_that_never_commits_an_offset() {
    let variable = |name| std::env::var(name).ok();
    let (Some(topic), Some(group)) = (variable("TEST_TOPIC"), variable("TEST_GROUP")) else { return };
    let stack = stack_or_leave_out!();
    let mut config = Config::default();
    config.commit_interval = Some(Duration::from_secs(3600));
    let route = write_digits {}.route().topic(topic).group(group);
    let url = std::env::var("TEST_DATABASE").unwrap();
    stack.app().database_url(url).migrate(true).config(config).handler(route).run().await.unwrap();
}

/// The copy is acknowledged and later records of the key are done; the offset is not
/// committed. The record would succeed now, but behind its successors.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_the_copy_and_the_commit_reorders_and_repeats_nothing() {
    let world = World::new(stack_or_leave_out!(), 1, 0).await;
    let database = effects_table(&world.stack).await;
    for payload in ["1", "x", "2", "3"] {
        produce_one(&world.stack.producer(), &world.topic, 0, Some(payload), &[]).await;
    }
    let variables =
        [("TEST_TOPIC", &*world.topic), ("TEST_GROUP", &*world.group), ("TEST_DATABASE", &*database.url)];
    let mut program = Program::start("dead_letters::program_that_never_commits_an_offset", &variables);
    eventually("what comes later is done", async || effects(&database).await == ["1", "2", "3"]).await;
    program.signal(Signal::SIGKILL);
    program.ended().await;
    assert_ne!(world.stack.committed(&world.group, &world.topic, 0), Some(4));

    let route = world.route(write_all {});
    let app = world.app(route, &Calls::default()).dedupe(DedupeKind::Postgres).database_url(&database.url);
    let running = Running::start(app);
    world.caught_up(1).await;
    running.stop().await.unwrap();
    assert_eq!(effects(&database).await, ["1", "2", "3"]);
    assert_eq!(world.letters().await.len(), 1, "one live copy");
}

/// With and without a transaction, and without PostgreSQL.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_sent_back_runs_once_more_and_its_original_does_not() {
    let stack = stack_or_leave_out!();
    let world = World::new(stack.clone(), 1, 0).await;
    let database = effects_table(&stack).await;
    let failing = Arc::new(std::sync::atomic::AtomicBool::new(true));
    #[derive(Clone)]
    struct Failing(Arc<std::sync::atomic::AtomicBool>);
    #[handler(topic = "overridden", max_attempts = 1)]
    async fn in_transaction(payload: &[u8], failing: State<Failing>, tx: &mut Tx) -> HandlerResult {
        let payload = std::str::from_utf8(payload)?;
        sqlx::query("insert into effects (payload) values ($1)").bind(payload).execute(tx).await?;
        if failing.0.0.load(std::sync::atomic::Ordering::Relaxed) { Err("not yet".into()) } else { Ok(()) }
    }
    #[handler(topic = "overridden", max_attempts = 1)]
    async fn marked(payload: &[u8], failing: State<Failing>, calls: State<Calls>) -> HandlerResult {
        if failing.0.0.load(std::sync::atomic::Ordering::Relaxed) {
            return Err("not yet".into());
        }
        calls.note(number(payload)?, 1);
        Ok(())
    }
    let calls = Calls::default();
    let groups = [unique("group"), unique("group")];
    let route =
        |group: &str| in_transaction {}.route().topic(&world.topic).group(group).dead_letter(&world.letters);
    let both = || {
        let mut config = Config::default();
        config.commit_interval = Some(Duration::from_millis(100));
        stack
            .app()
            .config(config)
            .database_url(&database.url)
            .migrate(true)
            .state(Failing(failing.clone()))
            .state(calls.clone())
            .handler(route(&groups[0]))
            .handler(marked {}.route().topic(&world.topic).group(&groups[1]).dead_letter(&world.letters))
    };
    produce_one(&stack.producer(), &world.topic, 0, Some("7"), &[("ce_source", "/s"), ("ce_id", "7")]).await;
    let running = Running::start(both());
    for group in &groups {
        stack.caught_up(group, &world.topic, 1).await;
    }
    let letters = world.letters().await;
    assert_eq!(letters.len(), 2, "one of each group");
    assert!(effects(&database).await.is_empty() && calls.all().is_empty());

    // A copy that the producer sent again is the same event, and it was given up.
    failing.store(false, std::sync::atomic::Ordering::Relaxed);
    produce_one(&stack.producer(), &world.topic, 0, Some("7"), &[("ce_source", "/s"), ("ce_id", "7")]).await;
    for group in &groups {
        stack.caught_up(group, &world.topic, 1).await;
    }
    assert!(effects(&database).await.is_empty() && calls.all().is_empty());

    // Sent back twice, it runs once.
    for _ in 0..2 {
        let headers = letters[0].headers().unwrap().clone();
        let headers = headers.insert(Header { key: REDRIVEN_HEADER, value: Some("now") });
        let record = FutureRecord::<[u8], [u8]>::to(&world.topic).payload(letters[0].payload().unwrap());
        stack.producer().send(record.headers(headers), PATIENCE).await.unwrap();
        for group in &groups {
            stack.caught_up(group, &world.topic, 1).await;
        }
    }
    running.stop().await.unwrap();
    assert_eq!(effects(&database).await, ["7"]);
    assert_eq!(calls.all(), [(7, 1)]);
}

//! What a careless or hostile producer, or a tool between, puts into records: nothing panics, nothing is
//! lost, and nobody else's records are left out.

use super::*;
use onceward::{DeadLetterConfig, HOPS_HEADER, IDENTITY_HEADER, REDRIVEN_HEADER};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::collections::BTreeSet;
use support::{Database, PATIENCE, Running, stack_or_leave_out, text};

/// Dead-letters all of partition 1, and notes where the others stand.
#[handler(topic = "overridden", max_attempts = 1)]
async fn note_or_fail(record: Record<'_>, tx: &mut Tx) -> HandlerResult {
    if record.partition() == 1 {
        return Err(HandlerError::new("partition 1").permanent());
    }
    sqlx::query("insert into effects (record_offset) values ($1)").bind(record.offset()).execute(tx).await?;
    Ok(())
}

#[derive(Clone)]
struct Target(String);

/// Hands on all that it may.
#[handler(topic = "overridden", max_attempts = 1)]
async fn forward(record: Record<'_>, target: State<Target>) -> HandlerResult<ProducerRecord> {
    let mut copy = ProducerRecord::to(&target.0.0).payload(record.payload().unwrap_or_default());
    if let Some(key) = record.key() {
        copy = copy.key(key);
    }
    for header in record.headers().iter() {
        if let (Some(name), Some(value)) = (header.name(), header.value()) {
            copy = copy.header(name, value);
        }
    }
    Ok(copy)
}

#[derive(Clone, Default)]
struct Sent {
    headers: Vec<(&'static str, Option<Vec<u8>>)>,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    timestamp: Option<i64>,
}

impl Sent {
    fn plain(payload: &str) -> Self {
        Self { payload: Some(payload.into()), ..Self::default() }
    }

    fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name, Some(value.as_ref().to_vec())));
        self
    }
}

/// A world with somebody who writes to its topic.
struct Hostile {
    world: World,
    producer: FutureProducer,
}

impl Hostile {
    /// Gives its offset.
    async fn send(&self, partition: i32, sent: &Sent) -> i64 {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &sent.headers {
            headers = headers.insert(Header { key, value: value.as_ref() });
        }
        let mut record =
            FutureRecord::<[u8], [u8]>::to(&self.world.topic).partition(partition).headers(headers);
        (record.key, record.payload) = (sent.key.as_deref(), sent.payload.as_deref());
        record.timestamp = sent.timestamp;
        self.producer.send(record, PATIENCE).await.unwrap().offset
    }

    /// Sends a dead letter back, with all headers that it has.
    async fn send_back(&self, letter: &OwnedMessage, payload: &str) -> i64 {
        let headers = letter.headers().unwrap().clone();
        let headers = headers.insert(Header { key: REDRIVEN_HEADER, value: Some("now") });
        let mut record = FutureRecord::<[u8], [u8]>::to(&self.world.topic).partition(0).headers(headers);
        (record.key, record.payload) = (letter.key(), Some(payload.as_bytes()));
        self.producer.send(record, PATIENCE).await.unwrap().offset
    }

    async fn letters(&self) -> Vec<OwnedMessage> {
        let Self { world, .. } = self;
        let mut letters = read_all(&world.stack, &world.letters, 0).await;
        letters.extend(read_all(&world.stack, &world.letters, 1).await);
        letters
    }
}

/// Each is one thing that somebody writes.
fn hostile() -> Vec<Sent> {
    let values: [&[u8]; 8] = [
        b"",
        b"\xff\xfe\0",
        b"-1",
        b"99999999999999999999999999999999",
        b"0123456789abcdef0123456789abcdef@~9223372036854775807#0123456789abcdef0123456789abcdef",
        b"00-00000000000000000000000000000000-0000000000000000-zz",
        b"application/cloudevents+json",
        &[b'x'; 50_000],
    ];
    let names = [
        IDENTITY_HEADER,
        REDRIVEN_HEADER,
        "onceward.dlq.topic",
        "onceward.dlq.offset",
        "onceward.dlq.timestamp",
        "onceward.dlq.attempts",
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_correlationid",
        "content-type",
        "traceparent",
        "tracestate",
        "",
    ];
    let of_header = |name| {
        // One after the other in one record, the last of which counts, so that not each needs one of its own.
        let all = values.iter().fold(Sent::plain("all"), |sent, value| sent.header(name, value));
        let mut null = Sent::plain("null");
        null.headers.push((name, None));
        let ends = values.map(|value| Sent::plain("one").header(name, value));
        [all, null].into_iter().chain(ends)
    };
    let bare = Sent::default;
    let others = [
        bare(),
        Sent { key: Some(vec![]), payload: Some(vec![]), ..bare() },
        Sent { key: Some(b"\xff\0".to_vec()), payload: Some(b"\xff\0".to_vec()), ..bare() },
        Sent { key: Some(vec![b'k'; 100_000]), payload: Some(vec![b'p'; 500_000]), ..bare() },
        Sent { timestamp: Some(1), ..Sent::plain("1970") },
        Sent { timestamp: Some(253_402_300_799_999), ..Sent::plain("9999") },
        Sent::plain("{\"id\": {}, \"source\": 1").header("content-type", "application/cloudevents+json"),
        Sent::plain(&"[".repeat(100_000)).header("content-type", "application/cloudevents+json"),
        (0..2000).fold(Sent::plain("many headers"), |sent, _| sent.header(IDENTITY_HEADER, "x")),
    ];
    names.into_iter().flat_map(of_header).chain(others).collect()
}

async fn noted(database: &Database) -> Vec<i64> {
    let rows = sqlx::query_scalar("select record_offset from effects order by record_offset");
    rows.fetch_all(&mut database.connect().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_producer_writes_loses_nothing_and_leaves_out_no_other_record() {
    let stack = stack_or_leave_out!();
    let settings = [("message.timestamp.after.max.ms", "9223372036854775807")];
    let topic = stack.topic_with("hostile", 2, &settings).await;
    let world = World { letters: format!("{topic}.dlq"), group: unique("group"), topic, stack };
    let somebody = Hostile { producer: world.stack.producer(), world };
    let world = &somebody.world;
    let (target, forwarding) = (world.stack.topic("target", 1).await, unique("group"));
    let database = world.stack.database().await;
    database.execute("create table effects (record_offset bigint not null)").await;
    let start = || {
        let mut config = DeadLetterConfig::default();
        config.drop_headers = vec!["ce_id".to_owned()];
        let app = world.app(world.route(note_or_fail {}), &Calls::default()).dead_letters(config);
        let app = app.dedupe(DedupeKind::Postgres).database_url(&database.url).migrate(true);
        Running::start(
            app.state(Target(target.clone()))
                .handler(forward {}.route().topic(&world.topic).group(&forwarding)),
        )
    };
    let caught_up = async || {
        world.caught_up(2).await;
        world.stack.caught_up(&forwarding, &world.topic, 2).await;
    };

    // Each once where it is handled, and once where it dies, also in an owner that looks for letters first.
    let plain = Sent::plain("plain");
    let declared = Sent::plain("declared").header("ce_source", "/s").header("ce_id", "1");
    let too_far = [&b"4294967295"[..], b"99999999999999"];
    let first: Vec<Sent> = [plain.clone(), declared.clone()].into_iter().chain(hostile()).collect();
    let second = too_far.map(|hops| Sent::plain("hops").header(HOPS_HEADER, hops));
    let mut expected = BTreeSet::new();
    for wave in [&first[..], &second[..]] {
        for sent in wave {
            let is_declared = sent.payload == declared.payload;
            if !is_declared {
                expected.insert(somebody.send(0, sent).await);
            }
            somebody.send(1, sent).await;
        }
        let running = start();
        caught_up().await;
        running.stop().await.unwrap();
    }
    assert_eq!(noted(&database).await, expected.iter().copied().collect::<Vec<_>>());
    let letters = somebody.letters().await;
    // Those of partition 1, and in the forwarding group both of too many hops.
    assert_eq!(letters.len(), first.len() + second.len() + 2 * too_far.len());
    let of_hops: Vec<_> =
        letters.iter().filter(|letter| text(letter, "onceward.dlq.reason") == "max_hops").collect();
    assert_eq!(of_hops.len(), 2 * too_far.len());
    assert!(of_hops.iter().all(|letter| text(letter, "onceward.dlq.message").contains(HOPS_HEADER)));
    assert_eq!(read_all(&world.stack, &target, 0).await.len(), expected.len() + first.len() - too_far.len());

    // What Onceward wrote into its letters counts on copies of them, and on nothing else.
    let letter =
        |payload: &str| letters.iter().find(|letter| letter.payload() == Some(payload.as_bytes())).unwrap();
    let running = start();
    for (died, mended) in [("plain", "plain, mended"), ("declared", "declared, mended")] {
        let letter = letter(died);
        let carried = text(letter, IDENTITY_HEADER).to_owned();
        for other in ["a", "b", "c"] {
            let copied = Sent::plain(other).header(IDENTITY_HEADER, &carried).header(REDRIVEN_HEADER, "now");
            expected.insert(somebody.send(0, &copied).await);
        }
        // Each is an event of its own now.
        for _ in 0..2 {
            expected.insert(somebody.send_back(letter, mended).await);
        }
        // And the letter itself one more, once.
        expected.insert(somebody.send_back(letter, died).await);
        somebody.send_back(letter, died).await;
    }
    // It was sent back without the header that declared it, and is the same event all the same.
    somebody.send(0, &declared).await;
    caught_up().await;
    running.stop().await.unwrap();
    assert_eq!(noted(&database).await, expected.into_iter().collect::<Vec<_>>());
    assert_eq!(somebody.letters().await.len(), letters.len());
}

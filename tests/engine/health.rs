//! What `App::health` says while nothing is consumed, and that it is ready again after.

use super::*;
use onceward::Health;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The folder of the servers.
fn folder() -> PathBuf {
    PathBuf::from(std::env::var("STACK_DIR").expect("set where KAFKA_BROKERS is"))
}

/// The sentence of a condition of this kind that a group has.
fn sentence(health: &Health, kind: ConditionKind, group: &str) -> Option<String> {
    let conditions = health.conditions().into_iter();
    conditions.filter(|c| c.kind == kind && c.group.as_deref() == Some(group)).map(|c| c.sentence).next()
}

/// Waits for such a condition, which has to say this.
async fn unready(health: &Health, kind: ConditionKind, group: &str, says: &str) {
    eventually(&format!("{group} is not ready: {kind}"), async || sentence(health, kind, group).is_some())
        .await;
    let sentence = sentence(health, kind, group).expect("it lasts");
    assert!(sentence.contains(says), "{sentence}");
    assert!(!health.is_ready() && health.is_alive() && health.has_started(), "{health:?}");
}

async fn is_over(health: &Health, kind: ConditionKind, group: &str) {
    eventually(&format!("{group} has no {kind}"), async || sentence(health, kind, group).is_none()).await;
}

/// A batch that this build has no codec for.
fn produce_zstd(stack: &Stack, topic: &str) {
    let program = "import sys; from confluent_kafka import Producer
p = Producer({'bootstrap.servers': sys.argv[1], 'compression.type': 'zstd', 'linger.ms': 100})
[p.produce(sys.argv[2], b'x' * 1000, partition=0) for _ in range(20)]
sys.exit(p.flush(60))";
    let mut python = Command::new(folder().join("clients/python/bin/python"));
    assert!(python.args(["-c", program, &stack.brokers, topic]).status().unwrap().success());
}

/// A byte of the log of a topic's partition 0, which can be changed as a disk may change it.
struct Byte {
    log: PathBuf,
    at: usize,
}

impl Byte {
    /// The first of a payload.
    fn of(topic: &str, payload: &str) -> Self {
        let log = folder().join("kafka/data").join(format!("{topic}-0")).join(format!("{:020}.log", 0));
        let bytes = fs::read(&log).unwrap();
        let at = bytes.windows(payload.len()).position(|part| part == payload.as_bytes()).unwrap();
        Self { log, at }
    }

    fn flip(&self) {
        use std::os::unix::fs::FileExt;
        let file = fs::File::options().read(true).write(true).open(&self.log).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.at as u64).unwrap();
        file.write_all_at(&[byte[0] ^ 1], self.at as u64).unwrap();
    }
}

/// A member of a group with another assignment protocol than ours.
struct Range {
    leave: Arc<AtomicBool>,
    polling: std::thread::JoinHandle<()>,
}

impl Range {
    async fn join(stack: &Stack, group: &str, topic: &str) -> Self {
        let consumer: BaseConsumer = stack
            .client()
            .set("group.id", group)
            .set("partition.assignment.strategy", "range")
            .create()
            .unwrap();
        consumer.subscribe(&[topic]).unwrap();
        let (leave, joined) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (leaves, joins) = (leave.clone(), joined.clone());
        let polling = std::thread::spawn(move || {
            while !leaves.load(Ordering::Relaxed) {
                drop(consumer.poll(Duration::from_millis(100)));
                joins.store(consumer.assignment().unwrap().count() > 0, Ordering::Relaxed);
            }
        });
        eventually("the other member has joined", async || joined.load(Ordering::Relaxed)).await;
        Self { leave, polling }
    }

    fn leave(self) {
        self.leave.store(true, Ordering::Relaxed);
        self.polling.join().unwrap();
    }
}

fn reads(topic: &str, group: &str) -> impl onceward::IntoRoute {
    note {}.route().topic(topic).group(group)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_stops_a_group_is_shown_until_it_is_over() {
    let stack = stack_or_leave_out!();
    let (zstd, taken, other) =
        (stack.topic("zstd", 1).await, stack.topic("taken", 1).await, stack.topic("other", 1).await);
    produce_zstd(&stack, &zstd);
    let (new, seen) = (unique("new"), Seen::default());
    let pattern = format!(r"^{new}-\d+(?:-x|)");
    // By itself it would be read: it matches.
    stack.topic_named(&format!("{new}-1.dlq"), 1, &[]).await;
    fill(&stack, &format!("{new}-1.dlq"), 0, 1).await;
    let [of_zstd, of_taken, of_new, of_gone] = ["zstd", "taken", "new", "gone"].map(unique);
    let range = Range::join(&stack, &of_taken, &taken).await;

    let app = stack.app().state(seen.clone());
    let app = app.handler(reads(&zstd, &of_zstd)).handler(reads(&taken, &of_taken));
    let app = app.handler(reads(&pattern, &of_new)).handler(reads(&other, &of_gone));
    let app = app.config(config(|config| config.out_of_range = Some(OutOfRange::Earliest)));
    let app = app.kafka("topic.metadata.refresh.interval.ms", "1000");
    let health = app.health();
    let running = Running::start(app);
    unready(&health, ConditionKind::Fetch, &of_zstd, "feature `zstd`").await;
    let says = "`kafka.partition.assignment.strategy` = cooperative-sticky";
    unready(&health, ConditionKind::Join, &of_taken, says).await;
    unready(&health, ConditionKind::NoTopic, &of_new, &format!("`topic = \"{pattern}\"` of handler note"))
        .await;
    assert_eq!(health.problems().len(), 3, "{health:?}");
    let conditions = health.conditions();
    let of_zstd_batch = conditions.iter().find(|condition| condition.kind == ConditionKind::Fetch).unwrap();
    assert_eq!(of_zstd_batch.partition, Some(TopicPartition::new(&*zstd, 0)));

    range.leave();
    stack.topic_named(&format!("{new}-2"), 1, &[]).await;
    fill(&stack, &format!("{new}-2"), 0, 3).await;
    fill(&stack, &zstd, 0, 1).await;
    stack.admin().delete_records(&offsets([(0, 20)], &zstd), &AdminOptions::new()).await.unwrap();
    is_over(&health, ConditionKind::Join, &of_taken).await;
    is_over(&health, ConditionKind::NoTopic, &of_new).await;
    is_over(&health, ConditionKind::Fetch, &of_zstd).await;
    eventually("it is ready", async || health.is_ready()).await;
    stack.caught_up(&of_new, &format!("{new}-2"), 1).await;
    stack.caught_up(&of_zstd, &zstd, 1).await;
    assert_eq!(seen.count(), 4, "and no dead letter: {:?}", seen.offsets(0));

    stack.admin().delete_topics(&[&other], &AdminOptions::new()).await.unwrap();
    unready(&health, ConditionKind::NoTopic, &of_gone, "is not there any more").await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_changed_on_the_disk_is_neither_delivered_nor_passed_over() {
    let stack = stack_or_leave_out!();
    let (topic, group, seen) = (stack.topic("corrupt", 1).await, unique("group"), Seen::default());
    let producer = stack.producer();
    // librdkafka 2.12.1 misses where a batch ends whose checksum is wrong: in one as long as this, it takes bytes
    // of the payload for the next batch, and goes on at whatever offset they make.
    let changed = format!("changed{}", "x".repeat(2000));
    for payload in ["whole", &changed, "behind"] {
        support::produce_one(&producer, &topic, 0, Some(payload), &[]).await;
    }
    let byte = Byte::of(&topic, "changed");
    byte.flip();
    let app = noting(&stack, &topic, &group, &seen);
    let health = app.health();
    let running = Running::start(app);
    unready(&health, ConditionKind::Fetch, &group, "its batch at offset 1 is corrupt").await;
    // It is fetched anew meanwhile, and nothing tells when.
    let until = Instant::now() + Duration::from_secs(2);
    let lasts = || sentence(&health, ConditionKind::Fetch, &group).is_some();
    eventually("it has lasted", async || Instant::now() > until || !lasts()).await;
    assert!(lasts(), "{health:?}");
    assert_eq!(seen.offsets(0), [0], "nothing behind it is delivered");
    byte.flip();
    stack.caught_up(&group, &topic, 1).await;
    eventually("it is ready again", async || health.is_ready()).await;
    running.stop().await.unwrap();
    assert_eq!(seen.offsets(0), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_timeout_that_the_broker_refuses_is_told() {
    let stack = stack_or_leave_out!();
    let (topic, group) = (stack.topic("session", 1).await, unique("group"));
    let app = noting(&stack, &topic, &group, &Seen::default())
        .kafka("session.timeout.ms", "500")
        .kafka("heartbeat.interval.ms", "100")
        .drain_deadline(Duration::from_millis(200));
    let health = app.health();
    let running = Running::start(app);
    unready(&health, ConditionKind::Join, &group, "`kafka.session.timeout.ms` = 500 is outside").await;
    running.stop().await.unwrap();
    assert!(!health.is_ready());
}

//! How long partitions that stay deliver nothing while a member joins and leaves, and how many
//! records are handled twice.

use crate::bench::Bench;
use harness::Report;
use onceward::prelude::*;
use onceward::{CancellationToken, DedupeKind};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::unique;

const PARTITIONS: i32 = 6;

#[derive(Default)]
struct Log {
    handled: HashMap<(i32, i64), u32>,
    /// Per partition: when it was last heard of, and by whom; gaps of one that stayed.
    last: HashMap<i32, (Instant, u32)>,
    longest: Duration,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Log>>);

#[derive(Clone, Copy)]
struct Member(u32);

#[handler(topic = "overridden", name = "silence")]
async fn note(record: Record<'_>, log: State<Shared>, member: State<Member>) -> HandlerResult {
    let mut log = log.0.0.lock().expect("no panic");
    *log.handled.entry((record.partition(), record.offset())).or_default() += 1;
    let now = Instant::now();
    if let Some((last, by)) = log.last.insert(record.partition(), (now, member.0.0))
        && by == member.0.0
    {
        log.longest = log.longest.max(now - last);
    }
    Ok(())
}

pub fn run(bench: &Bench, report: &mut Report) {
    for protocol in ["classic", "consumer"] {
        bench.runtime.block_on(measure(bench, report, protocol));
    }
}

async fn measure(bench: &Bench, report: &mut Report, protocol: &str) {
    let joins = if bench.smoke { 1 } else { 3 };
    let (topic, group) = (bench.stack.topic("silence", PARTITIONS).await, unique("group"));
    let log: Arc<Mutex<Log>> = Arc::default();
    let start = |number: u32| {
        let stop = CancellationToken::new();
        let mut config = onceward::Config::default();
        config.group_protocol = Some(match protocol {
            "classic" => onceward::GroupProtocol::Classic,
            _ => onceward::GroupProtocol::Consumer,
        });
        let mut app = App::new()
            .config(config)
            .brokers(&bench.stack.brokers)
            .dedupe(DedupeKind::Off)
            .state(Shared(log.clone()))
            .state(Member(number))
            .shutdown_on(stop.clone())
            .handler(note {}.route().topic(&topic).group(&group));
        if protocol == "classic" {
            app = app.kafka("session.timeout.ms", "6000");
        }
        (stop, tokio::spawn(app.run()))
    };
    let producer: FutureProducer = bench.stack.producer();
    let sent = CancellationToken::new();
    let sending = tokio::spawn(send(producer, topic.clone(), sent.clone()));
    let (first_stop, first) = start(1);
    tokio::time::sleep(bench.seconds(3)).await;
    log.lock().expect("no panic").longest = Duration::ZERO;
    for number in 2..2 + joins {
        let (stop, member) = start(number);
        tokio::time::sleep(bench.seconds(6)).await;
        stop.cancel();
        member.await.expect("no panic").expect("a clean end");
        tokio::time::sleep(bench.seconds(4)).await;
    }
    sent.cancel();
    let records = sending.await.expect("no panic");
    support::eventually("all are handled", async || log.lock().expect("no panic").handled.len() == records)
        .await;
    first_stop.cancel();
    first.await.expect("no panic").expect("a clean end");
    let log = log.lock().expect("no panic");
    let twice = log.handled.values().filter(|count| **count > 1).count();
    let case = format!("rebalance, {protocol}, 6 partitions, 2,000 records/s, {joins} joins and leaves");
    let silence = log.longest.as_secs_f64() * 1000.0;
    let figures = [
        ("records", records as f64, ""),
        ("handled twice", twice as f64, ""),
        ("longest silence of a partition that stayed", silence, "ms"),
    ];
    report.figures(&case, "onceward", &figures);
}

async fn send(producer: FutureProducer, topic: String, until: CancellationToken) -> usize {
    let mut tick = tokio::time::interval(Duration::from_millis(3));
    let (mut count, mut last) = (0, Vec::new());
    while !until.is_cancelled() {
        tick.tick().await;
        last.clear();
        for partition in 0..PARTITIONS {
            let record = FutureRecord::<str, str>::to(&topic).partition(partition).payload("x");
            last.push(producer.send_result(record).expect("room in the queue"));
            count += 1;
        }
    }
    for delivery in last {
        delivery.await.expect("the producer lives").expect("acknowledged");
    }
    count
}

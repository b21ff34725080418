//! Memory: with a backlog, in order of the partition, and by key where one key in 600 is slow and
//! all others stand beyond it; and after keys without number.

use crate::application::{Count, timed, while_running};
use crate::bench::Bench;
use crate::topics::{Filling, filled, full};
use harness::{Report, Spread};
use onceward::Order;
use onceward::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use support::unique;

#[handler(topic = "overridden", order = "key", concurrency = 64)]
async fn count_only(payload: &[u8], count: State<Count>) {
    std::hint::black_box(payload[0]);
    count.0.add(1);
}

#[handler(topic = "overridden")]
async fn slow(key: Key<&[u8]>, order: State<Order>, handled: State<Arc<AtomicU64>>) {
    let takes_long = order.0 == Order::Key && key.0.ends_with(b"-0000");
    tokio::time::sleep(Duration::from_millis(if takes_long { 2000 } else { 1 })).await;
    handled.0.fetch_add(1, Ordering::Relaxed);
}

pub fn run(bench: &Bench, report: &mut Report) {
    let topic = full(bench, 8, bench.records(3_000_000), 100);
    backlog(bench, report, &topic, "memory, a backlog of 3,000,000 records", Order::Partition);
    backlog(bench, report, &topic, "the same, by key, a key in 600 takes 2 s", Order::Key);
    many_keys(bench, report);
}

fn backlog(bench: &Bench, report: &mut Report, topic: &str, case: &str, order: Order) {
    let handled = Arc::new(AtomicU64::new(0));
    let route = slow {}.route().topic(topic).group(unique("bench")).order(order);
    let route = if order == Order::Key { route.concurrency(64) } else { route };
    let app = bench.app().state(handled.clone()).state(order).handler(route);
    let before = resident();
    let samples = while_running(bench, app, async {
        let mut samples = Vec::new();
        for _ in 0..15 {
            tokio::time::sleep(bench.seconds(1)).await;
            samples.push(resident());
        }
        samples
    });
    let during = Spread::of(samples);
    let handled = handled.load(Ordering::Relaxed) as f64;
    let figures = [
        ("before", before, "MiB"),
        ("median", during.median, "MiB"),
        ("most", during.most, "MiB"),
        ("handled meanwhile", handled, "records"),
    ];
    report.figures(case, "onceward", &figures);
}

fn many_keys(bench: &Bench, report: &mut Report) {
    let records = bench.records(1_000_000);
    let topic = filled(bench, Filling { partitions: 8, records, size: 100, keys: records, codec: "none" });
    let before = resident();
    let took = timed(bench, records, |count| {
        bench.app().state(count).handler(count_only {}.route().topic(&topic).group(unique("bench")))
    });
    let figures =
        [("before", before, "MiB"), ("after", resident(), "MiB"), ("speed", took.rate(), "records/s")];
    report.figures("memory, by key, 1,000,000 keys of one record", "onceward", &figures);
}

/// The memory that is the process's own, in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux tells");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

//! Memory where the order is by key: with a backlog that is not caught up with, and after keys
//! without number.

use crate::engine::{Count, measure};
use crate::topics;
use onceward::prelude::*;
use onceward::{CancellationToken, DedupeKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use support::{Stack, unique};
use tokio::runtime::Runtime;

const BACKLOG: u64 = 5_000_000;
const KEYS: u64 = 1_000_000;

#[handler(topic = "overridden", order = "key", concurrency = 64)]
async fn count_only(payload: &[u8], count: State<Count>) {
    std::hint::black_box(payload[0]);
    count.0.add(1);
}

/// One key a partition takes for ever, and is what all others stand beyond.
#[handler(topic = "overridden", order = "key", concurrency = 64)]
async fn slow(key: Key<&[u8]>, handled: State<Arc<AtomicU64>>) {
    let is_stuck = key.0.ends_with(b"-0000");
    tokio::time::sleep(Duration::from_millis(if is_stuck { 2000 } else { 1 })).await;
    handled.0.fetch_add(1, Ordering::Relaxed);
}

pub fn run(runtime: &Runtime, stack: &Stack) {
    let topic = topics::with_keys(runtime, stack, 8, KEYS, 100, KEYS);
    let before = resident();
    let took = measure(runtime, stack, KEYS, |app, count| {
        app.state(count).handler(count_only {}.route().topic(&topic).group(unique("bench")))
    });
    println!(
        "\n### memory\n\n{KEYS} keys, one record each, {:.0} records/s: {} MiB before, {} MiB after",
        took.rate(),
        before >> 20,
        resident() >> 20
    );

    let topic = topics::full(runtime, stack, 8, BACKLOG, 100);
    let (stop, handled) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let app = App::new()
        .brokers(&stack.brokers)
        .dedupe(DedupeKind::Off)
        .shutdown_on(stop.clone())
        .state(handled.clone())
        .handler(slow {}.route().topic(&topic).group(unique("bench")));
    let before = resident();
    let samples = runtime.block_on(async {
        let running = tokio::spawn(app.run());
        let mut samples = Vec::new();
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            samples.push(resident() >> 20);
        }
        stop.cancel();
        running.await.expect("no panic").expect("a clean end");
        samples
    });
    println!(
        "a backlog of {BACKLOG} records, 8 partitions, a key in 600 takes 2 s: {} handled in 30 s; {} MiB before, \
         each second {samples:?}",
        handled.load(Ordering::Relaxed),
        before >> 20
    );
}

/// The bytes of memory that are the process's own.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux tells");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

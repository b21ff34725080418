//! Order by key: a handler that does nothing against the plain loop, which handles in order
//! of the partition, and one that sleeps against what its concurrency allows.

use crate::engine::{Count, measure, plain_loop};
use crate::topics;
use harness::{Contender, compare, spread};
use onceward::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{Stack, unique};
use tokio::runtime::Runtime;

#[handler(topic = "overridden", order = "key", concurrency = 256)]
async fn noop_by_key(payload: &[u8], count: State<Count>) -> HandlerResult {
    std::hint::black_box(payload[0]);
    count.0.add(1);
    Ok(())
}

const CONCURRENCY: u32 = 256;
const SLEEPS: u64 = 1_000_000;

/// The sum of the handlers' own times, in nanoseconds.
#[derive(Clone, Default)]
struct OwnTime(Arc<AtomicU64>);

#[handler(topic = "overridden", order = "key", concurrency = 256)]
async fn sleep_by_key(payload: &[u8], count: State<Count>, own: State<OwnTime>) -> HandlerResult {
    let start = Instant::now();
    std::hint::black_box(payload[0]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    own.0.0.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    count.0.add(1);
    Ok(())
}

pub fn run(runtime: &Runtime, stack: &Stack, rounds: usize) -> Vec<String> {
    let (records, partitions) = (2_000_000, 8);
    let topic = &*topics::full(runtime, stack, partitions, records, 100);
    let noop = move || {
        measure(runtime, stack, records, |app, count| {
            app.state(count).handler(noop_by_key {}.route().topic(topic).group(unique("bench")))
        })
    };
    let busy = RefCell::new(Vec::new());
    let sleep = || {
        let own = OwnTime::default();
        let took = measure(runtime, stack, SLEEPS, |app, count| {
            let route = sleep_by_key {}.route().topic(topic).group(unique("bench"));
            app.state(count).state(own.clone()).handler(route)
        });
        let own = own.0.load(Ordering::Relaxed) as f64 / 1e9;
        busy.borrow_mut().push(own / f64::from(CONCURRENCY) / took.time.as_secs_f64());
        took
    };
    let of_noop: Vec<Contender<'_>> = vec![
        ("plain loop, tuned", Box::new(move || plain_loop(stack, topic, records, true))),
        ("onceward by key", Box::new(noop)),
    ];
    // A sleep of 1 ms takes 2 ms on tokio's clock: 256 at once are 128,000 a second at most.
    let of_sleep: Vec<Contender<'_>> = vec![
        ("as many tasks that sleep, no Kafka", Box::new(move || sleeping_tasks(runtime, SLEEPS))),
        ("onceward by key", Box::new(sleep)),
    ];
    let results = vec![
        compare("order by key, no-op, 100 B, 8 partitions", rounds, of_noop),
        compare("order by key, 1 ms sleep, 8 partitions", rounds.div_ceil(3), of_sleep),
    ];
    let (median, least, most) = spread(busy.into_inner());
    println!("of its concurrency, a handler that sleeps uses {median:.3} [{least:.3}..{most:.3}]");
    results
}

/// The handler's own time at this concurrency, as the runtime's timer has it.
fn sleeping_tasks(runtime: &Runtime, records: u64) -> harness::Took {
    let start = harness::Moment::now();
    runtime.block_on(async {
        let tasks = (0..CONCURRENCY).map(|_| {
            tokio::spawn(async move {
                for _ in 0..records / u64::from(CONCURRENCY) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
    });
    start.took(records)
}

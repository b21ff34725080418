//! Order by key: a handler that does nothing against the plain loop, which handles in order
//! of the partition, and one that sleeps against what its concurrency allows.

use crate::engine::{Count, measure, plain_loop};
use crate::topics;
use harness::{Contender, compare};
use onceward::prelude::*;
use std::time::Duration;
use support::{Stack, unique};
use tokio::runtime::Runtime;

#[handler(topic = "overridden", order = "key", concurrency = 256)]
async fn noop_by_key(payload: &[u8], count: State<Count>) -> HandlerResult {
    std::hint::black_box(payload[0]);
    count.0.add(1);
    Ok(())
}

#[handler(topic = "overridden", order = "key", concurrency = 256)]
async fn sleep_by_key(payload: &[u8], count: State<Count>) -> HandlerResult {
    std::hint::black_box(payload[0]);
    tokio::time::sleep(Duration::from_millis(1)).await;
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
    let sleep = move || {
        measure(runtime, stack, 400_000, |app, count| {
            app.state(count).handler(sleep_by_key {}.route().topic(topic).group(unique("bench")))
        })
    };
    let of_noop: Vec<Contender<'_>> = vec![
        ("plain loop, tuned", Box::new(move || plain_loop(stack, topic, records, true))),
        ("onceward by key", Box::new(noop)),
    ];
    // A sleep of 1 ms takes 2 ms on tokio's clock: 256 at once are 128,000 a second at most.
    let of_sleep: Vec<Contender<'_>> = vec![
        ("as many tasks that sleep, no Kafka", Box::new(move || sleeping_tasks(runtime, 400_000))),
        ("onceward by key", Box::new(sleep)),
    ];
    vec![
        compare("order by key, no-op, 100 B, 8 partitions", rounds, of_noop),
        compare("order by key, 1 ms sleep, 8 partitions", rounds.div_ceil(3), of_sleep),
    ]
}

/// The handler's own time at this concurrency, as the runtime's timer has it.
fn sleeping_tasks(runtime: &Runtime, records: u64) -> harness::Took {
    let start = harness::Moment::now();
    runtime.block_on(async {
        let tasks = (0..256).map(|_| {
            tokio::spawn(async move {
                for _ in 0..records / 256 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
    });
    start.took(records / 256 * 256)
}

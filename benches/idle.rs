//! What a service costs that has nothing to do.

use crate::engine;
use harness::Moment;
use onceward::{CancellationToken, TopicPartition};
use std::sync::Arc;
use std::time::Duration;
use support::Stack;
use tokio::runtime::Runtime;

pub fn run(runtime: &Runtime, stack: &Stack) {
    let topic = runtime.block_on(stack.topic("idle", 8));
    let (assigned, stop) = (CancellationToken::new(), CancellationToken::new());
    let told = assigned.clone();
    let count = engine::Count { handled: Arc::default(), until: u64::MAX, done: CancellationToken::new() };
    let app = engine::noop_app(stack, &topic, count)
        .shutdown_on(stop.clone())
        .on_assigned(move |_: &[TopicPartition]| told.cancel());
    runtime.block_on(async {
        let running = tokio::spawn(app.run());
        assigned.cancelled().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let start = Moment::now();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let took = start.took(1);
        stop.cancel();
        running.await.expect("no panic").expect("a clean end");
        println!(
            "\n### idle, 8 partitions, 10 s\n\n{:.2} % of a core",
            100.0 * took.cpu.as_secs_f64() / took.time.as_secs_f64()
        );
    });
}

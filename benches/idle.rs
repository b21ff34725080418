//! The CPU time of an idle service.

use crate::application::{Count, noop_app, while_running};
use crate::bench::Bench;
use harness::{Moment, Report};
use onceward::{CancellationToken, TopicPartition};

pub fn run(bench: &Bench, report: &mut Report) {
    const CASE: &str = "idle, 8 partitions";
    let topic = bench.runtime.block_on(bench.stack.topic("idle", 8));
    let assigned = CancellationToken::new();
    let told = assigned.clone();
    let app = noop_app(bench, &topic, Count::until(u64::MAX))
        .on_assigned(move |_: &[TopicPartition]| told.cancel());
    let took = while_running(bench, app, async {
        assigned.cancelled().await;
        tokio::time::sleep(bench.seconds(2)).await;
        let start = Moment::now();
        tokio::time::sleep(bench.seconds(20)).await;
        start.took(1)
    });
    let share = 100.0 * took.cpu.as_secs_f64() / took.time.as_secs_f64();
    report.figures(CASE, "onceward", &[("CPU", share, "% of a core")]);
    report.at_most(CASE, "% of a core", share, 1.0);
}

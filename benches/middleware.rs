//! The cost of each middleware alone, and of the whole list, around a handler that does
//! nothing.

use crate::application::{noop, onceward, timed};
use crate::bench::Bench;
use crate::loops::{self, Settings, touch};
use crate::topics::full;
use harness::{Case, Report, Took};
use onceward::middleware::{
    CatchPanic, DeadLetter, Delivery, Each, Idempotency, Next, RecordMiddleware, Retry, Stack, Timeout, Trace,
};
use onceward::prelude::*;
use std::time::Duration;
use support::unique;

/// The least that one writes of one's own: nothing before, nothing after.
#[derive(Clone, Copy)]
struct Own;

impl RecordMiddleware for Own {
    async fn call<'a, N: Next<'a>>(&'a self, delivery: Delivery<'a>, next: N) -> HandlerResult<Outcome> {
        next.run(delivery).await
    }
}

pub fn run(bench: &Bench, report: &mut Report) {
    let records = bench.records(800_000);
    let topic = &*full(bench, 8, records, 100);
    let limit = Duration::from_secs(30);
    report.compare(
        Case::new("middleware, no-op, 100 B, 8 partitions")
            .contender("plain loop", || loops::plain(bench, topic, records, Settings::Tuned, touch))
            .contender("none", || with(bench, topic, records, (Idempotency, ())))
            .contender("Retry", || with(bench, topic, records, (Retry, (Idempotency, ()))))
            .contender("Retry and DeadLetter", || {
                with(bench, topic, records, (DeadLetter, (Retry, (Idempotency, ()))))
            })
            .contender("Trace", || with(bench, topic, records, (Idempotency, (Each(Trace), ()))))
            .contender("CatchPanic", || with(bench, topic, records, (Idempotency, (Each(CatchPanic), ()))))
            .contender("Timeout", || {
                with(bench, topic, records, (Idempotency, (Each(Timeout::new(limit)), ())))
            })
            .contender("one of your own", || with(bench, topic, records, (Idempotency, (Each(Own), ()))))
            .contender("default stack", || onceward(bench, topic, records))
            .contender("default stack, timeout set", || {
                timed(bench, records, |count| {
                    let route = noop {}.route().topic(topic).group(unique("bench")).timeout(limit);
                    bench.app().handler(route.around(count))
                })
            })
            .at_least("default stack", 1.2, "plain loop"),
    );
}

fn with(bench: &Bench, topic: &str, records: u64, stack: impl Stack) -> Took {
    timed(bench, records, |count| {
        let route = noop {}.route().topic(topic).group(unique("bench")).stack(stack);
        bench.app().handler(route.around(count))
    })
}

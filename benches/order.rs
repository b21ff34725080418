//! Order by key, 256 at once, with a handler that does nothing, against the plain loop, which
//! handles in order of the partition.

use crate::application::{Count, timed};
use crate::bench::Bench;
use crate::loops::{self, Settings, touch};
use crate::topics::full;
use harness::{Case, Report};
use onceward::prelude::*;
use support::unique;

#[handler(topic = "overridden", order = "key", concurrency = 256)]
async fn noop_by_key(payload: &[u8], count: State<Count>) -> HandlerResult {
    touch(payload);
    count.0.add(1);
    Ok(())
}

pub fn run(bench: &Bench, report: &mut Report) {
    let records = bench.records(1_500_000);
    let topic = &*full(bench, 8, records, 100);
    report.compare(
        Case::new("order by key, no-op, 100 B, 8 partitions")
            .contender("plain loop", || loops::plain(bench, topic, records, Settings::Tuned, touch))
            .contender("onceward by key", || {
                timed(bench, records, |count| {
                    bench
                        .app()
                        .state(count)
                        .handler(noop_by_key {}.route().topic(topic).group(unique("bench")))
                })
            })
            .at_least("onceward by key", 1.0, "plain loop"),
    );
}

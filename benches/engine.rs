//! A handler that does nothing, with tracked commits, against loops that do less, and against
//! librdkafka's batch call, which is the limit.

use crate::application::onceward;
use crate::bench::Bench;
use crate::loops::{self, Settings, touch};
use crate::others;
use crate::topics::{Filling, filled};
use harness::{Case, Report};

pub fn eight(bench: &Bench, report: &mut Report) {
    against_all(bench, report, 8, "none", 0.75);
}

pub fn one(bench: &Bench, report: &mut Report) {
    against_all(bench, report, 1, "none", 0.6);
}

pub fn lz4_eight(bench: &Bench, report: &mut Report) {
    against_all(bench, report, 8, "lz4", 0.75);
}

pub fn lz4_one(bench: &Bench, report: &mut Report) {
    against_all(bench, report, 1, "lz4", 0.6);
}

fn against_all(bench: &Bench, report: &mut Report, partitions: i32, codec: &'static str, cpu: f64) {
    let records = bench.records(3_000_000);
    let topic = &*filled(bench, Filling { partitions, records, size: 100, keys: 600, codec });
    let codec = if codec == "none" { String::new() } else { format!(", {codec}") };
    let case = Case::new(format!("no-op, 100 B, partitions: {partitions}{codec}"))
        .contender("plain loop", || loops::plain(bench, topic, records, Settings::Tuned, touch))
        .contender("stream loop", || loops::stream(bench, topic, records, Settings::Tuned, touch))
        .contender("librdkafka batch", || loops::batch(bench, topic, records))
        .contender("onceward", || onceward(bench, topic, records));
    let case = others::add(case, bench, topic, records)
        .at_least("onceward", 0.95, "librdkafka batch")
        .cpu_at_most("onceward", cpu, "plain loop")
        .at_least("onceward", 1.6, "ruststream")
        .cpu_at_most("onceward", 0.65, "ruststream");
    report.compare(case);
}

/// The loops as librdkafka is set by default.
pub fn defaults(bench: &Bench, report: &mut Report) {
    let (partitions, records) = (8, bench.records(1_000_000));
    let topic = &*filled(bench, Filling { partitions, records, size: 100, keys: 600, codec: "none" });
    report.compare(
        Case::new("no-op, 100 B, 8 partitions, librdkafka's defaults")
            .contender("plain loop, defaults", || {
                loops::plain(bench, topic, records, Settings::Defaults, touch)
            })
            .contender("stream loop, defaults", || {
                loops::stream(bench, topic, records, Settings::Defaults, touch)
            })
            .contender("onceward", || onceward(bench, topic, records))
            .at_least("onceward", 10.0, "plain loop, defaults"),
    );
}

/// Larger records.
pub fn sizes(bench: &Bench, report: &mut Report) {
    for (size, partitions) in [(512, 8), (512, 1), (1024, 8)] {
        let records = bench.records(400_000);
        let topic = &*filled(bench, Filling { partitions, records, size, keys: 600, codec: "none" });
        let case = Case::new(format!("no-op, {size} B, partitions: {partitions}"))
            .contender("plain loop", || loops::plain(bench, topic, records, Settings::Tuned, touch))
            .contender("librdkafka batch", || loops::batch(bench, topic, records))
            .contender("onceward", || onceward(bench, topic, records));
        report.compare(match (size, partitions) {
            (512, 8) => others::add(case, bench, topic, records)
                .at_least("onceward", 0.95, "librdkafka batch")
                .cpu_at_most("onceward", 0.75, "plain loop")
                .at_least("onceward", 1.1, "ruststream")
                .cpu_at_most("onceward", 0.65, "ruststream"),
            _ => case,
        });
    }
}

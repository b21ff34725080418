//! The effect of settings: the defaults against another value of each; for librdkafka's
//! properties, its own default.

use crate::application::{noop, timed};
use crate::bench::Bench;
use crate::topics::full;
use harness::{Case, Report};
use onceward::App;
use onceward::prelude::*;
use support::unique;

pub fn run(bench: &Bench, report: &mut Report) {
    type Set = fn(App) -> App;
    let settings: [(&str, Set); 5] = [
        ("as it is", |app| app),
        ("fetch.queue.backoff.ms = 1000", |app| app.kafka("fetch.queue.backoff.ms", "1000")),
        ("fetch.wait.max.ms = 500", |app| app.kafka("fetch.wait.max.ms", "500")),
        ("queued.min.messages = 100000, queued.max.messages.kbytes = 65536", |app| {
            app.kafka("queued.min.messages", "100000").kafka("queued.max.messages.kbytes", "65536")
        }),
        ("queued.min.messages = 2000", |app| app.kafka("queued.min.messages", "2000")),
    ];
    let records = bench.records(1_500_000);
    let topic = &*full(bench, 8, records, 100);
    let run = |set: Set, most: usize| {
        timed(bench, records, |count| {
            let route = noop {}.route().topic(topic).group(unique("bench")).max_run_records(most);
            set(bench.app()).handler(route.around(count))
        })
    };
    let mut case = Case::new("settings, no-op, 100 B, 8 partitions");
    for (name, set) in settings {
        case = case.contender(name, move || run(set, 1000));
    }
    for most in [100, 10_000] {
        case = case.contender(format!("max_run_records = {most}"), move || run(|app| app, most));
    }
    report.compare(case);
}

//! A handler without a transaction, with deduplication in PostgreSQL: looked up before a run,
//! recorded after it. Against the bare statements.

use crate::application::{noop, timed};
use crate::bench::Bench;
use crate::by_hand::ByHand;
use crate::postgres::{PARTITIONS, app, database};
use crate::topics::full;
use harness::{Case, Report};
use onceward::prelude::*;
use support::unique;

pub fn run(bench: &Bench, report: &mut Report) {
    let records = bench.records(200_000);
    let topic = &*full(bench, PARTITIONS, records, 100);
    report.compare(
        Case::new("looked up and noted, no transaction")
            .contender("the bare statements, by hand", || ByHand::LookUpAndMark.run(bench, 0, records))
            .contender("the same, from Kafka", || {
                ByHand::LookUpAndMark.run_from_kafka(bench, topic, 0, records)
            })
            .contender("onceward", || {
                let database = database(bench, 0);
                timed(bench, records, |count| {
                    let route = noop {}.route().topic(topic).group(unique("bench"));
                    app(bench, &database).handler(route.around(count))
                })
            })
            .at_least("onceward", 0.8, "the bare statements, by hand")
            .at_least("onceward", 0.8, "the same, from Kafka")
            .records_per_second("onceward", 50_000.0),
    );
}

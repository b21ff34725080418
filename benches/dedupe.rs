//! A handler without a transaction, with deduplication in PostgreSQL: looked up before a run,
//! recorded after it. Against the bare statements.

use crate::application::{noop, timed};
use crate::bench::Bench;
use crate::by_hand::ByHand;
use crate::postgres::{PARTITIONS, app, database};
use crate::topics::full;
use harness::{Case, Report};
use onceward::prelude::*;
use support::{Database, unique};

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

/// The same behind a window of so many days, each with 2,000 records that were handled: the claim's look
/// goes into the current table and the one before it, however long the window is.
pub fn window(bench: &Bench, report: &mut Report) {
    let records = bench.records(200_000);
    let topic = &*full(bench, PARTITIONS, records, 100);
    let days_kept = |days: u32| {
        move || {
            let database = database(bench, 0);
            bench.runtime.block_on(keep(&database, days));
            timed(bench, records, |count| {
                let route = noop {}.route().topic(topic).group(unique("bench"));
                app(bench, &database).handler(route.around(count))
            })
        }
    };
    report.compare(
        Case::new("looked up and noted, by the length of the window")
            .contender("2 days", days_kept(2))
            .contender("30 days", days_kept(30))
            .contender("730 days", days_kept(730))
            .at_least("730 days", 0.9, "2 days"),
    );
}

/// Fills the tables as so many days would.
async fn keep(database: &Database, days: u32) {
    onceward::migrate(&database.url).await.expect("the tables are made");
    let rows = days * 2_000;
    for bucket in 0..2 {
        let fill = format!(
            "insert into onceward_dedupe_{bucket} (event_key, scope, topic, partition, record_offset) \
             select gen_random_uuid(), 1, 1, 0, n from generate_series(1, {rows}) n; \
             analyze onceward_dedupe_{bucket}"
        );
        database.execute(&fill).await;
    }
    let buckets = "update onceward_bucket set closed_at = now(), sealed = true; \
                   insert into onceward_bucket (bucket) values (1)";
    database.execute(buckets).await;
}

//! Effects in PostgreSQL, 8 partitions: our handlers, of one record and of a batch, against what
//! one writes by hand. With PostgreSQL as it is, and with `commit_delay` = 1 ms, which models a
//! disk in a cloud.

use crate::application::{Count, timed};
use crate::bench::Bench;
use crate::by_hand::ByHand;
use crate::postgres::{PARTITIONS, add_all, add_one, app, database};
use crate::topics::full;
use harness::{Case, Report, Took};
use onceward::prelude::*;
use support::unique;

#[handler(topic = "overridden", name = "effects")]
async fn one(Key(key): Key<&str>, tx: &mut Tx) -> HandlerResult {
    Ok(add_one(tx, key).await?)
}

#[handler(topic = "overridden", name = "effects")]
async fn many(keys: Batch<Key<&str>>, tx: &mut Tx) -> HandlerResult {
    Ok(add_all(tx, keys.iter().map(|Key(key)| *key)).await?)
}

pub fn as_it_is(bench: &Bench, report: &mut Report) {
    against_by_hand(bench, report, "PostgreSQL as it is", 0);
}

pub fn delayed(bench: &Bench, report: &mut Report) {
    against_by_hand(bench, report, "commits delayed by 1 ms", 1000);
}

fn against_by_hand(bench: &Bench, report: &mut Report, name: &str, delay: u32) {
    let (records, a_record) = (bench.records(120_000), bench.records(3000));
    let topic = &*full(bench, PARTITIONS, records, 100);
    report.compare(
        Case::new(format!("effects in a transaction, {name}"))
            .contender("transaction a record, by hand", || {
                ByHand::TransactionARecord.run(bench, delay, a_record)
            })
            .contender("group commit, by hand", || ByHand::GroupCommit.run(bench, delay, records))
            .contender("unnest, by hand", || ByHand::Unnest.run(bench, delay, records))
            .contender("the same, from Kafka", || ByHand::Unnest.run_from_kafka(bench, topic, delay, records))
            .contender("onceward, one record", || {
                ours(bench, delay, records, |app, count| {
                    app.handler(one {}.route().topic(topic).group(unique("bench")).around(count))
                })
            })
            .contender("onceward, batch", || {
                ours(bench, delay, records, |app, count| {
                    app.handler(many {}.route().topic(topic).group(unique("bench")).around(count))
                })
            })
            .at_least("onceward, one record", 0.8, "group commit, by hand")
            .at_least("onceward, one record", 3.0, "transaction a record, by hand")
            .at_least("onceward, batch", 0.8, "unnest, by hand")
            .at_least("onceward, batch", 0.8, "the same, from Kafka")
            .at_least("onceward, batch", 15.0, "transaction a record, by hand"),
    );
}

fn ours(bench: &Bench, delay: u32, records: u64, add: impl FnOnce(App, Count) -> App) -> Took {
    let database = database(bench, delay);
    let took = timed(bench, records, |count| add(app(bench, &database), count));
    let counted = bench.runtime.block_on(database.number("select sum(count)::bigint from totals"));
    assert_eq!(counted, records as i64, "each record counts once");
    took
}

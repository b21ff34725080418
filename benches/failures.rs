//! The cost of failures: the one-record handler in a transaction without failures, with 5 % of
//! the records failing once, and with 1 % more dead-lettered.

use crate::application::timed;
use crate::bench::Bench;
use crate::postgres::{PARTITIONS, add_one, app, database};
use crate::topics::full;
use harness::{Case, Report};
use onceward::prelude::*;
use support::unique;

/// How many of a hundred records fail.
#[derive(Clone, Copy)]
struct Rate {
    once: i64,
    for_good: i64,
}

#[handler(topic = "overridden", name = "failures")]
async fn one(
    Key(key): Key<&str>,
    position: Position,
    Attempt(attempt): Attempt,
    rate: State<Rate>,
    tx: &mut Tx,
) -> HandlerResult {
    add_one(tx, key).await?;
    // Spread over the hundred.
    let place = position.offset * 37 % 100;
    if place < rate.0.for_good {
        return Err(HandlerError::new("for good").permanent());
    }
    let fails_once = place < rate.0.for_good + rate.0.once;
    if fails_once && attempt == 1 { Err(HandlerError::new("once")) } else { Ok(()) }
}

pub fn run(bench: &Bench, report: &mut Report) {
    let records = bench.records(100_000);
    let topic = &*full(bench, PARTITIONS, records, 100);
    let rate = |once, for_good| {
        move || {
            let database = database(bench, 0);
            timed(bench, records, |count| {
                let route = one {}.route().topic(topic).group(unique("bench")).dead_letter(unique("letters"));
                app(bench, &database).state(Rate { once, for_good }).handler(route.around(count))
            })
        }
    };
    report.compare(
        Case::new("failures")
            .contender("none", rate(0, 0))
            .contender("5 % fail once", rate(5, 0))
            .contender("5 % fail once, 1 % for good", rate(5, 1)),
    );
}

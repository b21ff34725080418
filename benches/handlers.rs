//! Slow handlers: 2 us and 100 us of computing, and 1 ms of waiting. In order of the partition
//! and by key, against a plain loop; the waiting ones also against as many tasks that only
//! wait.

use crate::application::{Count, timed};
use crate::bench::Bench;
use crate::loops::{self, Settings};
use crate::topics::full;
use harness::{Case, Moment, Report, Spread, Took};
use onceward::Order;
use onceward::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::unique;

const CONCURRENCY: usize = 256;
const WAIT: Duration = Duration::from_millis(1);

/// How long a handler computes.
#[derive(Clone, Copy)]
struct Compute(Duration);

impl Compute {
    fn run(self) {
        let start = Instant::now();
        while start.elapsed() < self.0 {
            std::hint::spin_loop();
        }
    }
}

#[handler(topic = "overridden")]
async fn computes(compute: State<Compute>, count: State<Count>) -> HandlerResult {
    compute.0.run();
    count.0.add(1);
    Ok(())
}

/// The sum of the handlers' own times, in nanoseconds.
#[derive(Clone, Default)]
struct OwnTime(Arc<AtomicU64>);

#[handler(topic = "overridden")]
async fn waits(own: State<OwnTime>, count: State<Count>) -> HandlerResult {
    let start = Instant::now();
    tokio::time::sleep(WAIT).await;
    own.0.0.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    count.0.add(1);
    Ok(())
}

pub fn computing(bench: &Bench, report: &mut Report) {
    for (name, micros, records) in [("2 us", 2, 500_000), ("100 us", 100, 15_000)] {
        let records = bench.records(records);
        let topic = &*full(bench, 8, records, 100);
        let compute = Compute(Duration::from_micros(micros));
        let onceward = move |order| {
            timed(bench, records, |count| {
                let route = computes {}.route().topic(topic).group(unique("bench")).order(order);
                let route = if order == Order::Key { route.concurrency(CONCURRENCY) } else { route };
                bench.app().state(compute).state(count).handler(route)
            })
        };
        report.compare(
            Case::new(format!("computes for {name}, 8 partitions"))
                .contender("plain loop", || {
                    loops::plain(bench, topic, records, Settings::Tuned, |_| compute.run())
                })
                .contender("onceward", move || onceward(Order::Partition))
                .contender("onceward by key", move || onceward(Order::Key)),
        );
    }
}

pub fn waiting(bench: &Bench, report: &mut Report) {
    let (one_by_one, partitions_at_once, by_key) =
        (bench.records(1000), bench.records(8000), bench.records(250_000));
    let topic = &*full(bench, 8, by_key, 100);
    let own = OwnTime::default();
    let busy = RefCell::new(Vec::new());
    let onceward = |order, records| {
        own.0.store(0, Ordering::Relaxed);
        timed(bench, records, |count| {
            let route = waits {}.route().topic(topic).group(unique("bench")).order(order);
            let route = if order == Order::Key { route.concurrency(CONCURRENCY) } else { route };
            bench.app().state(own.clone()).state(count).handler(route)
        })
    };
    let of_concurrency = |took: Took| {
        let own = own.0.load(Ordering::Relaxed) as f64 / 1e9;
        busy.borrow_mut().push(own / CONCURRENCY as f64 / took.time.as_secs_f64());
        took
    };
    report.compare(
        Case::new("waits for 1 ms, 8 partitions")
            .contender("plain loop", || {
                loops::plain(bench, topic, one_by_one, Settings::Tuned, |_| std::thread::park_timeout(WAIT))
            })
            .contender("onceward", || onceward(Order::Partition, partitions_at_once))
            .contender("onceward by key", || of_concurrency(onceward(Order::Key, by_key)))
            // tokio's clock makes 2 ms of 1 ms: 256 at once are 128,000 a second at most.
            .contender("tasks that wait, no Kafka", || waiting_tasks(bench, by_key)),
    );
    if !busy.borrow().is_empty() {
        let share = Spread::of(busy.into_inner()).median;
        report.figures(
            "waits for 1 ms, share of the concurrency in use",
            "onceward by key",
            &[("share", share, "")],
        );
    }
}

/// So many waits, as many at once as ours.
fn waiting_tasks(bench: &Bench, records: u64) -> Took {
    let each = records / CONCURRENCY as u64 + 1;
    let start = Moment::now();
    bench.runtime.block_on(async {
        let tasks = (0..CONCURRENCY).map(|_| {
            tokio::spawn(async move {
                for _ in 0..each {
                    tokio::time::sleep(WAIT).await;
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no panic");
        }
    });
    start.took(each * CONCURRENCY as u64)
}

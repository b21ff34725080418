//! Runs of an application with a handler, from its first record to the last.

use crate::bench::Bench;
use harness::{Moment, Took};
use onceward::CancellationToken;
use onceward::middleware::{Middleware, NextRun, Outcomes, Run};
use onceward::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use support::unique;

/// Counts what was handled. As a middleware it counts runs, so that counting costs nothing
/// that others do not pay.
#[derive(Clone)]
pub struct Count {
    start: Arc<OnceLock<Moment>>,
    handled: Arc<AtomicU64>,
    until: u64,
    done: CancellationToken,
}

impl Count {
    pub fn until(records: u64) -> Self {
        Self {
            start: Arc::default(),
            handled: Arc::default(),
            until: records,
            done: CancellationToken::new(),
        }
    }

    /// Counts so many more.
    pub fn add(&self, count: u64) {
        self.begin();
        if self.handled.fetch_add(count, Ordering::Relaxed) + count >= self.until {
            self.done.cancel();
        }
    }

    /// The first call starts the clock.
    fn begin(&self) {
        self.start.get_or_init(Moment::now);
    }

    /// How many were counted.
    pub fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// Waits until all were counted, and says what they took.
    pub async fn done(&self) -> Took {
        self.done.cancelled().await;
        self.start.get().expect("begun before done").took(self.until)
    }
}

impl Middleware for Count {
    async fn call<'a, N: NextRun>(&'a self, run: Run<'a>, next: &'a N) -> Outcomes {
        self.begin();
        let outcomes = next.run(run).await;
        self.add(outcomes.iter().filter(|outcome| outcome.is_finished()).count() as u64);
        outcomes
    }
}

/// What an application with one handler takes for so many records.
pub fn timed(bench: &Bench, records: u64, app: impl FnOnce(Count) -> App) -> Took {
    let count = Count::until(records);
    while_running(bench, app(count.clone()), count.done())
}

/// The result of some work beside an application, which is shut down afterwards.
pub fn while_running<T>(bench: &Bench, app: App, work: impl Future<Output = T>) -> T {
    let stop = CancellationToken::new();
    bench.runtime.block_on(async {
        let running = tokio::spawn(app.shutdown_on(stop.clone()).run());
        let result = work.await;
        stop.cancel();
        running.await.expect("no panic").expect("a clean end");
        result
    })
}

#[handler(topic = "overridden", name = "noop")]
pub async fn noop(payload: &[u8]) -> HandlerResult {
    std::hint::black_box(payload[0]);
    Ok(())
}

/// An application with the handler that does nothing.
pub fn noop_app(bench: &Bench, topic: &str, count: Count) -> App {
    bench.app().handler(noop {}.route().topic(topic).group(unique("bench")).around(count))
}

/// The same, timed.
pub fn onceward(bench: &Bench, topic: &str, records: u64) -> Took {
    timed(bench, records, |count| noop_app(bench, topic, count))
}

//! The engine's allocations per record. Allocations of librdkafka in C are not counted.

use crate::application::{Count, noop, while_running};
use crate::bench::Bench;
use crate::topics::full;
use harness::Report;
use onceward::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use support::unique;

/// The system's allocator, with a count of what Rust code allocates.
pub struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How often this process has allocated.
pub fn so_far() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

pub fn run(bench: &Bench, report: &mut Report) {
    const CASE: &str = "allocations, no-op, 100 B, 8 partitions";
    let records = bench.records(1_000_000);
    let topic = full(bench, 8, records, 100);
    // The start is not counted.
    let (started, all) = (Count::until(records / 5), Count::until(records));
    let route = noop {}.route().topic(&topic).group(unique("bench"));
    let app = bench.app().handler(route.around(started.clone()).around(all.clone()));
    let each = while_running(bench, app, async {
        started.done().await;
        let (allocated, handled) = (so_far(), started.handled());
        all.done().await;
        // Where all were one run, there is none between.
        (so_far() - allocated) as f64 / (records - handled).max(1) as f64
    });
    report.figures(CASE, "onceward", &[("allocations a record", each, "")]);
    // One a record would be 1; those of a run are shared by its records.
    report.at_most(CASE, "allocations a record", each, 0.05);
}

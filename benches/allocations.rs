//! How often the engine allocates a record.

use crate::{engine, topics};
use onceward::CancellationToken;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use support::Stack;
use tokio::runtime::Runtime;

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

pub fn run(runtime: &Runtime, stack: &Stack) {
    let records = 1_000_000;
    let topic = topics::full(runtime, stack, 8, records, 100);
    let (end, stop) = (CancellationToken::new(), CancellationToken::new());
    let count = engine::Count { handled: Arc::default(), until: records, done: end.clone() };
    let app = engine::noop_app(stack, &topic, count).shutdown_on(stop.clone());
    let before = COUNT.load(Ordering::Relaxed);
    runtime.block_on(async {
        let running = tokio::spawn(app.run());
        end.cancelled().await;
        let allocated = COUNT.load(Ordering::Relaxed) - before;
        stop.cancel();
        running.await.expect("no panic").expect("a clean end");
        println!(
            "\n### allocations\n\n{allocated} for {records} records, start included: {:.4} a record",
            allocated as f64 / records as f64
        );
    });
}

//! Wakes the poll thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// A way to wake one thread, cheap to use often: only the first call between two
/// waits does more than look at a flag.
#[derive(Debug)]
pub(crate) struct Wake {
    called: AtomicBool,
    thread: Thread,
}

impl Wake {
    /// Wakes the calling thread.
    pub(crate) fn this_thread() -> Self {
        Self { called: AtomicBool::new(false), thread: thread::current() }
    }

    pub(crate) fn wake(&self) {
        if !self.called.swap(true, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }

    /// Waits for the next call, or for `limit`. A call since the last wait counts.
    pub(crate) fn wait(&self, limit: Duration) {
        if !self.called.swap(false, Ordering::AcqRel) {
            thread::park_timeout(limit);
            self.called.store(false, Ordering::Release);
        }
    }
}

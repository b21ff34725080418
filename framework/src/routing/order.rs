//! How many handlers of a topic run at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// Whether the records of several lanes go in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// As long as no call of the handler has to wait for anything. Nothing is left to do
    /// after the calls of a run, so those that are done need not wait for the others.
    WhileQuick,
    /// No: what is done after the calls would wait for the slowest.
    Never,
    /// Yes: they share a call or a commit.
    Always,
}

/// How many handlers of a topic run at once in a process, where its order allows several.
pub(crate) const CONCURRENCY: usize = 64;

/// What the workers of a topic share: how many runs go at once in the process.
#[derive(Debug)]
pub(crate) struct Turns {
    pub(crate) permits: Semaphore,
    concurrency: usize,
    workers: AtomicUsize,
}

impl Turns {
    pub(crate) fn new(concurrency: usize) -> Self {
        let concurrency = concurrency.min(Semaphore::MAX_PERMITS);
        Self { permits: Semaphore::new(concurrency), concurrency, workers: AtomicUsize::new(0) }
    }

    /// Counts a worker, until that is dropped.
    pub(crate) fn join(&self) -> Joined<'_> {
        self.workers.fetch_add(1, Ordering::Relaxed);
        Joined(self)
    }

    /// What each worker may have where all want more.
    pub(crate) fn share(&self) -> usize {
        self.concurrency.div_ceil(self.workers.load(Ordering::Relaxed).max(1))
    }
}

#[derive(Debug)]
pub(crate) struct Joined<'t>(&'t Turns);

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        self.0.workers.fetch_sub(1, Ordering::Relaxed);
    }
}

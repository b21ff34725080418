//! The order of records, and how often they are handled.

use serde::Deserialize;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// Which records of a partition are handled in order, one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Order {
    /// All records of a partition.
    #[default]
    Partition,
    /// The records of a key. Keys are handled concurrently, at most `concurrency` in the
    /// process. A record that is slow or fails holds back only its key. Records without a key
    /// count as one key.
    Key,
    /// None. Records are handled concurrently, at most `concurrency` in the process. Only
    /// copies of one event, by its declared identity, are handled one after the other.
    None,
}

/// How often a record is handled, whatever ends the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Guarantee {
    /// At least once: its offset is committed after it was handled. With a transaction its
    /// effects count once; with deduplication alone, a record that was recorded as processed is
    /// not handled again.
    #[default]
    AtLeastOnce,
    /// At most once: its offset is committed before its handler is called. Work in flight is
    /// lost if the process ends or loses its partition. For work that must not happen twice and
    /// cannot be made idempotent. Needs `order = "partition"`.
    AtMostOnceLosingWorkInFlight,
}

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

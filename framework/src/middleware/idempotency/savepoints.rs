//! How often a run's transaction sets a savepoint.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Where a handler's calls fail now and then, savepoints let a failure undo a few records
/// and not its whole run. Where none fail they would only cost round trips, so there are
/// none until one does.
#[derive(Debug, Default)]
pub(crate) struct Savepoints {
    /// Records before which some are still worth it.
    worth: AtomicUsize,
}

/// A savepoint costs one round trip, an undone record one; at a failure every 16 to 100
/// records 6 to 14 would be best.
const EVERY: usize = 8;
/// With failures rarer than that, savepoints cost more than they save.
const WORTH_FOR: usize = 1000;

impl Savepoints {
    /// Notes a failure that undid something.
    pub(crate) fn failed(&self) {
        self.worth.store(WORTH_FOR, Ordering::Relaxed);
    }

    /// A savepoint every so many of these records.
    pub(crate) fn every(&self, records: usize) -> usize {
        let worth = self.worth.load(Ordering::Relaxed);
        if worth == 0 {
            return usize::MAX;
        }
        // Two runs at once may count one of them only, which does no harm.
        self.worth.store(worth.saturating_sub(records), Ordering::Relaxed);
        EVERY
    }
}

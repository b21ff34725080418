//! Whether each call of a handler has a transaction of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A call that leaves a setting, a role or a temporary table in its transaction is the last of it.
/// A handler with such calls gets runs of one record for a while, so that none are claimed and
/// given back each time.
#[derive(Debug, Default)]
pub(crate) struct Alone {
    /// So many more runs.
    runs: AtomicUsize,
}

const RUNS: usize = 100;

impl Alone {
    /// Whether the next run is to have one record. Each question counts.
    pub(crate) fn is_due(&self) -> bool {
        let runs = self.runs.load(Ordering::Relaxed);
        // Two runs at once may count one of them only, which does no harm.
        if runs > 0 {
            self.runs.store(runs - 1, Ordering::Relaxed);
        }
        runs > 0
    }

    /// Notes a call that left something. Gives whether it is the first for long.
    pub(crate) fn left_something(&self) -> bool {
        self.runs.swap(RUNS, Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_have_one_record_until_calls_have_left_nothing_for_long() {
        let alone = Alone::default();
        assert!(!alone.is_due());
        assert!(alone.left_something());
        (0..RUNS).for_each(|_| assert!(alone.is_due()));
        assert!(!alone.is_due() && alone.left_something());
        assert!(alone.is_due() && !alone.left_something());
        assert_eq!((0..1000).filter(|_| alone.is_due()).count(), RUNS);
    }
}

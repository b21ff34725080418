//! The books on attempts at records that failed and are not done.

use crate::Record;
use crate::record::TopicPartition;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What is known of a failed record's attempts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial {
    /// How many have failed.
    pub(crate) attempts: u32,
    /// When the first one failed, in milliseconds since the epoch.
    pub(crate) first_failure: u128,
    pub(crate) since: Instant,
}

impl Trial {
    /// So many failed attempts, now.
    pub(crate) fn of(attempts: u32) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { attempts, first_failure: now.as_millis(), since: Instant::now() }
    }
}

/// The attempts at records that failed and are not done. They outlive an
/// assignment: a partition that comes back to this process goes on where it was.
#[derive(Debug, Default)]
pub(crate) struct Trials {
    /// So that a healthy run takes no lock.
    count: AtomicUsize,
    failed: Mutex<HashMap<(TopicPartition, i64), Trial>>,
}

/// Longer than any retry lasts: what is older was given away and done elsewhere.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

impl Trials {
    /// How many attempts at a record have failed.
    pub(crate) fn attempts(&self, record: Record<'_>) -> u32 {
        if self.is_empty() {
            return 0;
        }
        self.lock().get(&place(record)).map_or(0, |trial| trial.attempts)
    }

    /// The record with the number of its next attempt.
    pub(crate) fn next_attempt<'a>(&self, record: Record<'a>) -> Record<'a> {
        record.at_attempt(self.attempts(record) + 1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Notes that an attempt has failed.
    pub(crate) fn failed(&self, record: Record<'_>) -> Trial {
        let mut failed = self.lock();
        failed.retain(|_, trial| trial.since.elapsed() < FORGOTTEN_AFTER);
        let trial = failed.entry(place(record)).or_insert_with(|| Trial::of(0));
        // More than the record says, where it was tried again within a run.
        trial.attempts = record.attempt().max(trial.attempts + 1);
        let trial = *trial;
        self.count.store(failed.len(), Ordering::Relaxed);
        trial
    }

    /// Notes that a record is done.
    pub(crate) fn done(&self, record: Record<'_>) {
        if self.is_empty() {
            return;
        }
        let mut failed = self.lock();
        failed.remove(&place(record));
        self.count.store(failed.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(TopicPartition, i64), Trial>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(record: Record<'_>) -> (TopicPartition, i64) {
    (record.topic_partition().clone(), record.offset())
}

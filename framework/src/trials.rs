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
    /// When the last one failed.
    last: Instant,
}

impl Trial {
    /// So many failed attempts, now.
    pub(crate) fn of(attempts: u32) -> Self {
        Self::beginning(attempts, Instant::now())
    }

    fn beginning(attempts: u32, now: Instant) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { attempts, first_failure: time.as_millis(), since: now, last: now }
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

/// Longer than any wait for the next attempt: what has not failed since was given away and
/// done elsewhere.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

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
        self.failed_at(record, Instant::now())
    }

    fn failed_at(&self, record: Record<'_>, now: Instant) -> Trial {
        let mut failed = self.lock();
        failed.retain(|_, trial| now.saturating_duration_since(trial.last) < FORGOTTEN_AFTER);
        let trial = failed.entry(place(record)).or_insert_with(|| Trial::beginning(0, now));
        trial.last = now;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Message, OwnedMessage};
    use crate::run::Source;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn with_two_records(test: impl FnOnce(Record<'_>, Record<'_>)) {
        let message = |offset| Message::Owned(Box::new(OwnedMessage { offset, ..Default::default() }));
        let (one, other) = (message(1), message(2));
        let source = Source::new(TopicPartition::new("t", 0), "g".into());
        test(Record::new(&one, &source, 1), Record::new(&other, &source, 1));
    }

    #[test]
    fn a_records_attempts_are_counted_until_it_is_done() {
        with_two_records(|record, other| {
            let trials = Trials::default();
            assert_eq!((trials.is_empty(), trials.next_attempt(record).attempt()), (true, 1));
            assert_eq!(trials.failed(record).attempts, 1);
            assert_eq!((trials.is_empty(), trials.next_attempt(record).attempt()), (false, 2));
            assert_eq!(trials.failed(record).attempts, 2);
            assert_eq!(trials.failed(record.at_attempt(7)).attempts, 7, "within one run");
            assert_eq!((trials.attempts(record), trials.attempts(other)), (7, 0));
            trials.done(other);
            assert_eq!(trials.attempts(record), 7);
            trials.done(record);
            assert_eq!((trials.is_empty(), trials.attempts(record)), (true, 0));
        });
    }

    #[test]
    fn a_record_that_is_tried_for_days_is_not_forgotten_meanwhile() {
        with_two_records(|record, other| {
            let (trials, now) = (Trials::default(), Instant::now());
            let first = trials.failed_at(record, now);
            for attempt in 2..10 {
                let trial = trials.failed_at(record, now + 23 * HOUR * (attempt - 1));
                assert_eq!((trial.attempts, trial.since), (attempt, first.since));
                assert_eq!(trial.first_failure, first.first_failure);
            }
            trials.failed_at(other, now + 23 * HOUR * 8 + 24 * HOUR);
            assert_eq!((trials.attempts(record), trials.attempts(other)), (0, 1), "it was given away");
        });
    }
}

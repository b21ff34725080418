//! Counts one handler's attempts at records that failed and are not finished.

use crate::Record;
use crate::base::backoff::LONGEST;
use crate::base::sync::lock;
use crate::error::reason::{GivenUp, Reason};
use crate::record::TopicPartition;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The attempts at a failed record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial {
    /// How many have failed.
    pub(crate) attempts: u32,
    /// When the first one failed, in milliseconds since the epoch.
    pub(crate) first_failure: u128,
    /// The same, moved on by the time in which it could not be tried through no fault of its own.
    pub(crate) since: Instant,
    /// When it was last tried.
    last: Instant,
    /// Since when it cannot be tried.
    held: Option<Instant>,
}

impl Trial {
    /// So many failed attempts, now.
    pub(crate) fn of(attempts: u32) -> Self {
        Self::beginning(attempts, Instant::now())
    }

    /// A record that is given up after these.
    pub(crate) fn given_up(self, reason: Reason) -> GivenUp {
        GivenUp { reason, attempts: self.attempts, first_failure: self.first_failure }
    }

    fn beginning(attempts: u32, now: Instant) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { attempts, first_failure: time.as_millis(), since: now, last: now, held: None }
    }
}

/// One handler's attempts at records that failed and are not done. They outlive an assignment: a
/// partition that comes back to this process goes on where it was.
#[derive(Debug, Default)]
pub(crate) struct Trials {
    /// So that a healthy run takes no lock.
    count: AtomicUsize,
    failed: Mutex<Failed>,
}

type Place = (TopicPartition, i64);

#[derive(Debug, Default)]
struct Failed {
    trials: HashMap<Place, Trial>,
    swept: Option<Instant>,
}

/// Longer than any wait for the next attempt: what was not tried since was given away and done
/// elsewhere.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(2 * LONGEST.as_secs());
const SWEPT_EVERY: Duration = Duration::from_secs(60);
/// Beyond so many, those that were not tried for longest begin anew.
const MOST: usize = 200_000;

impl Trials {
    /// How many attempts at a record have failed.
    pub(crate) fn attempts(&self, record: Record<'_>) -> u32 {
        if self.is_empty() {
            return 0;
        }
        self.lock().trials.get(&place(record)).map_or(0, |trial| trial.attempts)
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
        failed.sweep(now);
        let trial = failed.trials.entry(place(record)).or_insert_with(|| Trial::beginning(0, now));
        if let Some(held) = trial.held.take() {
            trial.since += now.saturating_duration_since(held);
        }
        trial.last = now;
        // More than the record says, where it was tried again within a run.
        trial.attempts = record.attempt().max(trial.attempts + 1);
        let trial = *trial;
        self.count.store(failed.trials.len(), Ordering::Relaxed);
        trial
    }

    /// Notes that a record could not be tried, through no fault of its own: that time is not charged
    /// to it.
    pub(crate) fn held(&self, record: Record<'_>) {
        self.held_at(record, Instant::now());
    }

    fn held_at(&self, record: Record<'_>, now: Instant) {
        if !self.is_empty()
            && let Some(trial) = self.lock().trials.get_mut(&place(record))
        {
            trial.last = now;
            trial.held.get_or_insert(now);
        }
    }

    /// Notes that a record is done.
    pub(crate) fn done(&self, record: Record<'_>) {
        if self.is_empty() {
            return;
        }
        let mut failed = self.lock();
        failed.trials.remove(&place(record));
        self.count.store(failed.trials.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Failed> {
        lock(&self.failed)
    }
}

impl Failed {
    /// Forgets those that are done elsewhere, now and then, and the oldest where there are too many.
    fn sweep(&mut self, now: Instant) {
        let is_due = self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEPT_EVERY);
        if is_due {
            self.swept = Some(now);
            self.trials.retain(|_, trial| now.saturating_duration_since(trial.last) < FORGOTTEN_AFTER);
        }
        if self.trials.len() >= MOST {
            let mut times: Vec<Instant> = self.trials.values().map(|trial| trial.last).collect();
            // A tenth, so that this is not done for each.
            let (_, oldest, _) = times.select_nth_unstable(MOST / 10);
            let oldest = *oldest;
            self.trials.retain(|_, trial| trial.last > oldest);
        }
    }
}

fn place(record: Record<'_>) -> Place {
    (record.topic_partition().clone(), record.offset())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::message::{Message, OwnedMessage};
    use crate::record::source::Source;

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
                let trial = trials.failed_at(record, now + 47 * HOUR * (attempt - 1));
                assert_eq!((trial.attempts, trial.since), (attempt, first.since));
                assert_eq!(trial.first_failure, first.first_failure);
            }
            trials.failed_at(other, now + 47 * HOUR * 8 + 48 * HOUR);
            assert_eq!((trials.attempts(record), trials.attempts(other)), (0, 1), "it was given away");
        });
    }

    #[test]
    fn time_in_which_a_record_could_not_be_tried_is_not_charged_to_it() {
        with_two_records(|record, other| {
            let (trials, now) = (Trials::default(), Instant::now());
            trials.held_at(record, now);
            assert!(trials.is_empty(), "it has not failed");
            trials.failed_at(record, now);
            trials.held_at(other, now + HOUR);
            for hour in 1..100 {
                trials.held_at(record, now + HOUR * hour);
            }
            assert_eq!(trials.attempts(record), 1);
            let trial = trials.failed_at(record, now + HOUR * 100);
            assert_eq!((trial.attempts, trial.since), (2, now + HOUR * 99));
            let trial = trials.failed_at(record, now + HOUR * 101);
            assert_eq!((trial.attempts, trial.since), (3, now + HOUR * 99), "its own time is");
        });
    }

    #[test]
    fn there_are_never_more_than_so_many_and_the_newest_stay() {
        let source = Source::new(TopicPartition::new("t", 0), "g".into());
        let (trials, now) = (Trials::default(), Instant::now());
        for offset in 0..=i64::try_from(MOST).unwrap() {
            let message = Message::Owned(Box::new(OwnedMessage { offset, ..Default::default() }));
            let at = now + Duration::from_micros(offset.unsigned_abs());
            trials.failed_at(Record::new(&message, &source, 1), at);
        }
        let failed = trials.lock();
        assert_eq!(failed.trials.len(), MOST - MOST / 10);
        let oldest = failed.trials.keys().map(|(_, offset)| *offset).min().unwrap();
        assert_eq!(oldest, i64::try_from(MOST / 10).unwrap() + 1);
    }
}

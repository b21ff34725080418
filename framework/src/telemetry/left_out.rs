//! Counts what a handler leaves out because its identity says that it was done before, and what is so
//! old that nobody can know it, and says it in the log, so that no event goes missing unseen.

use crate::base::sync::lock;
use crate::error::trouble::Rarely;
use crate::record::identity::Found;
use crate::{Outcome, Outcomes, Record, Run, TopicPartition};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The counts of one handler, by partition.
#[derive(Debug)]
pub(crate) struct LeftOut {
    handler: Arc<str>,
    /// For how long it is known what was done, where that has an end.
    window: Option<Duration>,
    /// Whether the log does not tell of all yet. If it does, a run without any takes no lock.
    is_any_unsaid: AtomicBool,
    partitions: Mutex<HashMap<TopicPartition, Counts>>,
    is_nil_said: AtomicBool,
}

#[derive(Debug, Default)]
struct Counts {
    duplicates: Count,
    foreign: Count,
    old: Count,
}

impl Counts {
    fn is_any_unsaid(&self) -> bool {
        [&self.duplicates, &self.foreign, &self.old].iter().any(|count| count.unsaid > 0)
    }
}

/// How many the log does not tell of yet.
#[derive(Debug, Default)]
struct Count {
    unsaid: u64,
    rarely: Rarely,
}

impl Count {
    /// Counts more, or none. Gives how many there are, if the log is to tell of them now.
    fn add(&mut self, more: u64) -> Option<u64> {
        self.unsaid = self.unsaid.saturating_add(more);
        let is_due = self.unsaid > 0 && self.rarely.count().is_some();
        is_due.then(|| std::mem::take(&mut self.unsaid))
    }
}

/// How many records the log is to tell of now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    duplicates: Option<u64>,
    foreign: Option<u64>,
    old: Option<u64>,
}

/// What to count.
#[derive(Debug, Clone, Copy, Default)]
struct More {
    duplicates: u64,
    foreign: u64,
    old: u64,
}

/// The time (milliseconds since the epoch) before which a record is older than the window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Oldest(i64);

impl LeftOut {
    pub(crate) fn of(handler: Arc<str>, window: Option<Duration>) -> Self {
        Self {
            handler,
            window,
            is_any_unsaid: false.into(),
            partitions: Mutex::default(),
            is_nil_said: false.into(),
        }
    }

    /// Before which time a record is older than the window, now.
    pub(crate) fn oldest(&self) -> Oldest {
        let before = |window| SystemTime::now().duration_since(UNIX_EPOCH).ok()?.checked_sub(window);
        let oldest = self.window.and_then(before).and_then(|oldest| oldest.as_millis().try_into().ok());
        Oldest(oldest.unwrap_or(i64::MIN))
    }

    /// Counts the duplicates of a run.
    pub(crate) fn add(&self, run: Run<'_>, outcomes: &Outcomes) {
        let ended = run.iter().zip(outcomes);
        let mut duplicates = ended.filter(|(_, outcome)| matches!(outcome, Outcome::Duplicate));
        let first = duplicates.next().map(|(record, _)| record.offset());
        if first.is_none() && !self.is_any_unsaid.load(Ordering::Relaxed) {
            return;
        }
        let records = u64::from(first.is_some()) + duplicates.count() as u64;
        let more = More { duplicates: records, ..More::default() };
        self.say(run.source(), &self.count(run.source(), more), first);
    }

    /// Counts what is odd about a record's identity, and whether it is older than the window.
    #[inline]
    pub(crate) fn note(&self, record: Record<'_>, found: &Found, oldest: Oldest) {
        let is_old = record.timestamp().is_some_and(|time| time < oldest.0);
        if found.is_nil || found.is_foreign || is_old {
            self.note_odd(record, found, is_old);
        }
    }

    #[cold]
    fn note_odd(&self, record: Record<'_>, found: &Found, is_old: bool) {
        if found.is_nil && !self.is_nil_said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %record,
                handler = &*self.handler,
                "its declared identity is the nil UUID, which tells no event from another: such records are told \
                 apart by their positions, so a second copy that a producer makes is handled again (said once)"
            );
        }
        if found.is_foreign || is_old {
            let partition = record.topic_partition();
            let more =
                More { foreign: u64::from(found.is_foreign), old: u64::from(is_old), ..More::default() };
            self.say(partition, &self.count(partition, more), Some(record.offset()));
        }
    }

    fn count(&self, partition: &TopicPartition, more: More) -> Due {
        let mut partitions = lock(&self.partitions);
        let due = if partitions.contains_key(partition) || more.duplicates + more.foreign + more.old > 0 {
            let counts = partitions.entry(partition.clone()).or_default();
            Due {
                duplicates: counts.duplicates.add(more.duplicates),
                foreign: counts.foreign.add(more.foreign),
                old: counts.old.add(more.old),
            }
        } else {
            Due::default()
        };
        self.is_any_unsaid.store(partitions.values().any(Counts::is_any_unsaid), Ordering::Relaxed);
        due
    }

    fn say(&self, source: &TopicPartition, due: &Due, offset: Option<i64>) {
        let handler = &*self.handler;
        if let Some(records) = due.duplicates {
            tracing::info!(
                %source,
                handler,
                records,
                offset,
                "left out as duplicates: records with the same identities were handled before"
            );
        }
        if let Some(records) = due.foreign {
            tracing::info!(
                %source,
                handler,
                records,
                offset,
                "the header `onceward.identity` was written for other records than these, so it is ignored"
            );
        }
        if let Some(records) = due.old {
            tracing::warn!(
                %source,
                handler,
                records,
                offset,
                "older than `dedupe_window`: what was done with these records before is no longer known, so they \
                 are handled"
            );
        }
    }
}

impl Drop for LeftOut {
    /// Logs the counts now that would be logged later.
    fn drop(&mut self) {
        let rest = |count: &Count| (count.unsaid > 0).then_some(count.unsaid);
        for (partition, counts) in &*lock(&self.partitions) {
            let due = Due {
                duplicates: rest(&counts.duplicates),
                foreign: rest(&counts.foreign),
                old: rest(&counts.old),
            };
            self.say(partition, &due, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::drain::Drain;
    use crate::kafka::message::{Message, OwnedMessage};
    use crate::record::identity::IdentitySource;
    use crate::record::run::RunClock;
    use crate::record::source::Source;
    use std::time::Duration;

    const WINDOW: Duration = Duration::from_secs(14 * 24 * 60 * 60);

    fn left_out() -> LeftOut {
        LeftOut::of("h".into(), Some(WINDOW))
    }

    fn unsaid(left_out: &LeftOut) -> Vec<[u64; 3]> {
        let partitions = lock(&left_out.partitions);
        let of =
            |counts: &Counts| [&counts.duplicates, &counts.foreign, &counts.old].map(|count| count.unsaid);
        partitions.values().map(of).collect()
    }

    #[test]
    fn what_is_left_out_is_counted_and_said_once_and_later_again() {
        let (left_out, partition) = (left_out(), TopicPartition::new("t", 0));
        let due = |duplicates, foreign, old| Due { duplicates, foreign, old };
        let count = |partition: &TopicPartition, duplicates, foreign, old| {
            left_out.count(partition, More { duplicates, foreign, old })
        };
        assert_eq!(count(&partition, 3, 0, 0), due(Some(3), None, None));
        assert!(!left_out.is_any_unsaid.load(Ordering::Relaxed));
        assert_eq!(count(&partition, 2, 1, 0), due(None, Some(1), None));
        assert_eq!(count(&partition, 0, 5, 7), due(None, None, Some(7)));
        assert!(left_out.is_any_unsaid.load(Ordering::Relaxed));
        let another = TopicPartition::new("t", 1);
        assert_eq!(count(&another, 4, 0, 0), due(Some(4), None, None));
        assert_eq!(unsaid(&left_out).iter().max(), Some(&[2, 5, 0]));
    }

    #[test]
    fn a_record_that_is_older_than_the_window_is_counted() {
        let now: i64 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap();
        let window: i64 = WINDOW.as_millis().try_into().unwrap();
        let left_out_of = |window, timestamp| {
            let left_out = LeftOut::of("h".into(), window);
            let message =
                Message::Owned(Box::new(OwnedMessage { timestamp, offset: 7, ..Default::default() }));
            let source = Source::new(TopicPartition::new("t", 0), "g".into());
            let record = Record::new(&message, &source, 1);
            // The first is said at once.
            for _ in 0..2 {
                left_out.note(record, &IdentitySource::Position.find(record), left_out.oldest());
            }
            unsaid(&left_out)
        };
        assert_eq!(left_out_of(Some(WINDOW), Some(now - window - 1)), [[0, 0, 1]]);
        assert_eq!(left_out_of(Some(WINDOW), Some(0)), [[0, 0, 1]]);
        for (window, timestamp) in [
            (Some(WINDOW), Some(now - window + 60_000)),
            (Some(WINDOW), Some(i64::MAX)),
            (Some(WINDOW), None),
            (None, Some(0)),
            (Some(Duration::MAX), Some(0)),
        ] {
            assert!(left_out_of(window, timestamp).is_empty(), "{window:?} {timestamp:?}");
        }
    }

    #[test]
    fn the_duplicates_of_a_run_and_headers_of_other_records_are_counted() {
        let left_out = left_out();
        let messages: Vec<_> = (0..4)
            .map(|offset| {
                let headers = vec![(crate::IDENTITY_HEADER.into(), Some(b"forged".to_vec()))];
                Message::Owned(Box::new(OwnedMessage { offset, headers, ..Default::default() }))
            })
            .collect();
        let source = Source::new(TopicPartition::new("t", 0), "g".into());
        let records: Vec<_> = messages.iter().map(|message| Record::new(message, &source, 1)).collect();
        let clock = RunClock::start(Duration::from_secs(1), Arc::new(Drain::default()));
        let run = Run::new(&records, &source, &clock);
        let outcomes = || {
            Outcomes::new(vec![
                Outcome::Completed,
                Outcome::Duplicate,
                Outcome::Duplicate,
                Outcome::NotReached,
            ])
        };
        left_out.add(run, &outcomes());
        assert_eq!(unsaid(&left_out), [[0, 0, 0]], "said at once");
        left_out.add(run, &outcomes());
        for record in run.iter() {
            left_out.note(record, &IdentitySource::Position.find(record), left_out.oldest());
        }
        assert_eq!(unsaid(&left_out), [[2, 3, 0]]);
    }
}

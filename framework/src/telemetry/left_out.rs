//! Counts what a handler leaves out because its identity says that it was done before, and says
//! it in the log, so that no event goes missing unseen.

use crate::base::sync::lock;
use crate::error::trouble::Rarely;
use crate::record::identity::Found;
use crate::{Outcome, Outcomes, Record, Run, TopicPartition};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The counts of one handler, by partition.
#[derive(Debug)]
pub(crate) struct LeftOut {
    handler: Arc<str>,
    /// Whether the log does not tell of all yet. If it does, a run without any takes no lock.
    is_any_unsaid: AtomicBool,
    partitions: Mutex<HashMap<TopicPartition, Counts>>,
    is_nil_said: AtomicBool,
}

#[derive(Debug, Default)]
struct Counts {
    duplicates: Count,
    foreign: Count,
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
}

impl LeftOut {
    pub(crate) fn of(handler: Arc<str>) -> Self {
        Self { handler, is_any_unsaid: false.into(), partitions: Mutex::default(), is_nil_said: false.into() }
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
        self.say(run.source(), &self.count(run.source(), records, 0), first);
    }

    /// Counts what is odd about a record's identity.
    #[inline]
    pub(crate) fn note(&self, record: Record<'_>, found: &Found) {
        if found.is_nil || found.is_foreign {
            self.note_odd(record, found);
        }
    }

    #[cold]
    fn note_odd(&self, record: Record<'_>, found: &Found) {
        if found.is_nil && !self.is_nil_said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %record,
                handler = &*self.handler,
                "its declared identity is the nil UUID, which tells no event from another: such records are told \
                 apart by their positions, so a second copy that a producer makes is handled again (said once)"
            );
        }
        if found.is_foreign {
            let partition = record.topic_partition();
            self.say(partition, &self.count(partition, 0, 1), Some(record.offset()));
        }
    }

    fn count(&self, partition: &TopicPartition, duplicates: u64, foreign: u64) -> Due {
        let mut partitions = lock(&self.partitions);
        let due = if partitions.contains_key(partition) || duplicates > 0 || foreign > 0 {
            let counts = partitions.entry(partition.clone()).or_default();
            Due { duplicates: counts.duplicates.add(duplicates), foreign: counts.foreign.add(foreign) }
        } else {
            Due::default()
        };
        let is_unsaid = |counts: &Counts| counts.duplicates.unsaid > 0 || counts.foreign.unsaid > 0;
        self.is_any_unsaid.store(partitions.values().any(is_unsaid), Ordering::Relaxed);
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
    }
}

impl Drop for LeftOut {
    /// Says what would be said later.
    fn drop(&mut self) {
        let rest = |count: &Count| (count.unsaid > 0).then_some(count.unsaid);
        for (partition, counts) in &*lock(&self.partitions) {
            let due = Due { duplicates: rest(&counts.duplicates), foreign: rest(&counts.foreign) };
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

    fn left_out() -> LeftOut {
        LeftOut::of("h".into())
    }

    fn unsaid(left_out: &LeftOut) -> Vec<(u64, u64)> {
        let partitions = lock(&left_out.partitions);
        partitions.values().map(|counts| (counts.duplicates.unsaid, counts.foreign.unsaid)).collect()
    }

    #[test]
    fn what_is_left_out_is_counted_and_said_once_and_later_again() {
        let (left_out, partition) = (left_out(), TopicPartition::new("t", 0));
        let due = |duplicates, foreign| Due { duplicates, foreign };
        assert_eq!(left_out.count(&partition, 3, 0), due(Some(3), None));
        assert!(!left_out.is_any_unsaid.load(Ordering::Relaxed));
        assert_eq!(left_out.count(&partition, 2, 1), due(None, Some(1)));
        assert_eq!(left_out.count(&partition, 0, 5), due(None, None));
        assert!(left_out.is_any_unsaid.load(Ordering::Relaxed));
        assert_eq!(
            left_out.count(&TopicPartition::new("t", 1), 4, 0),
            due(Some(4), None),
            "another partition"
        );
        assert_eq!(unsaid(&left_out).iter().max(), Some(&(2, 5)));
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
        assert_eq!(unsaid(&left_out), [(0, 0)], "said at once");
        left_out.add(run, &outcomes());
        for record in run.iter() {
            left_out.note(record, &IdentitySource::Position.find(record));
        }
        assert_eq!(unsaid(&left_out), [(2, 3)]);
    }
}

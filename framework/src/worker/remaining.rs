//! Gets fetched records, gives those that are not finished.

use crate::record::outcome::{Outcome, Outcomes};
use crate::record::run::{Fetched, Run, RunClock};
use crate::record::source::Source;
use crate::{HandlerError, Record};

/// The records of a fetch that are not done, in order.
pub(crate) struct Remaining<'f> {
    records: Vec<Record<'f>>,
    /// Those that were given up, by offset: what is left to do is their dead letter.
    given_up: Vec<(i64, HandlerError)>,
}

impl<'f> Remaining<'f> {
    pub(crate) fn new(fetched: &'f Fetched, source: &'f Source) -> Self {
        let records = fetched.messages.iter().map(|message| Record::new(message, source, 1)).collect();
        Self { records, given_up: Vec::new() }
    }

    pub(crate) fn records(&self) -> &[Record<'f>] {
        &self.records
    }

    pub(crate) fn first(&self) -> Option<Record<'f>> {
        self.records.first().copied()
    }

    /// Whether this record is still the first.
    pub(crate) fn is_first(&self, record: Record<'_>) -> bool {
        self.records.first().is_some_and(|first| first.offset() == record.offset())
    }

    /// Whether what is left to do of the first record is its dead letter.
    pub(crate) fn is_first_given_up(&self) -> bool {
        self.first().is_some_and(|first| self.why_given_up(first).is_some())
    }

    /// Gives up the first record.
    pub(crate) fn give_up_first(&mut self, error: HandlerError) {
        self.given_up.extend(self.first().map(|first| (first.offset(), error)));
    }

    /// Lets go of the first record, done or not.
    pub(crate) fn drop_first(&mut self) {
        self.records.drain(..self.records.len().min(1));
    }

    /// The next run, of so many records at most; a record that was given up has one of its own.
    pub(crate) fn run<'r>(&'r self, most: usize, source: &'r Source, clock: &'r RunClock) -> Run<'r> {
        let most = self.records.len().min(most);
        let given_up = self.first().and_then(|first| self.why_given_up(first));
        let end = match given_up {
            Some(_) => 1,
            None if self.given_up.is_empty() => most,
            None => {
                let records = &self.records[..most];
                records.iter().position(|record| self.why_given_up(*record).is_some()).unwrap_or(most)
            }
        };
        Run::new(&self.records[..end], source, clock).given_up_by(given_up)
    }

    fn why_given_up(&self, record: Record<'f>) -> Option<&HandlerError> {
        self.given_up.iter().find(|(offset, _)| *offset == record.offset()).map(|(_, error)| error)
    }

    /// Takes what came of the next run. Only a failure of its own costs a record an attempt.
    pub(crate) fn settle(&mut self, outcomes: Outcomes) {
        if self.given_up.is_empty() && outcomes.iter().all(Outcome::is_finished) {
            self.records.drain(..outcomes.len().min(self.records.len()));
            return;
        }
        let mut outcomes = outcomes.into_iter();
        let given_up = &mut self.given_up;
        let left = |record: Record<'f>| match outcomes.next() {
            None | Some(Outcome::NotReached) => Some(record),
            Some(Outcome::Failed(error)) if error.held_by().is_some() => Some(record),
            Some(Outcome::Failed(error)) => {
                if error.is_to_be_put_away() && !given_up.iter().any(|(offset, _)| *offset == record.offset())
                {
                    given_up.push((record.offset(), error));
                }
                Some(record.again())
            }
            Some(_) => {
                given_up.retain(|(offset, _)| *offset != record.offset());
                None
            }
        };
        self.records = std::mem::take(&mut self.records).into_iter().filter_map(left).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TopicPartition;
    use crate::base::drain::Drain;
    use crate::error::reason::{Decision, Reason};
    use crate::error::trouble::Cause;
    use crate::failure::trials::Trial;
    use crate::kafka::message::{Message, OwnedMessage};
    use crate::kafka::queue::Keepalive;
    use std::sync::Arc;
    use std::time::Duration;

    fn fetched(offsets: std::ops::Range<i64>) -> Fetched {
        let message = |offset| Message::Owned(Box::new(OwnedMessage { offset, ..Default::default() }));
        Fetched { messages: offsets.map(message).collect(), client: Keepalive::default() }
    }

    fn given_up(why: &str) -> Outcome {
        let mut error = HandlerError::new(why.to_owned());
        error.decide(Decision::PutAway(Trial::of(1).given_up(Reason::Permanent)));
        Outcome::Failed(error)
    }

    /// The offsets and attempts of the next run, and why it was given up.
    fn next(left: &Remaining<'_>, source: &Source, most: usize) -> (Vec<(i64, u32)>, Option<String>) {
        let clock = RunClock::start(Duration::from_secs(1), Arc::new(Drain::default()));
        let run = left.run(most, source, &clock);
        let records = run.iter().map(|record| (record.offset(), record.attempt())).collect();
        (records, run.given_up().map(ToString::to_string))
    }

    #[test]
    fn what_was_given_up_is_put_away_alone_and_never_handled_again() {
        let (fetched, source) = (fetched(0..5), Source::new(TopicPartition::new("t", 0), "g".into()));
        let mut left = Remaining::new(&fetched, &source);
        assert_eq!(next(&left, &source, 9), (vec![(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)], None));
        // A batch: of each record something else.
        left.settle(Outcomes::new(vec![
            Outcome::Failed(HandlerError::new("again")),
            Outcome::Completed,
            given_up("for good"),
        ]));
        assert_eq!(next(&left, &source, 9), (vec![(0, 2)], None));
        left.settle(Outcomes::new(vec![Outcome::Completed]));
        for _ in 0..3 {
            assert_eq!(next(&left, &source, 9), (vec![(2, 2)], Some("for good".to_owned())));
            left.settle(Outcomes::new(vec![Outcome::Failed(HandlerError::held(Cause::Outage, "no topic"))]));
        }
        left.settle(Outcomes::new(vec![Outcome::DeadLettered(Reason::Permanent)]));
        assert_eq!(next(&left, &source, 1), (vec![(3, 1)], None));
        left.settle(Outcomes::new(vec![Outcome::Failed(HandlerError::held(Cause::Outage, "away"))]));
        assert_eq!(next(&left, &source, 9), (vec![(3, 1), (4, 1)], None), "no attempt is charged");
        left.drop_first();
        left.settle(Outcomes::new(vec![Outcome::Completed]));
        assert!(left.first().is_none());
        left.drop_first();
    }
}

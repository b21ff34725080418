//! Gets committable offsets, gives committed ones.

use crate::assignment::Consumer;
use crate::fault;
use crate::memo::{Ahead, Memo};
use crate::queue;
use rdkafka::TopicPartitionList;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::Offset;
use std::time::{Duration, Instant};

/// What is known of one partition's committed offset.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// What the broker said it has.
    acknowledged: Option<i64>,
    ahead: Ahead,
}

impl Committed {
    /// Starts with what the group has committed before.
    pub(crate) fn starting_with(acknowledged: Option<i64>, ahead: Ahead) -> Self {
        Self { acknowledged, ahead }
    }

    /// The offset to commit, if it is not there yet.
    pub(crate) fn due(&self, committable: Option<i64>) -> Option<i64> {
        committable.filter(|offset| self.acknowledged != Some(*offset))
    }

    /// Whether what is finished ahead is not there yet.
    pub(crate) fn lacks(&self, ahead: &Ahead) -> bool {
        !ahead.is_empty() && self.ahead != *ahead
    }

    /// What the broker said it has.
    pub(crate) fn acknowledged(&self) -> Option<i64> {
        self.acknowledged
    }

    /// May be less than before: a topic that was made anew starts at 0 again.
    pub(crate) fn acknowledge(&mut self, offset: i64, ahead: Ahead) {
        (self.acknowledged, self.ahead) = (Some(offset), ahead);
    }
}

/// Commits on an interval, one request at a time, and reads the results.
///
/// What fails stays due and goes out with the next request: after an error the
/// broker's flags per partition say nothing about what it stored.
#[derive(Debug)]
pub(crate) struct Committer {
    interval: Duration,
    next: Instant,
    under_way: bool,
    /// The request under way was sent by a membership that has ended.
    late: bool,
    failing_since: Option<Instant>,
    /// Failures shorter than this are part of a rebalance.
    patience: Duration,
}

impl Committer {
    pub(crate) fn new(interval: Duration, patience: Duration) -> Self {
        Self {
            interval,
            next: Instant::now() + interval,
            under_way: false,
            late: false,
            failing_since: None,
            patience,
        }
    }

    /// How long until the next commit may be due.
    pub(crate) fn wait(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Does not wait for the interval, unless commits fail.
    pub(crate) fn hurry(&mut self) {
        if self.failing_since.is_none() {
            self.next = Instant::now();
        }
    }

    /// Sends what is due, if it is time.
    pub(crate) fn commit(&mut self, consumer: &Consumer, due: impl FnOnce() -> TopicPartitionList) {
        if self.under_way || !self.wait().is_zero() {
            return;
        }
        self.next = Instant::now() + self.interval;
        let due = due();
        if due.count() == 0 {
            return;
        }
        fault::point("before_offset_commit");
        match queue::commit(consumer, &due) {
            Ok(()) => self.under_way = true,
            Err(error) => self.failed(&error),
        }
    }

    /// Notes that the group has forgotten this member. What it answers to a request
    /// that is under way says nothing of the next membership.
    pub(crate) fn membership_ended(&mut self) {
        self.late = self.under_way;
    }

    /// Notes the result of the request that is under way. Says whether the group
    /// has forgotten this member.
    pub(crate) fn result(&mut self, result: &Result<(), KafkaError>) -> bool {
        self.under_way = false;
        let late = std::mem::take(&mut self.late);
        match result {
            Ok(()) => {
                if self.failing_since.take().is_some() {
                    tracing::info!("offsets are committed again");
                }
                false
            }
            Err(error) => {
                self.failed(error);
                is(error, RDKafkaErrorCode::UnknownMemberId) && !late
            }
        }
    }

    fn failed(&mut self, error: &KafkaError) {
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.patience {
            tracing::warn!(%error, failing_for = ?since.elapsed(), "offsets cannot be committed; trying again");
        } else {
            tracing::debug!(%error, "offsets not committed; trying again");
        }
    }
}

/// A commit that is the last of its kind: before partitions are given away.
/// Bounded, since nothing else happens meanwhile.
pub(crate) fn commit_last(
    consumer: &Consumer,
    due: &TopicPartitionList,
    limit: Duration,
) -> Result<(), KafkaError> {
    if due.count() == 0 {
        return Ok(());
    }
    queue::commit_within(consumer, due, limit)
}

/// Adds an offset and what is written beside it to a list of commits.
pub(crate) fn add(list: &mut TopicPartitionList, topic: &str, partition: i32, (offset, memo): &(i64, Memo)) {
    let mut element = list.add_partition(topic, partition);
    element.set_offset(Offset::Offset(*offset)).expect("an offset of a record is a valid one");
    let text = memo.text(*offset);
    if !text.is_empty() {
        element.set_metadata(text);
    }
}

fn is(error: &KafkaError, code: RDKafkaErrorCode) -> bool {
    error.rdkafka_error_code() == Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_broker_does_not_have_is_due() {
        let mut committed = Committed::starting_with(Some(5), Ahead::default());
        assert_eq!(committed.due(None), None);
        assert_eq!(committed.due(Some(5)), None);
        assert_eq!(committed.due(Some(6)), Some(6));
        committed.acknowledge(6, Ahead::default());
        assert_eq!(committed.due(Some(6)), None);
        assert_eq!(committed.due(Some(2)), Some(2), "the topic was made anew");
    }

    #[test]
    fn what_failed_stays_due_and_a_lost_membership_is_told() {
        let mut committer = Committer::new(Duration::from_secs(1), Duration::from_secs(6));
        committer.under_way = true;
        let error = |code| Err(KafkaError::ConsumerCommit(code));
        assert!(!committer.result(&error(RDKafkaErrorCode::IllegalGeneration)));
        assert!(!committer.under_way);
        assert!(committer.result(&error(RDKafkaErrorCode::UnknownMemberId)));
        committer.under_way = true;
        committer.membership_ended();
        assert!(!committer.result(&error(RDKafkaErrorCode::UnknownMemberId)), "an answer to the one before");
        assert!(!committer.result(&Ok(())));
        assert!(committer.failing_since.is_none());
    }
}

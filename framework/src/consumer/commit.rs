//! Gets committable offsets, gives committed ones.

use crate::base::backoff::after;
use crate::base::fault;
use crate::consumer::assignment::Consumer;
use crate::consumer::memo::{MOST_BYTES, Memo, Place};
use crate::kafka::client::{KafkaError, Offset, RDKafkaErrorCode, TopicPartitionList};
use crate::kafka::offsets;
use crate::record::TopicPartition;
use std::time::{Duration, Instant};

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
    room: Room,
    /// Failures shorter than this are part of a rebalance.
    patience: Duration,
}

/// How many bytes the broker takes beside an offset, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(MOST_BYTES)
    }
}

impl Room {
    /// Below that there is no room for what binds a text to its place.
    const LEAST: usize = 100;

    pub(crate) fn most_bytes(self) -> usize {
        self.0
    }

    /// Makes less of it, if there was too much for the broker, and says whether there was. The
    /// offset matters more than what stands beside it.
    fn shrinks_after(&mut self, error: &KafkaError) -> bool {
        if !is(error, RDKafkaErrorCode::OffsetMetadataTooLarge) || self.0 == 0 {
            return false;
        }
        self.0 = if self.0 / 2 >= Self::LEAST { self.0 / 2 } else { 0 };
        tracing::warn!(
            most_bytes = self.0,
            "the broker takes less beside an offset than there is to write (its `offset.metadata.max.bytes`, 4096 by \
             default); writing less. The less there is, the more a restart repeats of what is finished ahead of a slow \
             record; with 0, neither a record that ends the process nor a topic that was made anew is found after it"
        );
        true
    }
}

impl Committer {
    pub(crate) fn new(interval: Duration, patience: Duration) -> Self {
        Self {
            interval,
            next: after(interval),
            under_way: false,
            late: false,
            failing_since: None,
            room: Room::default(),
            patience,
        }
    }

    /// How much may stand beside an offset.
    pub(crate) fn room(&mut self) -> &mut Room {
        &mut self.room
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
    pub(crate) fn commit(&mut self, consumer: &Consumer, due: impl FnOnce(Room) -> TopicPartitionList) {
        if !self.is_time() {
            return;
        }
        let due = due(self.room);
        if due.count() == 0 {
            return;
        }
        fault::point("before_offset_commit");
        match offsets::commit(consumer, &due) {
            Ok(()) => self.under_way = true,
            Err(error) => self.failed(&error),
        }
    }

    /// Whether the interval has passed and nothing is under way. Begins the next one then.
    fn is_time(&mut self) -> bool {
        let is_time = !self.under_way && self.wait().is_zero();
        if is_time {
            self.next = after(self.interval);
        }
        is_time
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
            Err(error) if self.room.shrinks_after(error) => {
                self.next = Instant::now();
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
    room: &mut Room,
    due: impl Fn(Room) -> TopicPartitionList,
    limit: Duration,
    commit: impl Fn(&TopicPartitionList, Duration) -> Result<(), KafkaError>,
) -> Result<(), KafkaError> {
    let until = Instant::now() + limit;
    loop {
        let list = due(*room);
        if list.count() == 0 {
            return Ok(());
        }
        match commit(&list, until.saturating_duration_since(Instant::now())) {
            Err(error) if room.shrinks_after(&error) => {}
            committed => return committed,
        }
    }
}

/// Adds an offset and what is written beside it to a list of commits.
pub(crate) fn add(
    list: &mut TopicPartitionList,
    partition: &TopicPartition,
    (offset, memo): &(i64, Memo),
    place: &Place,
    room: Room,
) {
    let mut element = list.add_partition(partition.topic(), partition.partition());
    element.set_offset(Offset::Offset(*offset)).expect("an offset of a record is a valid one");
    let text = place.text(*offset, memo, room.most_bytes());
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
    use crate::consumer::committed::Committed;
    use crate::record::notes::{Note, Notes};
    use crate::worker::ahead::Ahead;
    use crate::worker::offsets::OffsetTracker;

    const NOTED: Note = Note { starts: 1, trials: 0, by: 1, left: false };
    const LEFT: Note = Note { starts: 0, trials: 0, by: 0, left: true };

    /// A tracker to which the offsets below `end` were delivered, and that has finished some.
    fn delivered(end: i64, finished: impl IntoIterator<Item = i64>) -> OffsetTracker {
        let mut offsets = OffsetTracker::default();
        (0..end).for_each(|offset| assert!(offsets.begin(offset)));
        finished.into_iter().for_each(|offset| offsets.finish(offset));
        offsets
    }

    fn memo(note: Note, ahead: &[(i64, i64)]) -> Memo {
        Memo { note, ahead: Ahead(ahead.iter().map(|&(start, end)| start..end).collect()) }
    }

    #[test]
    fn only_what_the_broker_does_not_have_is_due() {
        let (mut committed, notes) = (Committed::default(), Notes::default());
        assert_eq!(committed.due(&delivered(7, []), &notes), None);
        let offsets = delivered(7, 0..6);
        let due = Some((6, Memo::default()));
        assert_eq!(
            (committed.due(&offsets, &notes), committed.due_last(&offsets, &notes)),
            (due.clone(), due)
        );
        assert_eq!(committed.acknowledged(), None);
        committed.acknowledge(6, Ahead::default());
        assert_eq!(committed.acknowledged(), Some(6));
        assert_eq!((committed.due(&offsets, &notes), committed.due_last(&offsets, &notes)), (None, None));
        let anew = delivered(7, 0..2);
        assert_eq!(committed.due(&anew, &notes), Some((2, Memo::default())), "the topic was made anew");
        assert_eq!(committed.due(&delivered(7, []), &notes), None);
    }

    #[test]
    fn what_is_finished_ahead_is_due_until_the_broker_has_it_and_never_where_it_is_nothing() {
        let notes = Notes::default();
        let mut committed = Committed::default();
        let offsets = delivered(7, [2, 4]);
        let due = Some((0, memo(Note::default(), &[(2, 3), (4, 5)])));
        assert_eq!(committed.due(&offsets, &notes), due, "beside the oldest, where nothing is committed");
        assert_eq!(committed.due_last(&offsets, &notes), due);
        committed.acknowledge(0, offsets.ahead());
        assert_eq!((committed.due(&offsets, &notes), committed.due_last(&offsets, &notes)), (None, None));
        let offsets = delivered(7, [2, 3, 4]);
        assert_eq!(committed.due(&offsets, &notes), Some((0, memo(Note::default(), &[(2, 5)]))));
        let offsets = delivered(7, []);
        assert_eq!(committed.due(&offsets, &notes), None, "what is there does no harm");
        assert_eq!(committed.due_last(&offsets, &notes), None);
        // Behind a hole: what is committed lies below the oldest.
        let mut offsets = OffsetTracker::default();
        assert!(offsets.begin(8) && offsets.begin(9));
        offsets.finish(9);
        let committed = Committed::starting_with(Some(5), Ahead::default());
        assert_eq!(committed.due(&offsets, &notes), Some((5, memo(Note::default(), &[(9, 10)]))));
        assert_eq!(committed.due_last(&offsets, &notes), Some((5, memo(Note::default(), &[(9, 10)]))));
    }

    #[test]
    fn a_note_that_is_wanted_is_due_unless_its_record_is_finished() {
        let (committed, notes) = (Committed::starting_with(Some(5), Ahead::default()), Notes::default());
        notes.want(5, NOTED);
        assert_eq!(committed.due(&OffsetTracker::default(), &notes), Some((5, memo(NOTED, &[]))));
        let offsets = delivered(8, (0..5).chain([6]));
        assert_eq!(committed.due(&offsets, &notes), Some((5, memo(NOTED, &[(6, 7)]))));
        let offsets = delivered(8, 0..6);
        assert_eq!(committed.due(&offsets, &notes), Some((6, Memo::default())));
    }

    #[test]
    fn that_the_partition_was_left_is_noted_once_beside_what_is_committed() {
        let leaving = |committed: Option<i64>, offsets: &OffsetTracker, notes: &Notes| {
            Committed::starting_with(committed, Ahead::default()).due_on_leaving(offsets, notes)
        };
        let (notes, idle) = (Notes::starting_with(Some((5, NOTED))), OffsetTracker::default());
        assert_eq!(leaving(Some(5), &idle, &notes), Some((5, memo(LEFT, &[]))));
        assert_eq!(leaving(Some(5), &delivered(7, 0..6), &notes), Some((6, memo(LEFT, &[]))));
        assert_eq!(leaving(None, &idle, &Notes::default()), None, "nothing is committed");
        let left = Notes::starting_with(Some((5, LEFT)));
        assert_eq!(leaving(Some(5), &idle, &left), None, "it stands there");
    }

    #[test]
    fn that_the_owner_before_has_left_goes_with_the_first_commit_and_for_a_dead_letter() {
        let notes = Notes::starting_with(Some((5, LEFT)));
        let committed = Committed::starting_with(Some(5), Ahead::default());
        assert_eq!(committed.due(&OffsetTracker::default(), &notes), None, "nothing was begun");
        let ahead = delivered(7, [6]);
        assert_eq!(committed.due(&ahead, &notes), Some((5, memo(Note::default(), &[(6, 7)]))));
        assert!(notes.has_left());
        assert_eq!(committed.due(&OffsetTracker::default(), &notes), Some((5, Memo::default())));
        notes.acknowledge(5, Note::default());
        assert!(!notes.has_left());
        assert_eq!(committed.due(&OffsetTracker::default(), &notes), None);
    }

    #[test]
    fn a_note_stays_beside_its_offset_until_a_clean_end() {
        let committed = Committed::starting_with(Some(5), Ahead::default());
        let notes = Notes::starting_with(Some((5, NOTED)));
        let offsets = delivered(8, 0..5);
        assert_eq!(committed.due(&offsets, &notes), None);
        assert_eq!(committed.due_last(&offsets, &notes), Some((5, Memo::default())));
        let offsets = delivered(8, (0..5).chain([6]));
        assert_eq!(committed.due(&offsets, &notes), Some((5, memo(NOTED, &[(6, 7)]))));
        assert_eq!(committed.due_last(&offsets, &notes), Some((5, memo(Note::default(), &[(6, 7)]))));
        let elsewhere = Notes::starting_with(Some((4, NOTED)));
        assert_eq!(committed.due(&offsets, &elsewhere), Some((5, memo(Note::default(), &[(6, 7)]))));
        let offsets = delivered(8, 0..7);
        assert_eq!(committed.due_last(&offsets, &notes), Some((7, Memo::default())));
    }

    #[test]
    fn a_commit_waits_for_its_interval_unless_it_is_to_hurry_and_none_has_failed() {
        let hour = Duration::from_secs(3600);
        let mut committer = Committer::new(hour, hour);
        assert!(committer.wait() > hour / 2);
        assert!(
            !committer.result(&Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::CoordinatorNotAvailable)))
        );
        committer.hurry();
        assert!(committer.wait() > hour / 2, "a broker in trouble is not asked again and again");
        assert!(!committer.result(&Ok(())));
        assert!(!committer.is_time());
        committer.hurry();
        assert!(committer.wait().is_zero());
        committer.under_way = true;
        assert!(!committer.is_time(), "one request at a time");
        committer.under_way = false;
        assert!(committer.is_time());
        assert!(!committer.is_time() && committer.wait() > hour / 2, "the next interval has begun");
    }

    fn place() -> Place {
        Place::new(Some("cluster"), "group", "t", 0)
    }

    #[test]
    fn an_offset_is_written_with_what_there_is_to_say_beside_it() {
        let (mut list, place) = (TopicPartitionList::new(), place());
        let memo = memo(NOTED, &[(9, 11)]);
        let at = |number| TopicPartition::new("t", number);
        add(&mut list, &at(0), &(7, memo.clone()), &place, Room::default());
        add(&mut list, &at(1), &(8, Memo::default()), &place, Room::default());
        add(&mut list, &at(2), &(9, memo.clone()), &place, Room(0));
        let written: Vec<_> = list
            .elements()
            .iter()
            .map(|element| (element.partition(), element.offset(), element.metadata().to_owned()))
            .collect();
        let text = |offset, memo: &Memo| place.text(offset, memo, MOST_BYTES);
        let expected = [
            (0, Offset::Offset(7), text(7, &memo)),
            (1, Offset::Offset(8), text(8, &Memo::default())),
            (2, Offset::Offset(9), String::new()),
        ];
        assert_eq!(written, expected);
        assert_eq!(offsets::metadata(&list), expected.map(|(_, _, text)| text));
    }

    /// A broker that takes so many bytes beside an offset.
    fn takes(most: usize) -> impl Fn(&TopicPartitionList, Duration) -> Result<(), KafkaError> {
        move |list, _| {
            let fits = offsets::metadata(list).iter().all(|text| text.len() <= most);
            if fits {
                Ok(())
            } else {
                Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::OffsetMetadataTooLarge))
            }
        }
    }

    #[test]
    fn an_offset_is_committed_however_little_the_broker_takes_beside_it() {
        let due = |room| {
            let mut list = TopicPartitionList::new();
            let ahead: Vec<_> = (0..1000).map(|n| (8 + 2 * n, 9 + 2 * n)).collect();
            add(&mut list, &TopicPartition::new("t", 0), &(7, memo(NOTED, &ahead)), &place(), room);
            list
        };
        let limit = Duration::from_secs(1);
        for most in [3000, 2999, 1000, 200, 100, 99, 64, 1, 0] {
            let mut room = Room::default();
            commit_last(&mut room, due, limit, takes(most)).unwrap();
            assert!(room.0 > most / 2 || room.0 == 0, "{most}: {room:?} is less than it has to be");
            let ahead = offsets::metadata(&due(room)).concat().contains("ahead");
            assert!(ahead || most < 200, "{most}: {room:?}");
        }
        let refused = |_: &TopicPartitionList, _| {
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::OffsetMetadataTooLarge))
        };
        assert!(commit_last(&mut Room::default(), due, limit, refused).is_err(), "it comes to an end");
    }

    #[test]
    fn what_was_too_much_for_the_broker_goes_out_again_at_once_with_less_and_is_no_failure() {
        let hour = Duration::from_secs(3600);
        let mut committer = Committer::new(hour, hour);
        committer.under_way = true;
        assert!(
            !committer.result(&Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::OffsetMetadataTooLarge)))
        );
        assert!(committer.failing_since.is_none() && committer.room().most_bytes() == MOST_BYTES / 2);
        assert!(committer.is_time());
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

//! Gets delivered and finished offsets of a partition, gives the one that is
//! safe to commit.

use crate::telemetry::health;
use crate::worker::ahead::Ahead;
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::ops::Range;

/// The books on one assignment of a partition.
///
/// Offsets are begun in the order of delivery and finished in any. Offsets that
/// were never delivered (compacted away, transaction markers) are never waited
/// for.
#[derive(Debug, Default)]
pub(crate) struct OffsetTracker {
    /// Delivered and not yet behind the watermark, ascending.
    pending: VecDeque<Pending>,
    /// Everything below is finished. `None` before the first is.
    watermark: Option<i64>,
    /// So many of the pending are finished.
    ahead: usize,
    /// Finished by an owner before, and not delivered yet.
    remembered: VecDeque<Range<i64>>,
}

#[derive(Debug)]
struct Pending {
    offset: i64,
    key_hash: Option<NonZeroU32>,
    finished: bool,
}

impl OffsetTracker {
    /// Notes a delivered record. Says whether it is to be handled: not where an owner
    /// before has finished it.
    pub(crate) fn begin(&mut self, offset: i64) -> bool {
        debug_assert!(self.pending.back().is_none_or(|last| last.offset < offset), "delivered in order");
        self.pending.push_back(Pending { offset, key_hash: None, finished: false });
        while self.remembered.front().is_some_and(|range| range.end <= offset) {
            self.remembered.pop_front();
        }
        let is_done = self.remembered.front().is_some_and(|range| range.contains(&offset));
        if is_done {
            self.finish(offset);
        }
        !is_done
    }

    /// Notes what an owner before has finished.
    pub(crate) fn remember(&mut self, ahead: Ahead) {
        self.remembered = ahead.0.into();
    }

    /// The finished offsets beyond the watermark.
    pub(crate) fn ahead(&self) -> Ahead {
        let mut ahead = Ahead::default();
        let mut joins = false;
        for pending in self.pending.iter().take(if self.ahead > 0 { usize::MAX } else { 0 }) {
            if pending.finished {
                ahead.add(pending.offset, joins);
            }
            joins = pending.finished;
        }
        let next = self.delivered_to().unwrap_or(i64::MIN);
        let later = self.remembered.iter().map(|range| range.start.max(next)..range.end);
        ahead.0.extend(later.filter(|range| !range.is_empty()));
        ahead
    }

    /// Notes where delivery begins, where that is not what the group has committed.
    pub(crate) fn start_at(&mut self, offset: i64) {
        if self.pending.is_empty() {
            self.watermark = Some(offset);
            self.remembered.clear();
        }
    }

    /// Notes that nothing will be delivered from `from` to `end`, where all below
    /// `from` is finished: a hole at the end of a partition leaves no lag behind.
    pub(crate) fn close_hole(&mut self, from: i64, end: i64) {
        let is_there = self.pending.is_empty() && self.watermark.is_none_or(|watermark| watermark == from);
        if is_there && from < end {
            self.watermark = Some(end);
        }
    }

    /// The next offset to be delivered. `None` before the first was.
    pub(crate) fn delivered_to(&self) -> Option<i64> {
        self.pending.back().map(|last| last.offset + 1).max(self.watermark)
    }

    /// How many of the delivered up to `offset` stand at or behind the watermark.
    pub(crate) fn beyond(&self, offset: i64) -> usize {
        if let Some(place) = self.place(offset) {
            return place + 1;
        }
        self.pending.partition_point(|pending| pending.offset <= offset)
    }

    /// The oldest record that is not finished.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.pending.front().map(|first| first.offset)
    }

    /// The hash of its key, if that was noted.
    pub(crate) fn oldest_key(&self) -> Option<u32> {
        self.pending.front()?.key_hash.map(NonZeroU32::get)
    }

    /// Notes the hash of a record's key, for who asks what is unfinished.
    pub(crate) fn note_key(&mut self, offset: i64, key: Option<&[u8]>) {
        if let (Some(place), Some(key)) = (self.place(offset), key) {
            self.pending[place].key_hash = NonZeroU32::new(health::hash_of(key));
        }
    }

    /// Whether all that was delivered is finished.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Finishes a record. One that is not pending (finished before) is ignored.
    pub(crate) fn finish(&mut self, offset: i64) {
        match self.pending.front() {
            Some(first) if first.offset == offset => {
                self.pending.pop_front();
                self.watermark = Some(offset + 1);
                self.advance();
            }
            _ => {
                if let Some(index) = self.place(offset) {
                    self.ahead += usize::from(!std::mem::replace(&mut self.pending[index].finished, true));
                }
            }
        }
    }

    /// Where a pending offset stands. Without holes that needs no search.
    fn place(&self, offset: i64) -> Option<usize> {
        let guess = usize::try_from(offset - self.pending.front()?.offset).ok()?;
        if self.pending.get(guess).is_some_and(|pending| pending.offset == offset) {
            return Some(guess);
        }
        self.pending.binary_search_by_key(&offset, |pending| pending.offset).ok()
    }

    /// The offset to commit: the first that has to be delivered again after a
    /// restart. `None` while nothing is known to be finished.
    pub(crate) fn committable(&self) -> Option<i64> {
        self.watermark
    }

    fn advance(&mut self) {
        while let Some(first) = self.pending.front().filter(|first| first.finished) {
            self.watermark = Some(first.offset + 1);
            self.pending.pop_front();
            self.ahead -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumer::memo::{Found, MOST_BYTES, Memo, Place, Written};
    use crate::kafka::admin::Topic;
    use std::collections::BTreeSet;

    fn began(offsets: &[i64]) -> OffsetTracker {
        let mut tracker = OffsetTracker::default();
        offsets.iter().for_each(|&offset| assert!(tracker.begin(offset)));
        tracker
    }

    fn ahead(tracker: &OffsetTracker) -> Vec<(i64, i64)> {
        tracker.ahead().0.iter().map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn an_unfinished_record_holds_back_those_after_it() {
        let mut tracker = began(&[5, 6, 7]);
        tracker.finish(6);
        tracker.finish(7);
        assert_eq!(tracker.committable(), None);
        tracker.finish(5);
        assert_eq!(tracker.committable(), Some(8));
    }

    #[test]
    fn holes_are_not_waited_for() {
        let mut tracker = began(&[0, 100, 200]);
        tracker.finish(0);
        assert_eq!(tracker.committable(), Some(1));
        tracker.finish(200);
        tracker.finish(100);
        assert_eq!(tracker.committable(), Some(201));
    }

    #[test]
    fn a_hole_at_the_end_is_closed_once_all_before_it_is_finished() {
        let mut tracker = began(&[0, 1]);
        tracker.finish(0);
        tracker.close_hole(1, 5);
        assert_eq!(tracker.committable(), Some(1));
        tracker.finish(1);
        tracker.close_hole(2, 5);
        assert_eq!(tracker.committable(), Some(5));
    }

    #[test]
    fn a_hole_that_was_seen_from_elsewhere_closes_nothing() {
        let mut tracker = began(&[0, 9]);
        tracker.finish(0);
        tracker.finish(9);
        tracker.close_hole(1, 20);
        assert_eq!(tracker.committable(), Some(10));
        tracker.close_hole(10, 10);
        tracker.close_hole(10, 7);
        assert_eq!(tracker.committable(), Some(10));
    }

    #[test]
    fn the_end_of_a_partition_without_visible_records_is_its_watermark() {
        let mut tracker = OffsetTracker::default();
        tracker.close_hole(0, 7);
        assert_eq!(tracker.committable(), Some(7));
        let mut empty = OffsetTracker::default();
        empty.close_hole(0, 0);
        assert_eq!(empty.committable(), None, "without offsets it has none to commit");
    }

    #[test]
    fn what_is_delivered_next_is_behind_all_that_was_delivered() {
        let mut tracker = began(&[3, 8]);
        assert_eq!(tracker.delivered_to(), Some(9));
        tracker.finish(8);
        tracker.finish(3);
        assert_eq!(tracker.delivered_to(), Some(9));
        assert_eq!(OffsetTracker::default().delivered_to(), None);
    }

    #[test]
    fn what_lies_below_the_start_is_not_waited_for() {
        let mut tracker = OffsetTracker::default();
        tracker.start_at(7);
        assert_eq!((tracker.committable(), tracker.delivered_to()), (Some(7), Some(7)));
        tracker.begin(9);
        tracker.start_at(12);
        assert_eq!(tracker.committable(), Some(7), "it has started");
    }

    #[test]
    fn what_is_finished_behind_an_unfinished_record_is_ahead_with_the_holes_that_nobody_waits_for() {
        let mut tracker = began(&[0, 1, 5, 7, 8]);
        assert!(tracker.ahead().is_empty());
        [1, 5, 8, 8].into_iter().for_each(|offset| tracker.finish(offset));
        assert_eq!(ahead(&tracker), [(1, 6), (8, 9)]);
        tracker.finish(0);
        assert_eq!((tracker.committable(), ahead(&tracker)), (Some(6), vec![(8, 9)]));
        tracker.finish(7);
        assert_eq!((tracker.committable(), ahead(&tracker)), (Some(9), vec![]));
    }

    #[test]
    fn what_an_owner_before_has_finished_stays_ahead_until_it_is_delivered() {
        let mut tracker = OffsetTracker::default();
        tracker.remember(Ahead(vec![3..5, 8..9]));
        assert_eq!(ahead(&tracker), [(3, 5), (8, 9)]);
        assert!(tracker.begin(2) && !tracker.begin(3));
        assert_eq!(ahead(&tracker), [(3, 4), (4, 5), (8, 9)]);
        assert!(!tracker.begin(4) && tracker.begin(5));
        assert_eq!(ahead(&tracker), [(3, 5), (8, 9)]);
        tracker.finish(2);
        assert_eq!((tracker.committable(), ahead(&tracker)), (Some(5), vec![(8, 9)]));
        assert!(!tracker.begin(8));
        assert_eq!(ahead(&tracker), [(8, 9)]);
    }

    #[test]
    fn it_says_what_is_oldest_and_how_much_stands_behind_it() {
        let mut tracker = OffsetTracker::default();
        assert_eq!((tracker.oldest(), tracker.oldest_key(), tracker.is_idle()), (None, None, true));
        assert_eq!(tracker.beyond(5), 0);
        assert!([10, 20, 21, 30].iter().all(|offset| tracker.begin(*offset)));
        tracker.note_key(10, None);
        tracker.note_key(20, Some(b"key"));
        assert_eq!((tracker.oldest(), tracker.oldest_key(), tracker.is_idle()), (Some(10), None, false));
        assert_eq!([5, 10, 15, 20, 21, 30, 40].map(|offset| tracker.beyond(offset)), [0, 1, 1, 2, 3, 4, 4]);
        tracker.finish(10);
        assert_eq!((tracker.oldest(), tracker.oldest_key()), (Some(20), Some(health::hash_of(b"key"))));
        assert_eq!([10, 20, 21, 30].map(|offset| tracker.beyond(offset)), [0, 1, 2, 3]);
    }

    /// Deliveries with holes, finishes in any order, and owners that come and go with what
    /// the broker has: nothing unfinished is ever behind what is committed, and nothing that
    /// an owner noted as done is handled again.
    #[test]
    fn nothing_is_passed_and_nothing_noted_is_repeated_whatever_happens() {
        let mut place = Place::new(None, "group", "topic", 0);
        place.topic = Topic::WithoutId;
        for seed in 0..60 {
            let mut random = fastrand::Rng::with_seed(seed);
            let log: Vec<i64> = (0..300).filter(|_| random.u8(..4) > 0).collect();
            let (mut done, mut noted) = (BTreeSet::new(), BTreeSet::new());
            let mut broker: Option<(i64, String)> = None;
            while broker.as_ref().is_none_or(|(offset, _)| *offset <= log[log.len() - 1]) {
                let start = broker.as_ref().map_or(0, |(offset, _)| *offset);
                let mut tracker = OffsetTracker::default();
                if let Some((offset, text)) = &broker {
                    let Found::Here(memo) = Found::beside(*offset, Written::parse(text), &place) else {
                        panic!("{text}")
                    };
                    tracker.remember(memo.ahead);
                }
                let mut to_deliver = log.iter().copied().filter(|offset| *offset >= start).peekable();
                let mut open = Vec::new();
                for _ in 0..random.usize(..400) {
                    match random.u8(..5) {
                        0 | 1 => {
                            let Some(offset) = to_deliver.next() else { continue };
                            let is_new = tracker.begin(offset);
                            assert_eq!(is_new, !noted.contains(&offset), "seed {seed}, offset {offset}");
                            open.extend(is_new.then_some(offset));
                        }
                        2 | 3 if !open.is_empty() => {
                            let offset = open.swap_remove(random.usize(..open.len()));
                            tracker.finish(offset);
                            done.insert(offset);
                        }
                        _ => {
                            let Some(offset) = tracker.committable().or(tracker.oldest()) else { continue };
                            let ahead = tracker.ahead();
                            let finished = tracker.pending.iter().filter(|pending| pending.finished).count();
                            assert_eq!(tracker.ahead, finished, "seed {seed}");
                            let memo = Memo { ahead: ahead.clone(), ..Memo::default() };
                            let text = place.text(offset, &memo, MOST_BYTES);
                            assert!(
                                log.iter().filter(|other| **other < offset).all(|other| done.contains(other))
                            );
                            noted = log
                                .iter()
                                .copied()
                                .filter(|other| {
                                    *other < offset || ahead.0.iter().any(|range| range.contains(other))
                                })
                                .collect();
                            assert!(noted.is_subset(&done), "seed {seed}");
                            broker = Some((offset, text));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn finishing_twice_changes_nothing() {
        let mut tracker = began(&[1, 2]);
        tracker.finish(1);
        tracker.finish(1);
        assert_eq!(tracker.committable(), Some(2));
    }
}

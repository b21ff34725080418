//! Gets delivered and finished offsets of a partition, gives the one that is
//! safe to commit.

use std::collections::VecDeque;

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
}

#[derive(Debug)]
struct Pending {
    offset: i64,
    finished: bool,
}

impl OffsetTracker {
    /// Notes a delivered record.
    pub(crate) fn begin(&mut self, offset: i64) {
        debug_assert!(self.pending.back().is_none_or(|last| last.offset < offset), "delivered in order");
        self.pending.push_back(Pending { offset, finished: false });
    }

    /// Notes where delivery begins, where that is not what the group has committed.
    pub(crate) fn start_at(&mut self, offset: i64) {
        if self.pending.is_empty() {
            self.watermark = Some(offset);
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
                if let Ok(index) = self.pending.binary_search_by_key(&offset, |pending| pending.offset) {
                    self.pending[index].finished = true;
                }
            }
        }
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn began(offsets: &[i64]) -> OffsetTracker {
        let mut tracker = OffsetTracker::default();
        offsets.iter().for_each(|&offset| tracker.begin(offset));
        tracker
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
    fn finishing_twice_changes_nothing() {
        let mut tracker = began(&[1, 2]);
        tracker.finish(1);
        tracker.finish(1);
        assert_eq!(tracker.committable(), Some(2));
    }
}

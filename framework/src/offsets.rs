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

    /// Notes that everything below `end` was delivered, so that a hole at the end
    /// of a partition leaves no lag behind.
    pub(crate) fn reached_end(&mut self, end: i64) {
        let last = end - 1;
        if self.pending.back().is_none_or(|pending| pending.offset < last) && self.watermark < Some(end) {
            self.pending.push_back(Pending { offset: last, finished: true });
            self.advance();
        }
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
        while let Some(first) = self.pending.pop_front_if(|first| first.finished) {
            self.watermark = Some(first.offset + 1);
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
    fn the_end_of_the_partition_closes_a_trailing_hole_once_all_before_it_is_finished() {
        let mut tracker = began(&[0, 1]);
        tracker.finish(0);
        tracker.reached_end(5);
        assert_eq!(tracker.committable(), Some(1));
        tracker.finish(1);
        assert_eq!(tracker.committable(), Some(5));
        tracker.reached_end(5);
        assert_eq!(tracker.committable(), Some(5));
    }

    #[test]
    fn the_end_of_a_partition_without_visible_records_is_its_watermark() {
        let mut tracker = OffsetTracker::default();
        tracker.reached_end(7);
        assert_eq!(tracker.committable(), Some(7));
    }

    #[test]
    fn the_end_is_never_past_an_unfinished_record() {
        let mut tracker = began(&[0, 1]);
        tracker.reached_end(2);
        tracker.finish(1);
        assert_eq!(tracker.committable(), None);
    }

    #[test]
    fn finishing_twice_changes_nothing() {
        let mut tracker = began(&[1, 2]);
        tracker.finish(1);
        tracker.finish(1);
        assert_eq!(tracker.committable(), Some(2));
    }
}

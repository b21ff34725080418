//! The committed offset of one partition, and the next commit that is due.

use super::memo::Memo;
use crate::record::notes::{Note, Notes};
use crate::worker::ahead::Ahead;
use crate::worker::offsets::OffsetTracker;

/// The state of one partition's committed offset.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// The offset that the broker acknowledged.
    pub(super) acknowledged: Option<i64>,
    pub(super) ahead: Ahead,
}

impl Committed {
    /// Starts with what the group has committed before.
    pub(crate) fn starting_with(acknowledged: Option<i64>, ahead: Ahead) -> Self {
        Self { acknowledged, ahead }
    }

    /// The offset to commit with its note, if the broker does not have them.
    pub(crate) fn due(&self, offsets: &OffsetTracker, notes: &Notes) -> Option<(i64, Memo)> {
        let (committable, ahead) = (offsets.committable(), offsets.ahead());
        if let Some((offset, note)) = notes.wanted()
            && committable.is_none_or(|committable| committable <= offset)
        {
            return Some((offset, Memo { note, ahead }));
        }
        if let Some(offset) = self.lacks_offset(committable) {
            return Some((offset, Memo { note: Note::default(), ahead }));
        }
        if let Some(offset) = notes.to_go() {
            return Some((offset, Memo { note: Note::default(), ahead }));
        }
        if !self.lacks(&ahead) {
            return None;
        }
        let offset = self.stands_at(offsets)?;
        let note = notes.found().filter(|(at, note)| *at == offset && !note.left).map(|(_, note)| note);
        Some((offset, Memo { note: note.unwrap_or_default(), ahead }))
    }

    /// The last commit at a clean end, after which no note of a start stays.
    pub(crate) fn due_last(&self, offsets: &OffsetTracker, notes: &Notes) -> Option<(i64, Memo)> {
        let ahead = offsets.ahead();
        let due = self.lacks_offset(offsets.committable()).or_else(|| notes.to_clear());
        let due = due.or_else(|| self.lacks(&ahead).then(|| self.stands_at(offsets)).flatten());
        due.map(|offset| (offset, Memo { note: Note::default(), ahead }))
    }

    /// The last commit with a note that the owner has left: none of its dead letters is under way.
    pub(crate) fn due_on_leaving(&self, offsets: &OffsetTracker, notes: &Notes) -> Option<(i64, Memo)> {
        let is_noted = notes.found().is_some_and(|(_, note)| note.left);
        let beside = || self.acknowledged.filter(|_| !is_noted);
        let due = self.due_last(offsets, notes);
        let due = due
            .or_else(|| beside().map(|offset| (offset, Memo { ahead: offsets.ahead(), ..Memo::default() })));
        due.map(|(offset, memo)| (offset, Memo { note: Note { left: true, ..memo.note }, ..memo }))
    }

    /// The offset beside which the finished ranges ahead are written.
    fn stands_at(&self, offsets: &OffsetTracker) -> Option<i64> {
        offsets.committable().or(self.acknowledged).or(offsets.oldest())
    }

    /// An offset that is safe to commit, if it is not there yet.
    fn lacks_offset(&self, committable: Option<i64>) -> Option<i64> {
        committable.filter(|offset| self.acknowledged != Some(*offset))
    }

    /// Whether the broker does not have the finished ranges ahead yet.
    fn lacks(&self, ahead: &Ahead) -> bool {
        !ahead.is_empty() && self.ahead != *ahead
    }

    /// The offset that the broker acknowledged.
    pub(crate) fn acknowledged(&self) -> Option<i64> {
        self.acknowledged
    }

    /// May be less than before: a topic that was made anew starts at 0 again.
    pub(crate) fn acknowledge(&mut self, offset: i64, ahead: Ahead) {
        (self.acknowledged, self.ahead) = (Some(offset), ahead);
    }
}

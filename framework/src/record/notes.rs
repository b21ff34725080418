//! Notes of starts beside the committed offset of one partition; see `worker/starts.rs`.

use crate::base::drain::Drain;
use crate::base::sync::lock;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

/// The note of starts at an offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Note {
    /// How often a worker began there.
    pub(crate) starts: u32,
    /// How often the record there was tried alone.
    pub(crate) trials: u32,
    /// The process that wrote it.
    pub(crate) by: u32,
    /// The owner that wrote it gave the partition up, and writes no dead letter of it any more. Worth
    /// nothing once another has begun, so that one writes none before it has overwritten this.
    pub(crate) left: bool,
}

impl Note {
    /// Whether the process ended here before.
    pub(crate) fn is_suspicious(self) -> bool {
        self.starts > 0
    }

    /// Whether the record here is not tried again. The first start, at which it was
    /// tried among others, counts too.
    pub(crate) fn is_condemned(self, max_starts: u32) -> bool {
        self.trials >= max_starts.saturating_sub(1).max(1)
    }
}

/// A note for the committed offset of one partition: the worker asks for it, and the
/// poll thread commits it.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    state: Mutex<State>,
    written: Notify,
}

#[derive(Debug, Default)]
struct State {
    wanted: Option<(i64, Note)>,
    /// What the broker has.
    there: Option<(i64, Note)>,
    /// The record that is tried now, and how often it was before.
    trying: Option<(i64, u32)>,
    /// A dead letter waits for the note to go that the owner before has left.
    is_to_go: bool,
}

/// The broker may be away for a while; the note of a start is not worth a standstill.
const START_IS_NOTED_WITHIN: Duration = Duration::from_secs(2);

impl Notes {
    /// Begins with what the committed offset says.
    pub(crate) fn starting_with(committed: Option<(i64, Note)>) -> Self {
        Self { state: Mutex::new(State { there: committed, ..State::default() }), written: Notify::new() }
    }

    /// The note beside the committed offset; `None` if none is committed.
    pub(crate) fn found(&self) -> Option<(i64, Note)> {
        self.lock().there
    }

    /// Whether it still stands there that the owner before has left. Who asks may not write a dead
    /// letter as long as it does, and has it overwritten.
    pub(crate) fn has_left(&self) -> bool {
        let mut state = self.lock();
        state.is_to_go = state.there.is_some_and(|(_, note)| note.left);
        state.is_to_go
    }

    /// The offset beside which such a note stands that is to go.
    pub(crate) fn to_go(&self) -> Option<i64> {
        let state = self.lock();
        state.there.filter(|(_, note)| note.left && state.is_to_go).map(|(offset, _)| offset)
    }

    /// Asks for a note. The poll thread commits it.
    pub(crate) fn want(&self, offset: i64, note: Note) {
        self.lock().wanted = Some((offset, note));
    }

    /// Asks for the note of a try, and remembers how often the record was tried before.
    pub(crate) fn want_try(&self, offset: i64, note: Note) {
        let mut state = self.lock();
        state.wanted = Some((offset, note));
        state.trying = Some((offset, note.trials.saturating_sub(1)));
    }

    /// The offset of the record that is tried now.
    pub(crate) fn trying(&self) -> Option<i64> {
        self.lock().trying.map(|(offset, _)| offset)
    }

    /// Takes back that the record at `offset` is tried: it came back, and did not end the
    /// process. Written with the next commit.
    pub(crate) fn survived(&self, offset: i64) {
        let mut state = self.lock();
        if let Some((at, trials)) = state.trying.filter(|(at, _)| *at == offset) {
            state.trying = None;
            let note = state.wanted.or(state.there).filter(|(noted, _)| *noted == at);
            state.wanted = note.map(|(_, note)| (at, Note { trials, left: false, ..note })).or(state.wanted);
        }
    }

    /// Notes that the broker takes no note beside `offset`, for which nobody is to wait.
    pub(crate) fn without_room(&self, offset: i64) {
        let mut state = self.lock();
        if state.wanted.is_some_and(|(at, _)| at <= offset) {
            state.wanted = None;
            self.written.notify_waiters();
        }
    }

    /// Waits until the note is written; `false` where the partition is given away
    /// before.
    pub(crate) async fn written(&self, drain: &Drain) -> bool {
        loop {
            let written = self.written.notified();
            if self.lock().wanted.is_none() {
                return true;
            }
            tokio::select! {
                () = written => {}
                () = drain.begun() => return false,
            }
        }
    }

    /// The same for the note of a start, which may be late.
    pub(crate) async fn written_soon(&self, drain: &Drain) {
        // What is not written is only not counted.
        let _ = tokio::time::timeout(START_IS_NOTED_WITHIN, self.written(drain)).await;
    }

    /// The note to commit now.
    pub(crate) fn wanted(&self) -> Option<(i64, Note)> {
        self.lock().wanted
    }

    /// An offset whose note has to go, now that the partition ends cleanly.
    pub(crate) fn to_clear(&self) -> Option<i64> {
        let state = self.lock();
        state.there.or(state.wanted).filter(|(_, note)| note.is_suspicious()).map(|(offset, _)| offset)
    }

    /// Notes what the broker has taken.
    pub(crate) fn acknowledge(&self, offset: i64, note: Note) {
        let mut state = self.lock();
        state.there = Some((offset, note));
        let is_done = state.wanted.is_some_and(|(at, wanted)| (at, wanted) == (offset, note) || at < offset);
        if is_done {
            state.wanted = None;
            self.written.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_condemned_after_its_starts_and_never_untried() {
        let tried = |trials| Note { starts: 1, trials, by: 1, left: false };
        assert!(!tried(1).is_condemned(3) && tried(2).is_condemned(3));
        assert!(!tried(0).is_condemned(1) && tried(1).is_condemned(1));
    }

    #[test]
    fn a_record_that_came_back_was_not_the_killer_however_often_it_is_said() {
        let note = |trials| Note { starts: 1, trials, by: 1, left: false };
        let notes = Notes::starting_with(Some((5, note(1))));
        notes.survived(5);
        assert_eq!(notes.wanted(), None, "it is not tried");
        notes.want_try(5, note(2));
        notes.acknowledge(5, note(2));
        notes.survived(4);
        assert_eq!(notes.wanted(), None);
        for _ in 0..3 {
            notes.survived(5);
            assert_eq!(notes.wanted(), Some((5, note(1))));
            notes.acknowledge(5, note(1));
            notes.survived(5);
            assert_eq!((notes.wanted(), notes.found()), (None, Some((5, note(1)))));
            notes.want_try(5, note(2));
            notes.acknowledge(5, note(2));
        }
        notes.want_try(5, note(3));
        notes.survived(5);
        assert_eq!(notes.wanted(), Some((5, note(2))), "also where the broker does not have it yet");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_note_that_the_broker_does_not_take() {
        let (notes, drain) = (Notes::default(), Drain::default());
        notes.want(5, Note { starts: 1, trials: 1, by: 1, left: false });
        notes.without_room(4);
        assert!(notes.wanted().is_some());
        notes.without_room(5);
        assert!(notes.written(&drain).await);
    }

    #[tokio::test]
    async fn nothing_is_begun_on_a_note_that_the_broker_does_not_have_before_the_partition_goes() {
        let (notes, drain) = (Notes::starting_with(None), Drain::default());
        assert_eq!(notes.found(), None);
        let note = Note { starts: 1, trials: 1, by: 1, left: false };
        notes.want(5, note);
        drain.begin();
        assert!(!notes.written(&drain).await);
        notes.acknowledge(5, note);
        assert!(notes.written(&drain).await, "what is written before it goes");
        assert_eq!(notes.found(), Some((5, note)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_note_of_a_start_is_waited_for_but_not_for_long() {
        let (notes, drain) = (Notes::default(), Drain::default());
        notes.want(5, Note { starts: 1, trials: 0, by: 1, left: false });
        let start = tokio::time::Instant::now();
        notes.written_soon(&drain).await;
        assert_eq!(start.elapsed(), START_IS_NOTED_WITHIN);
    }

    #[tokio::test]
    async fn what_is_wanted_is_written_when_it_or_something_later_is_committed() {
        let (notes, drain) = (Notes::default(), Drain::default());
        let note = Note { starts: 1, trials: 0, by: 1, left: false };
        notes.want(5, note);
        notes.acknowledge(5, Note::default());
        assert_eq!(notes.wanted(), Some((5, note)), "a commit that was under way");
        notes.acknowledge(5, note);
        assert!(notes.written(&drain).await);
        assert_eq!(notes.to_clear(), Some(5));
        notes.want(5, Note { starts: 1, trials: 1, by: 1, left: false });
        notes.acknowledge(6, Note::default());
        assert!(notes.written(&drain).await);
        assert_eq!(notes.to_clear(), None);
    }
}

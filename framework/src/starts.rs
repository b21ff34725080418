//! Finds the record that kills the process, by starts without progress.
//!
//! A worker notes in the metadata of the committed offset that it begins there,
//! before it handles anything. Progress overwrites the note, and so does a clean end.
//! A worker that finds a note of an earlier start knows that the process ended there:
//! it tries what comes next one record at a time, alone in the process, and notes
//! each before. What was noted so `max_starts` times is given up untried. A note of its own
//! says nothing: the process lost the partition, and lives.

use crate::drain::Drain;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What is noted of starts at an offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Note {
    /// How often a worker began there.
    pub(crate) starts: u32,
    /// How often the record there was tried alone.
    pub(crate) trials: u32,
    /// The process that wrote it.
    pub(crate) by: u32,
}

/// What the workers of one process share, to try what may end it.
#[derive(Debug)]
pub(crate) struct Suspects {
    id: u32,
    /// Held by the worker that tries a suspect.
    pub(crate) alone: Arc<tokio::sync::Mutex<()>>,
}

impl Default for Suspects {
    fn default() -> Self {
        // Each has random keys of its own; 0 is nobody's.
        let random = RandomState::new().hash_one("the id of a process") as u32;
        Self { id: random.max(1), alone: Arc::default() }
    }
}

impl Suspects {
    /// What a note says of processes that have ended.
    pub(crate) fn evidence(&self, note: Note) -> Note {
        if note.by == self.id { Note::default() } else { note }
    }

    /// One more start.
    pub(crate) fn started(&self, before: Note) -> Note {
        Note { starts: before.starts.saturating_add(1), trials: before.trials, by: self.id }
    }

    /// One more trial.
    pub(crate) fn tried(&self, before: Note) -> Note {
        Note { starts: before.starts.max(1), trials: before.trials.saturating_add(1), by: self.id }
    }
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
}

/// The broker may be away for a while; the note of a start is not worth a standstill.
const START_IS_NOTED_WITHIN: Duration = Duration::from_secs(2);

impl Notes {
    /// Begins with what the committed offset says.
    pub(crate) fn starting_with(committed: Option<(i64, Note)>) -> Self {
        Self { state: Mutex::new(State { wanted: None, there: committed }), written: Notify::new() }
    }

    /// What is noted beside the committed offset; `None` where none is committed.
    pub(crate) fn found(&self) -> Option<(i64, Note)> {
        self.lock().there
    }

    /// Asks for a note. The poll thread commits it.
    pub(crate) fn want(&self, offset: i64, note: Note) {
        self.lock().wanted = Some((offset, note));
    }

    /// Takes back that the record at `offset` is tried: its handler has come back, and
    /// what takes long now is the wait for its next attempt or its dead letter. Written with the
    /// next commit.
    pub(crate) fn survived(&self, offset: i64) {
        let mut state = self.lock();
        if let Some((at, note)) = state.there.filter(|(at, note)| *at == offset && note.trials > 0) {
            state.wanted = Some((at, Note { trials: note.trials - 1, ..note }));
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

    /// What is to be committed now.
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_condemned_after_its_starts_and_never_untried() {
        let tried = |trials| Note { starts: 1, trials, by: 1 };
        assert!(!tried(1).is_condemned(3) && tried(2).is_condemned(3));
        assert!(!tried(0).is_condemned(1) && tried(1).is_condemned(1));
    }

    #[test]
    fn a_partition_that_comes_back_to_the_process_that_lost_it_is_no_suspect() {
        let (this, other) = (Suspects::default(), Suspects { id: 0, ..Suspects::default() });
        let note = this.started(Note::default());
        assert_eq!(this.evidence(note), Note::default());
        assert!(other.evidence(note).is_suspicious());
        assert_eq!(this.tried(other.evidence(other.tried(Note::default()))).trials, 1);
    }

    #[test]
    fn a_record_whose_handler_came_back_was_not_the_killer() {
        let notes = Notes::starting_with(Some((5, Note { starts: 1, trials: 2, by: 1 })));
        notes.survived(4);
        assert_eq!(notes.wanted(), None);
        notes.survived(5);
        assert_eq!(notes.wanted(), Some((5, Note { starts: 1, trials: 1, by: 1 })));
        let untried = Notes::starting_with(Some((5, Note { starts: 1, trials: 0, by: 1 })));
        untried.survived(5);
        assert_eq!(untried.wanted(), None);
    }

    #[tokio::test]
    async fn nothing_is_begun_on_a_note_that_the_broker_does_not_have_before_the_partition_goes() {
        let (notes, drain) = (Notes::starting_with(None), Drain::default());
        assert_eq!(notes.found(), None);
        let note = Note { starts: 1, trials: 1, by: 1 };
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
        notes.want(5, Note { starts: 1, trials: 0, by: 1 });
        let start = tokio::time::Instant::now();
        notes.written_soon(&drain).await;
        assert_eq!(start.elapsed(), START_IS_NOTED_WITHIN);
    }

    #[tokio::test]
    async fn what_is_wanted_is_written_when_it_or_something_later_is_committed() {
        let (notes, drain) = (Notes::default(), Drain::default());
        let note = Note { starts: 1, trials: 0, by: 1 };
        notes.want(5, note);
        notes.acknowledge(5, Note::default());
        assert_eq!(notes.wanted(), Some((5, note)), "a commit that was under way");
        notes.acknowledge(5, note);
        assert!(notes.written(&drain).await);
        assert_eq!(notes.to_clear(), Some(5));
        notes.want(5, Note { starts: 1, trials: 1, by: 1 });
        notes.acknowledge(6, Note::default());
        assert!(notes.written(&drain).await);
        assert_eq!(notes.to_clear(), None);
    }
}

//! Finds the record that kills the process, by starts without progress.
//!
//! A worker notes in the metadata of the committed offset that it begins there,
//! before it handles anything. Progress overwrites the note, and so does a clean end.
//! A worker that finds a note of an earlier start supposes that the process ended there:
//! it tries what comes next one record at a time, alone in the process, and notes
//! each try before. What was noted so `max_starts` times is given up untried.
//!
//! Only ends of processes count. So a note of a try stands for no longer than the try takes: once
//! the record comes back, done, failed, or because a server is away, the note is taken back, and
//! the next try is noted anew. And a process that loses a partition in the middle of a try
//! remembers that it lives: where the partition comes back to it, its own tries are not
//! counted. What is counted though nothing ended is a try by another process that lost the
//! partition while the handler was in that record.

use crate::TopicPartition;
use crate::base::sync::lock;
use crate::record::notes::Note;
use crate::record::source::Source;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};

/// What the workers of one process share, to try what may end it.
#[derive(Debug)]
pub(crate) struct Suspects {
    id: u32,
    /// Held by the worker that tries a suspect.
    pub(crate) alone: Arc<tokio::sync::Mutex<()>>,
    /// Tries that ended with the loss of the partition, and not of this process: at which
    /// offset, and how many.
    lost: Mutex<HashMap<Partition, (i64, u32)>>,
}

/// Group and partition.
type Partition = (Arc<str>, TopicPartition);

impl Default for Suspects {
    fn default() -> Self {
        // Each has random keys of its own; 0 is nobody's.
        let random = RandomState::new().hash_one("the id of a process") as u32;
        Self { id: random.max(1), alone: Arc::default(), lost: Mutex::default() }
    }
}

impl Suspects {
    /// What a note at `offset` says of processes that have ended.
    pub(crate) fn evidence(&self, source: &Source, offset: i64, note: Note) -> Note {
        if note.by == self.id {
            return Note::default();
        }
        let lost = lock(&self.lost).get(&name(source)).copied();
        let of_this = lost.filter(|(at, _)| *at == offset).map_or(0, |(_, tries)| tries);
        Note { trials: note.trials.saturating_sub(of_this), ..note }
    }

    /// Notes that this process has lost a partition, and lives.
    pub(crate) fn lost(&self, source: &Source) {
        if let Some(offset) = source.notes.trying() {
            let mut lost = lock(&self.lost);
            let (at, tries) = lost.entry(name(source)).or_insert((offset, 0));
            (*at, *tries) = (offset, if *at == offset { *tries + 1 } else { 1 });
        }
    }

    /// One more start.
    pub(crate) fn started(&self, before: Note) -> Note {
        let starts = before.starts.saturating_add(1);
        Note { starts, trials: before.trials, by: self.id, left: false }
    }

    /// One more trial.
    pub(crate) fn tried(&self, before: Note) -> Note {
        let trials = before.trials.saturating_add(1);
        Note { starts: before.starts.max(1), trials, by: self.id, left: false }
    }
}

fn name(source: &Source) -> Partition {
    (source.group.clone(), source.partition.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_comes_back_to_the_process_that_lost_it_is_no_suspect() {
        let (this, other) = (Suspects::default(), Suspects { id: 0, ..Suspects::default() });
        let (source, note) = (source(), this.started(Note::default()));
        assert_eq!(this.evidence(&source, 5, note), Note::default());
        assert!(other.evidence(&source, 5, note).is_suspicious());
        assert_eq!(this.tried(other.evidence(&source, 5, other.tried(Note::default()))).trials, 1);
    }

    /// Three live processes lose the partition in turn, at one record.
    #[test]
    fn a_process_that_lost_the_partition_while_it_tried_a_record_does_not_count_its_own_tries() {
        let processes = [1, 2, 3].map(|id| Suspects { id, ..Suspects::default() });
        let mut noted = Note { starts: 1, trials: 0, by: 9, left: false };
        for process in &processes {
            let source = source();
            noted = process.tried(process.evidence(&source, 5, noted));
            source.notes.want_try(5, noted);
            process.lost(&source);
        }
        assert_eq!((noted.trials, noted.by), (3, 3));
        assert_eq!(processes[0].evidence(&source(), 5, noted).trials, 2, "its own is not counted");
        assert_eq!(processes[0].evidence(&source(), 6, noted).trials, 3, "another record");
        let in_time = source();
        in_time.notes.want_try(5, noted);
        in_time.notes.survived(5);
        processes[1].lost(&in_time);
        assert_eq!(processes[1].evidence(&source(), 5, noted).trials, 2, "nothing was tried then");
    }

    fn source() -> Source {
        Source::new(TopicPartition::new("topic", 0), "group".into())
    }
}

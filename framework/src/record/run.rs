//! Records of one partition that are handled together.

use super::source::Source;
use super::{Record, TopicPartition};
use crate::HandlerError;
use crate::base::backoff::after;
use crate::base::drain::Drain;
use crate::kafka::message::Message;
use crate::kafka::queue::Keepalive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Records of one partition, in offset order, on their way to one handler.
///
/// A view that costs nothing to copy. A part of a run is a run too.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    records: &'a [Record<'a>],
    source: &'a Source,
    clock: &'a RunClock,
    progress: Option<&'a Progress>,
    given_up: Option<&'a HandlerError>,
}

/// How far the calls of a run have come, for a worker that looks in between.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    done: AtomicUsize,
    cut: AtomicBool,
}

impl Progress {
    /// At least so many of the first records are done.
    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Ends the run after the record in hand.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }
}

impl<'a> Run<'a> {
    pub(crate) fn new(records: &'a [Record<'a>], source: &'a Source, clock: &'a RunClock) -> Self {
        Self { records, source, clock, progress: None, given_up: None }
    }

    /// The records.
    pub fn records(&self) -> &'a [Record<'a>] {
        self.records
    }

    /// The records, one by one.
    pub fn iter(&self) -> std::iter::Copied<std::slice::Iter<'a, Record<'a>>> {
        self.records.iter().copied()
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The partition of all its records.
    pub fn source(&self) -> &'a TopicPartition {
        &self.source.partition
    }

    /// The same run with only these records; they must stay in order.
    pub fn with<'b>(&self, records: &'b [Record<'b>]) -> Run<'b>
    where
        'a: 'b,
    {
        Run { records, ..*self }
    }

    /// Whether the run should end after the current record, because its time is up or the
    /// partition is being revoked. The records behind it are
    /// [`NotReached`](crate::Outcome::NotReached).
    pub fn should_stop(&self) -> bool {
        self.clock.should_stop()
    }

    /// Whether the partition is being revoked.
    pub fn is_draining(&self) -> bool {
        self.clock.drain.has_begun()
    }

    /// Gives the partition away: another process has it, by PostgreSQL's account.
    #[cfg(feature = "postgres")]
    pub(crate) fn give_away(&self) {
        self.clock.drain.begin();
    }

    /// Waits until the partition is being given away.
    #[cfg(feature = "schemas")]
    pub(crate) async fn is_to_drain(&self) {
        self.clock.drain.begun().await;
    }

    /// Waits for `delay`, or until the partition is being given away.
    pub(crate) async fn wait(&self, delay: Duration) {
        self.clock.drain.wait(delay).await;
    }

    /// The same run of one record, that was given up by this error: what is left to do is its dead
    /// letter.
    pub(crate) fn given_up_by(self, error: Option<&'a HandlerError>) -> Self {
        Self { given_up: error, ..self }
    }

    /// Why its one record was given up, if what is left to do is its dead letter.
    pub(crate) fn given_up(&self) -> Option<&'a HandlerError> {
        self.given_up
    }

    /// The same run, which tells how far it is.
    pub(crate) fn telling(self, progress: &'a Progress) -> Self {
        Self { progress: Some(progress), ..self }
    }

    /// Notes that one more record is done, in order.
    pub(crate) fn told_done(&self) {
        if let Some(progress) = self.progress {
            progress.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many of its first records are done, if it tells.
    pub(crate) fn told(&self) -> Option<usize> {
        self.progress.map(Progress::done)
    }

    /// Whether the record in hand is the last: those behind it go on elsewhere.
    pub(crate) fn is_cut(&self) -> bool {
        self.progress.is_some_and(|progress| progress.cut.load(Ordering::Relaxed))
    }

    pub(crate) fn clock(&self) -> &'a RunClock {
        self.clock
    }

    /// The same run on another clock.
    pub(crate) fn on<'b>(&self, clock: &'b RunClock) -> Run<'b>
    where
        'a: 'b,
    {
        Run { clock, ..*self }
    }

    pub(crate) fn assigned(&self) -> &'a Source {
        self.source
    }
}

/// When a run has to end.
#[derive(Debug)]
pub(crate) struct RunClock {
    limit: Duration,
    deadline: Instant,
    drain: Arc<Drain>,
}

impl RunClock {
    pub(crate) fn start(limit: Duration, drain: Arc<Drain>) -> Self {
        Self { limit, deadline: after(limit), drain }
    }

    /// The same time once more, from now on.
    pub(crate) fn again(&self) -> Self {
        Self::start(self.limit, self.drain.clone())
    }

    fn should_stop(&self) -> bool {
        self.drain.has_begun() || Instant::now() >= self.deadline
    }
}

/// Records that a worker took from its inbox, with what keeps them alive.
#[derive(Debug)]
pub(crate) struct Fetched {
    // Before the client, so that it is dropped before it.
    pub(crate) messages: Vec<Message>,
    pub(crate) client: Keepalive,
}

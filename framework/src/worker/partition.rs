//! Gets runs from the inbox, gives finished offsets to the OffsetTracker.

use super::shared::Partition;
use crate::base::backoff::Backoff;
use crate::config::{Guarantee, Order};
use crate::error::reason::{Decision, Reason};
use crate::error::text::capped;
use crate::failure::trials::Trial;
use crate::kafka::message::Message;
use crate::kafka::read_lock::step_aside;
use crate::record::Record;
use crate::record::notes::Note;
use crate::record::run::{Fetched, Run, RunClock};
use crate::routing::router::Router;
use crate::worker::pace::Pace;
use crate::worker::remaining::Remaining;
use crate::worker::side_by_side::{self, Hands};
use crate::worker::starts::Suspects;
use crate::{HandlerError, Outcome, Outcomes};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::OwnedMutexGuard;

/// How a worker works.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Of a run.
    pub(crate) records: usize,
    /// Of a run.
    pub(crate) bytes: usize,
    /// Of a run.
    pub(crate) time: Duration,
    /// The most records beyond the watermark where runs go side by side.
    pub(crate) in_flight: usize,
    /// The most bytes of these.
    pub(crate) in_flight_bytes: usize,
}

/// How long a suspect waits to be the only one that is tried.
const ALONE_WITHIN: Duration = Duration::from_secs(30);

/// Works one assigned partition until it is given away.
pub(crate) struct PartitionWorker {
    partition: Arc<Partition>,
    router: Arc<Router>,
    limits: Limits,
    pace: Pace,
    /// Between runs that Onceward's own work keeps from going on.
    held: Backoff,
    /// Between attempts at a record that no middleware dealt with.
    trouble: Backoff,
    suspects: Arc<Suspects>,
}

impl PartitionWorker {
    pub(crate) fn new(
        partition: Arc<Partition>,
        router: Arc<Router>,
        limits: Limits,
        suspects: Arc<Suspects>,
    ) -> Self {
        let most = router.max_run_records.unwrap_or(usize::MAX).min(limits.records);
        let pace = Pace::new(most, limits.time);
        let trouble = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        let held = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        Self { partition, router, limits, pace, held, trouble, suspects }
    }

    pub(crate) async fn work(mut self) {
        // Also when the task is aborted, or unwinds.
        let _ended = OnEnd(self.partition.clone());
        let Some(fetched) = self.begin().await else { return };
        match self.router.order {
            Order::Partition => self.work_in_turn(fetched).await,
            Order::Key | Order::None => self.work_side_by_side(fetched).await,
        }
    }

    /// One run after the other.
    async fn work_in_turn(&mut self, first: Fetched) {
        let mut next = Some(first);
        while let Some(fetched) = next {
            self.process(fetched, Trust::Full).await;
            next = self.fetch(self.pace.records()).await;
        }
    }

    async fn work_side_by_side(&self, first: Fetched) {
        let hands = Hands { partition: &self.partition, router: &self.router, limits: &self.limits };
        side_by_side::work(hands, first).await;
    }

    async fn fetch(&self, most: usize) -> Option<Fetched> {
        self.partition.take(most, self.limits.bytes).await
    }

    /// Notes this start, tries what may end the process, and gives what comes next.
    async fn begin(&mut self) -> Option<Fetched> {
        let found = self.partition.source.notes.found();
        let evidence =
            |(offset, note)| (offset, self.suspects.evidence(&self.partition.source, offset, note));
        let found = found.map(evidence);
        let is_suspicious = found.is_some_and(|(_, note)| note.is_suspicious());
        let suspects = if is_suspicious { self.limits.records } else { 0 };
        let most = if is_suspicious { 1 } else { self.pace.records() };
        let mut fetched = self.fetch(most).await?;
        self.note_start(&fetched, found).await;
        for _ in 0..suspects {
            self.try_alone(fetched).await;
            fetched = self.fetch(1).await?;
        }
        Some(fetched)
    }

    /// Notes this start, before anything is handled, beside what earlier ones have noted
    /// there.
    async fn note_start(&self, fetched: &Fetched, found: Option<(i64, Note)>) {
        let partition = &self.partition;
        let Some(first) = fetched.messages.first().map(Message::offset) else { return };
        let (offset, found) = found.unwrap_or((first, Note::default()));
        partition.note(offset, self.suspects.started(found));
        partition.source.notes.written_soon(&partition.drain).await;
        if found.is_suspicious() {
            tracing::warn!(
                source = %partition.source.partition,
                offset,
                starts = found.starts,
                trials = found.trials,
                "the process has ended here before without progress; trying one record at a time"
            );
        }
    }

    /// Tries one record by itself, unless the process has ended at it too often.
    async fn try_alone(&mut self, fetched: Fetched) {
        let Some(offset) = fetched.messages.first().map(Message::offset) else { return };
        let noted = self.partition.source.notes.found().filter(|(at, note)| note.trials > 0 && *at == offset);
        let note = noted.map_or_else(Note::default, |(_, note)| note);
        let trust = match note.is_condemned(self.router.max_starts) {
            true => Trust::Condemned { starts: note.trials + 1 },
            false => Trust::TriedAlone { before: note },
        };
        self.process(fetched, trust).await;
    }

    /// Waits until no other suspect is tried in the process, and notes that this one is: if the
    /// process ends now, it is this one. `None` where the partition is given away before.
    async fn alone(&self, offset: i64, before: Note) -> Option<Alone> {
        let drain = &self.partition.drain;
        let alone = tokio::select! {
            alone = self.suspects.alone.clone().lock_owned() => Alone(Some(alone)),
            // The one that is tried may take long.
            () = tokio::time::sleep(ALONE_WITHIN) => Alone(None),
            () = drain.begun() => return None,
        };
        self.partition.source.notes.want_try(offset, self.suspects.tried(before));
        self.partition.wake.wake();
        self.partition.source.notes.written(drain).await.then_some(alone)
    }

    /// Takes fetched records to finished offsets: in through the middleware to the
    /// handler, and back, in as many runs as that takes.
    ///
    /// A record whose outcome is an error stays unfinished, so nothing after it is
    /// committed; it is in the next run again, after a delay, until it finishes or the
    /// partition is given away. Only here is anything waited for but the handler.
    async fn process(&mut self, fetched: Fetched, trust: Trust) {
        let partition = self.partition.clone();
        let mut left = Remaining::new(&fetched, &partition.source);
        let is_committed = self.router.guarantee == Guarantee::AtMostOnceLosingWorkInFlight;
        match trust {
            Trust::Condemned { starts } => left.give_up_first(condemned(starts)),
            _ if is_committed && !self.commit_first(left.records()).await => return,
            _ => {}
        }
        while let Some(first) = left.first()
            // What is committed already is done as long as there is time.
            && (is_committed || !partition.drain.has_begun())
        {
            let alone = match trust {
                Trust::TriedAlone { before } if !is_committed && !left.is_first_given_up() => {
                    let Some(alone) = self.alone(first.offset(), before).await else { return };
                    Some(alone)
                }
                _ => None,
            };
            let delay = self.run(&mut left).await;
            if alone.is_some() {
                partition.source.notes.survived(first.offset());
                if left.is_first(first) {
                    partition.source.notes.written(&partition.drain).await;
                }
            }
            drop(alone);
            if is_committed && partition.drain.has_begun() && left.is_first(first) {
                left.drop_first();
                tracing::error!(
                    topic = first.topic(),
                    partition = first.partition(),
                    offset = first.offset(),
                    "an attempt at a record that is committed already came to nothing, and its partition is given \
                     away: it is not tried again"
                );
            }
            if !delay.is_zero() {
                partition.drain.wait(delay).await;
            }
            // There may always be more, and other workers share this thread.
            step_aside().await;
        }
    }

    /// Takes the next run of what is left to its outcomes; gives how long the next one waits.
    async fn run(&mut self, left: &mut Remaining<'_>) -> Duration {
        let partition = self.partition.clone();
        partition.offsets().note_key(left.records()[0].offset(), left.records()[0].key());
        let clock = RunClock::start(self.limits.time, partition.drain.clone());
        let run = left.run(self.pace.records(), &partition.source, &clock);
        let started = Instant::now();
        let outcomes = self.router.handle(run).await;
        let finished = partition.finish(run, &outcomes);
        if run.given_up().is_none() {
            self.pace.went(finished, started.elapsed());
            if finished < run.len() {
                self.pace.cut_short();
            }
        }
        if finished > 0 {
            self.held.reset();
            partition.goes_on();
        }
        let delay = self.delay(run, &outcomes);
        left.settle(outcomes);
        delay
    }

    /// How long the next run waits: for the first record that failed, or is held.
    fn delay(&mut self, run: Run<'_>, outcomes: &Outcomes) -> Duration {
        let waits = run.iter().zip(outcomes).find_map(|(record, outcome)| match outcome {
            Outcome::Failed(error) if !error.is_to_be_put_away() => Some((record, error)),
            _ => None,
        });
        let Some((record, error)) = waits else {
            self.trouble.reset();
            return Duration::ZERO;
        };
        if let Some(held) = error.held_by() {
            let delay = error.delay().unwrap_or_else(|| self.held.delay());
            self.partition.held(record, held);
            return delay;
        }
        if let Some(Decision::Again(delay)) = error.decided() {
            return delay;
        }
        self.pace.failed();
        let delay = error.delay().unwrap_or_else(|| self.trouble.delay());
        tracing::error!(
            topic = record.topic(),
            partition = record.partition(),
            offset = record.offset(),
            attempt = record.attempt(),
            permanent = error.is_permanent(),
            ?delay,
            error = capped(error),
            "record failed; its partition waits for it"
        );
        delay
    }

    /// Commits records before they are handled; says whether they may be.
    async fn commit_first(&self, open: &[Record<'_>]) -> bool {
        let (partition, Some(last)) = (&self.partition, open.last()) else { return false };
        partition.note(last.offset() + 1, Note::default());
        if !partition.source.notes.written(&partition.drain).await {
            return false;
        }
        let mut offsets = partition.offsets();
        open.iter().for_each(|record| offsets.finish(record.offset()));
        true
    }
}

/// What is thought of fetched records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    Full,
    /// The process may end by the one record, which is tried while no other suspect is; this was
    /// noted of it before.
    TriedAlone {
        before: Note,
    },
    /// The process ended so many times at the one record.
    Condemned {
        starts: u32,
    },
}

/// Held while a suspect is tried, unless that took too long to get.
struct Alone(#[allow(dead_code)] Option<OwnedMutexGuard<()>>);

/// Why a record is given up untried.
fn condemned(starts: u32) -> HandlerError {
    let problem =
        format!("the process ended {starts} times while it tried this record, so it is not tried again");
    let mut error = HandlerError::new(problem).permanent();
    error.decide(Decision::PutAway(Trial::of(starts).given_up(Reason::MaxStarts)));
    error
}

struct OnEnd(Arc<Partition>);

impl Drop for OnEnd {
    fn drop(&mut self) {
        self.0.panicked.store(std::thread::panicking(), Ordering::Release);
        self.0.ended.store(true, Ordering::Release);
        self.0.wake.wake();
    }
}

//! Gets runs from the inbox, gives finished offsets to the OffsetTracker.

use crate::backoff::Backoff;
use crate::contact::Contact;
use crate::drain::Drain;
use crate::error::Decision;
use crate::fetching::Fetching;
use crate::inbox::Inbox;
use crate::offsets::OffsetTracker;
use crate::order::{Guarantee, Order};
use crate::pace::Pace;
use crate::read_lock::{ReadLock, Reading, step_aside};
use crate::record::{Message, Record};
use crate::router::Router;
use crate::run::{Fetched, Run, RunClock, Source};
use crate::side_by_side::{self, Hands};
use crate::starts::{Note, Suspects};
use crate::wake::Wake;
use crate::{HandlerError, Outcome, Outcomes};
use rdkafka::error::RDKafkaErrorCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the poll thread and the worker of one assigned partition share. A
/// partition that comes back after a revoke gets a new one, so what is late
/// reaches only the old.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) source: Source,
    pub(crate) inbox: Inbox,
    pub(crate) drain: Arc<Drain>,
    offsets: Mutex<OffsetTracker>,
    ended: AtomicBool,
    /// librdkafka does not know where to go on.
    lost_position: AtomicBool,
    /// What keeps it from being fetched.
    pub(crate) fetching: Fetching,
    read_lock: Arc<ReadLock>,
    contact: Arc<Contact>,
    wake: Arc<Wake>,
}

impl Partition {
    pub(crate) fn new(
        source: Source,
        inbox: Inbox,
        drain: Arc<Drain>,
        read_lock: Arc<ReadLock>,
        contact: Arc<Contact>,
        wake: Arc<Wake>,
    ) -> Self {
        Self {
            source,
            inbox,
            drain,
            offsets: Mutex::default(),
            ended: AtomicBool::new(false),
            lost_position: AtomicBool::new(false),
            fetching: Fetching::default(),
            read_lock,
            contact,
            wake,
        }
    }

    /// Waits for records and takes what is there, within bounds but at least one;
    /// `None` once the partition is being given away.
    pub(crate) async fn take(&self, most_records: usize, most_bytes: usize) -> Option<Fetched> {
        loop {
            let fetched = tokio::select! {
                fetched = self.read_lock.read(|reading| self.read(reading, most_records, most_bytes)) => fetched,
                // The poll thread, which holds the lock then, waits for this worker.
                () = self.drain.begun() => return None,
            };
            match fetched {
                Some(fetched) => return Some(fetched),
                None if self.drain.has_begun() => return None,
                None => self.inbox.arrived().await,
            }
        }
    }

    /// The same without waiting: `None` where nothing is there, or somebody else reads.
    pub(crate) fn try_take(&self, most_records: usize, most_bytes: usize) -> Option<Fetched> {
        self.read_lock.try_read(|reading| self.read(reading, most_records, most_bytes)).flatten()
    }

    fn read(&self, reading: &Reading<'_>, most_records: usize, most_bytes: usize) -> Option<Fetched> {
        let found = self.inbox.read(reading, most_records, most_bytes, &self.offsets);
        if found.heard {
            self.contact.heard();
        }
        for error in &found.errors {
            match error.code {
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                    self.lost_position.store(true, Ordering::Release);
                    self.wake.wake();
                }
                _ => self.fetching.failed(&self.source.partition, error),
            }
        }
        if let Some(last) = found.fetched.as_ref().and_then(|fetched| fetched.messages.last()) {
            self.fetching.fetched(last.offset());
        }
        found.fetched
    }

    /// Whether librdkafka has said since the last look that it does not know where to go on, or has
    /// passed over records.
    pub(crate) fn has_lost_position(&self) -> bool {
        self.lost_position.swap(false, Ordering::AcqRel) | self.fetching.is_to_restart()
    }

    pub(crate) fn offsets(&self) -> MutexGuard<'_, OffsetTracker> {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the worker finish the record in hand and end.
    pub(crate) fn begin_drain(&self) {
        self.drain.begin();
        self.inbox.wake_worker();
    }

    /// Notes which records of a run are finished, and says how many.
    pub(crate) fn finish(&self, run: Run<'_>, outcomes: &Outcomes) -> usize {
        let mut offsets = self.offsets();
        let finished = run.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_finished());
        finished.map(|(record, _)| offsets.finish(record.offset())).count()
    }

    /// Has a note written beside the committed offset.
    fn note(&self, offset: i64, note: Note) {
        self.source.notes.want(offset, note);
        self.wake.wake();
    }

    /// Whether the worker has ended, in whatever way.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

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
    trouble: Backoff,
    suspects: Arc<Suspects>,
    /// What was noted before of the record that is tried alone.
    on_trial: Option<Note>,
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
        Self { partition, router, limits, pace, trouble, suspects, on_trial: None }
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
            self.process(fetched).await;
            // There may always be more, and other workers share this thread.
            step_aside().await;
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

    /// Tries one record while no other suspect is tried in the process, and notes it
    /// before: if the process ends now, it is this one.
    async fn try_alone(&mut self, fetched: Fetched) {
        let partition = self.partition.clone();
        let Some(offset) = fetched.messages.first().map(Message::offset) else { return };
        let suspects = self.suspects.clone();
        let _alone = tokio::select! {
            alone = suspects.alone.lock() => Some(alone),
            // Whoever is tried may be held back for long, by a dead-letter topic that is gone.
            () = tokio::time::sleep(ALONE_WITHIN) => None,
            () = partition.drain.begun() => return,
        };
        let noted = partition.source.notes.found().filter(|(at, note)| note.trials > 0 && *at == offset);
        let note = noted.map_or_else(Note::default, |(_, note)| note);
        if note.is_condemned(self.router.max_starts) {
            return self.condemn(fetched, note).await;
        }
        self.on_trial = Some(note);
        if self.note_try(offset).await {
            self.process(fetched).await;
        }
        self.on_trial = None;
    }

    /// Notes that a suspect is tried, before each try. Says whether that is written: else it may not be.
    async fn note_try(&self, offset: i64) -> bool {
        let (partition, Some(before)) = (&self.partition, self.on_trial) else { return true };
        partition.source.notes.want_try(offset, self.suspects.tried(before));
        partition.wake.wake();
        partition.source.notes.written(&partition.drain).await
    }

    /// Gives up a record without another try.
    async fn condemn(&mut self, fetched: Fetched, note: Note) {
        let partition = self.partition.clone();
        let open = open(&fetched, &partition.source);
        let clock = RunClock::start(self.limits.time, partition.drain.clone());
        let run = Run::new(&open, &partition.source, &clock);
        while !partition.drain.has_begun() {
            let outcomes = self.router.condemn(run, note.trials + 1).await;
            if partition.finish(run, &outcomes) > 0 {
                return;
            }
            if let Some((record, error)) = first_failure(run, &outcomes) {
                self.pause(run, record, error).await;
            }
        }
    }

    /// Takes fetched records to finished offsets: in through the middleware to the
    /// handler, and back.
    ///
    /// A record whose outcome is an error that no middleware dealt with stays
    /// unfinished, so nothing after it is committed; it is run again, after a
    /// pause, until it finishes or the partition is given away.
    async fn process(&mut self, fetched: Fetched) {
        let partition = self.partition.clone();
        let mut open = open(&fetched, &partition.source);
        let is_given_up = self.router.guarantee == Guarantee::AtMostOnceLosingWorkInFlight;
        if is_given_up && !self.commit_first(&open).await {
            return;
        }
        // What is committed already is done as long as there is time.
        while !open.is_empty() && (is_given_up || !partition.drain.has_begun()) {
            partition.offsets().note_key(open[0].offset(), open[0].key());
            let clock = RunClock::start(self.limits.time, partition.drain.clone());
            let run = Run::new(&open[..open.len().min(self.pace.records())], &partition.source, &clock);
            let started = Instant::now();
            let outcomes = self.router.handle(run).await;
            let finished = partition.finish(run, &outcomes);
            if self.on_trial.is_some() {
                partition.source.notes.survived(open[0].offset());
            }
            self.pace.went(finished, started.elapsed());
            if finished < run.len() {
                self.pace.cut_short();
            }
            if let Some((record, error)) = first_failure(run, &outcomes) {
                self.pause(run, record, error).await;
            } else {
                self.trouble.reset();
            }
            open = still_open(&open, &outcomes);
            if let Some(next) = open.first().filter(|_| self.on_trial.is_some() && !is_given_up)
                && !self.note_try(next.offset()).await
            {
                return;
            }
        }
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

    /// Waits until the record is tried again. One that no middleware dealt with is held,
    /// and its partition with it, where one can see it.
    async fn pause(&mut self, run: Run<'_>, record: Record<'_>, error: &HandlerError) {
        if let Some(Decision::Again(delay)) = error.decided() {
            return run.wait(delay).await;
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
            error = %error,
            "record failed; its partition waits for it"
        );
        run.wait(delay).await;
    }
}

fn open<'f>(fetched: &'f Fetched, source: &'f Source) -> Vec<Record<'f>> {
    fetched.messages.iter().map(|message| Record::new(message, source, 1)).collect()
}

fn first_failure<'r, 'o>(run: Run<'r>, outcomes: &'o Outcomes) -> Option<(Record<'r>, &'o HandlerError)> {
    run.iter().zip(outcomes).find_map(|(record, outcome)| match outcome {
        Outcome::Failed(error) => Some((record, error)),
        _ => None,
    })
}

/// What has to be run again. Only a failure of its own costs a record an attempt.
fn still_open<'f>(open: &[Record<'f>], outcomes: &Outcomes) -> Vec<Record<'f>> {
    let outcomes = outcomes.iter().map(Some).chain(std::iter::repeat(None));
    let again = |(record, outcome): (&Record<'f>, Option<&Outcome>)| match outcome {
        None | Some(Outcome::NotReached) => Some(*record),
        Some(Outcome::Failed(_)) => Some(record.again()),
        Some(_) => None,
    };
    open.iter().zip(outcomes).filter_map(again).collect()
}

struct OnEnd(Arc<Partition>);

impl Drop for OnEnd {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.wake.wake();
    }
}

//! What the poll thread and the worker of one assigned partition share.

use super::fetching::Fetching;
use super::inbox::Inbox;
use super::offsets::OffsetTracker;
use crate::Outcomes;
use crate::base::drain::Drain;
use crate::base::wake::Wake;
use crate::error::text::capped;
use crate::error::trouble::{Cause, Held};
use crate::kafka::client::RDKafkaErrorCode;
use crate::kafka::contact::Contact;
use crate::kafka::read_lock::{ReadLock, Reading};
use crate::record::Record;
use crate::record::notes::Note;
use crate::record::run::{Fetched, Run};
use crate::record::source::Source;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const HELD: &str = "waiting; no attempt is counted";

/// What the poll thread and the worker of one assigned partition share. A
/// partition that comes back after a revoke gets a new one, so what is late
/// reaches only the old.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) source: Source,
    pub(crate) inbox: Inbox,
    pub(crate) drain: Arc<Drain>,
    offsets: Mutex<OffsetTracker>,
    pub(super) ended: AtomicBool,
    /// Its worker ended by a panic.
    pub(super) panicked: AtomicBool,
    /// librdkafka does not know where to go on.
    lost_position: AtomicBool,
    /// What keeps it from being fetched.
    pub(crate) fetching: Fetching,
    read_lock: Arc<ReadLock>,
    contact: Arc<Contact>,
    pub(super) wake: Arc<Wake>,
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
            panicked: AtomicBool::new(false),
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
    pub(super) fn note(&self, offset: i64, note: Note) {
        self.source.notes.want(offset, note);
        self.wake.wake();
    }

    /// Notes what holds a record, and says so unless that was just said.
    pub(crate) fn held(&self, record: Record<'_>, held: &Held) {
        if self.drain.has_begun() {
            return;
        }
        let error = capped(held.text());
        let Some(times) = self.source.troubles.raise(held.cause, error.clone()) else { return };
        let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(topic, partition, offset, times, error, "{HELD}")
            };
        }
        match held.cause {
            Cause::Passing if times == 1 => say!(debug),
            Cause::Passing => say!(info),
            Cause::Outage => say!(warn),
            Cause::Setup => say!(error),
        }
    }

    /// Notes that nothing is held any more.
    pub(crate) fn goes_on(&self) {
        const WORTH_A_LINE: Duration = Duration::from_secs(1);
        if let Some(lasted) = self.source.troubles.clear()
            && lasted >= WORTH_A_LINE
        {
            tracing::info!(source = %self.source.partition, ?lasted, "goes on again");
        }
    }

    /// Whether the worker ended by a panic: then the note of its start has to stand.
    pub(crate) fn has_panicked(&self) -> bool {
        self.panicked.load(Ordering::Acquire)
    }

    /// Whether the worker has ended, in whatever way.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

//! Gets records from a partition's queue, gives runs of them to the partition's worker.

use crate::base::drain::Drain;
use crate::kafka::message::{FetchError, Message};
use crate::kafka::queue::{Keepalive, Queue};
use crate::kafka::read_lock::Reading;
use crate::record::run::Fetched;
use crate::worker::offsets::OffsetTracker;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Where one worker takes its records from: librdkafka's own queue of the partition.
///
/// What is not taken stays there. When it is full, librdkafka stops fetching by itself; nothing
/// is paused, which would drop what was prefetched.
pub(crate) struct Inbox {
    contents: Mutex<Contents>,
    arrived: Arc<Notify>,
    drain: Arc<Drain>,
    // After the messages, so that it is dropped after them.
    client: Keepalive,
}

struct Contents {
    queue: Option<Box<dyn Queue>>,
    /// Read, and beyond the bytes of the run before.
    kept: VecDeque<Message>,
    batch: Vec<Message>,
    /// librdkafka has passed over records: nothing is read until they are fetched anew.
    is_held: bool,
}

/// Records of one read, so that a bound without end takes no memory.
const BATCH: usize = 1024;

/// The result of a look into the queue.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) fetched: Option<Fetched>,
    /// Whether the broker has sent anything.
    pub(crate) heard: bool,
    pub(crate) errors: Vec<FetchError>,
}

impl Inbox {
    /// `arrived` is notified when the empty queue gets something.
    pub(crate) fn new(
        queue: Box<dyn Queue>,
        arrived: Arc<Notify>,
        drain: Arc<Drain>,
        client: Keepalive,
    ) -> Self {
        let contents =
            Contents { queue: Some(queue), kept: VecDeque::new(), batch: Vec::new(), is_held: false };
        Self { contents: Mutex::new(contents), arrived, drain, client }
    }

    /// Waits until there may be something, or the partition is given away.
    pub(crate) async fn arrived(&self) {
        // Remembers a notification that came in between.
        self.arrived.notified().await;
    }

    /// Takes what is there, within bounds but at least one record, and notes it as delivered.
    pub(crate) fn read(
        &self,
        reading: &Reading<'_>,
        most_records: usize,
        most_bytes: usize,
        offsets: &Mutex<OffsetTracker>,
    ) -> Found {
        let mut contents = self.contents();
        let Contents { queue, kept, batch, is_held } = &mut *contents;
        let mut found = Found::default();
        if self.drain.has_begun() {
            return found;
        }
        if let (Some(queue), true, false) = (queue, kept.is_empty(), *is_held) {
            while kept.len() < most_records {
                let limit = (most_records - kept.len()).min(BATCH);
                let count = queue.read(reading, limit, batch, &mut found.errors);
                found.heard |= count > 0;
                *is_held = found.errors.iter().any(FetchError::is_gap);
                // Those that an owner before has finished are passed over.
                let mut offsets = offsets.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(batch.drain(..).filter(|message| offsets.begin(message.offset())));
                // Whoever has nothing reads on until nothing is there: only then is it woken again.
                if count == 0 || *is_held || (count < limit && !kept.is_empty()) {
                    break;
                }
            }
        }
        let (mut count, mut bytes) = (0, 0);
        while count < kept.len().min(most_records) && (count == 0 || bytes < most_bytes) {
            bytes += kept[count].size();
            count += 1;
        }
        if count > 0 {
            let messages = kept.drain(..count).collect();
            found.fetched = Some(Fetched { messages, client: self.client.clone() });
        }
        found
    }

    /// Wakes the worker, which sees then that the partition is given away.
    pub(crate) fn wake_worker(&self) {
        self.arrived.notify_one();
    }

    /// Reads on, behind a gap whose records are fetched anew.
    pub(crate) fn read_on(&self) {
        self.contents().is_held = false;
        self.wake_worker();
    }

    /// Reads no more: what comes is left with librdkafka.
    pub(crate) fn stop(&self) {
        let queue = self.contents().queue.take();
        drop(queue);
    }

    /// Lets go of all that is there, and of the queue.
    pub(crate) fn clear(&self) {
        let kept = std::mem::take(&mut self.contents().kept);
        drop(kept);
        self.stop();
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::in_memory::InMemory;
    use crate::kafka::message::OwnedMessage;
    use crate::kafka::read_lock::ReadLock;
    use crate::worker::ahead::Ahead;

    /// An inbox with these records, its drain, and the books of its partition.
    fn inbox(offsets: std::ops::Range<i64>) -> (Inbox, Arc<Drain>, Mutex<OffsetTracker>) {
        let message = |offset| OwnedMessage { offset, payload: Some(vec![0; 10]), ..Default::default() };
        let (queue, drain) = (InMemory(offsets.map(message).collect()), Arc::<Drain>::default());
        let inbox = Inbox::new(Box::new(queue), Arc::default(), drain.clone(), Keepalive::default());
        (inbox, drain, Mutex::default())
    }

    fn read(inbox: &Inbox, records: usize, bytes: usize, offsets: &Mutex<OffsetTracker>) -> Vec<i64> {
        let lock = ReadLock::default();
        let found = lock.try_read(|reading| inbox.read(reading, records, bytes, offsets)).unwrap();
        found.fetched.iter().flat_map(|fetched| &fetched.messages).map(Message::offset).collect()
    }

    #[test]
    fn a_run_takes_what_is_there_in_order_within_its_bounds() {
        let (inbox, _, offsets) = inbox(0..6);
        assert_eq!(read(&inbox, 3, 1000, &offsets), [0, 1, 2]);
        assert_eq!(
            offsets.lock().unwrap().delivered_to(),
            Some(3),
            "what stands in the queue is not delivered"
        );
        assert_eq!(read(&inbox, 3, 5, &offsets), [3], "one record, however large");
        assert_eq!(read(&inbox, 1, 1000, &offsets), [4]);
        assert_eq!(read(&inbox, 3, 1000, &offsets), [5]);
        assert!(read(&inbox, 3, 1000, &offsets).is_empty());
    }

    #[test]
    fn a_run_may_be_longer_than_a_read_and_a_bound_without_end_is_none() {
        for (most, found) in [(2 * BATCH + 1, 2 * BATCH + 1), (usize::MAX, 3 * BATCH)] {
            let (inbox, _, offsets) = inbox(0..3 * BATCH as i64);
            assert_eq!(read(&inbox, most, usize::MAX, &offsets).len(), found);
        }
    }

    #[test]
    fn a_partition_that_is_stopped_hands_out_what_it_has_and_reads_no_more() {
        let (inbox, _, offsets) = inbox(0..6);
        assert_eq!(read(&inbox, 3, 15, &offsets), [0, 1]);
        inbox.stop();
        assert_eq!(read(&inbox, 3, 1000, &offsets), [2]);
        assert!(read(&inbox, 3, 1000, &offsets).is_empty());
    }

    #[test]
    fn what_an_owner_before_has_finished_is_passed_over() {
        let (inbox, _, offsets) = inbox(0..9);
        offsets.lock().unwrap().remember(Ahead(vec![0..3, 3..7]));
        assert_eq!(read(&inbox, 2, 1000, &offsets), [7, 8]);
    }

    #[test]
    fn a_partition_that_is_given_away_gets_nothing() {
        let (inbox, drain, offsets) = inbox(0..6);
        assert_eq!(read(&inbox, 3, 15, &offsets), [0, 1]);
        drain.begin();
        assert!(read(&inbox, 3, 1000, &offsets).is_empty());
        assert_eq!(offsets.lock().unwrap().delivered_to(), Some(3), "nothing more is delivered");
    }
}

//! Gets records from the poll thread, gives runs of them to the partition's worker.

use crate::queue::Keepalive;
use crate::record::Message;
use crate::run::Fetched;
use crate::wake::Wake;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Records between the poll thread and one worker, bounded by count and bytes.
///
/// When it is full the partition's queue is left alone, and librdkafka stops
/// fetching by itself; nothing is paused, which would drop what was prefetched.
#[derive(Debug)]
pub(crate) struct Inbox {
    contents: Mutex<Contents>,
    arrived: Notify,
    most_records: usize,
    most_bytes: usize,
    wake: Arc<Wake>,
    // After the messages, so that it is dropped after them.
    client: Keepalive,
}

#[derive(Debug, Default)]
struct Contents {
    messages: VecDeque<Message>,
    bytes: usize,
    closed: bool,
    /// The poll thread found it full and waits to be woken.
    awaited: bool,
}

impl Inbox {
    pub(crate) fn new(most_records: usize, most_bytes: usize, wake: Arc<Wake>, client: Keepalive) -> Self {
        Self { contents: Mutex::default(), arrived: Notify::new(), most_records, most_bytes, wake, client }
    }

    /// How many records may be put in now. After a zero, the poll thread is woken
    /// when half of the inbox is free.
    pub(crate) fn room(&self) -> usize {
        let mut contents = self.contents();
        let full = contents.bytes >= self.most_bytes || contents.messages.len() >= self.most_records;
        contents.awaited |= full;
        if contents.awaited || contents.closed { 0 } else { self.most_records - contents.messages.len() }
    }

    /// Puts records in.
    pub(crate) fn put(&self, messages: &mut Vec<Message>) {
        let bytes = messages.iter().map(Message::size).sum::<usize>();
        let mut contents = self.contents();
        if contents.closed {
            return;
        }
        contents.bytes += bytes;
        contents.messages.extend(messages.drain(..));
        drop(contents);
        self.arrived.notify_one();
    }

    /// Waits for records and takes what is there, within bounds but at least one;
    /// `None` once closed.
    pub(crate) async fn take(&self, most_records: usize, most_bytes: usize) -> Option<Fetched> {
        loop {
            if let Some(taken) = self.try_take(most_records, most_bytes) {
                return taken;
            }
            // Remembers a notification that came in between.
            self.arrived.notified().await;
        }
    }

    /// The same without waiting: `None` where nothing is there.
    pub(crate) fn try_take(&self, most_records: usize, most_bytes: usize) -> Option<Option<Fetched>> {
        let mut contents = self.contents();
        if contents.closed {
            return Some(None);
        }
        let available = contents.messages.len().min(most_records);
        if available == 0 {
            return None;
        }
        let mut messages = Vec::with_capacity(available);
        let mut bytes = 0;
        while messages.len() < available && (messages.is_empty() || bytes < most_bytes) {
            let Some(message) = contents.messages.pop_front() else { break };
            bytes += message.size();
            messages.push(message);
        }
        contents.bytes -= bytes;
        let has_room =
            contents.messages.len() <= self.most_records / 2 && contents.bytes <= self.most_bytes / 2;
        if contents.awaited && has_room {
            contents.awaited = false;
            self.wake.wake();
        }
        Some(Some(Fetched { messages, client: self.client.clone() }))
    }

    /// Drops what is there and lets no more in: the worker ends.
    pub(crate) fn close(&self) {
        let mut contents = self.contents();
        contents.closed = true;
        let messages = std::mem::take(&mut contents.messages);
        drop(contents);
        drop(messages);
        self.arrived.notify_one();
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::OwnedMessage;

    fn inbox(records: usize, bytes: usize) -> Inbox {
        Inbox::new(records, bytes, Arc::new(Wake::this_thread()), Keepalive::default())
    }

    fn messages(range: std::ops::Range<i64>) -> Vec<Message> {
        let message = |offset| OwnedMessage { offset, payload: Some(vec![0; 10]), ..Default::default() };
        range.map(|offset| Message::Owned(Box::new(message(offset)))).collect()
    }

    fn offsets(fetched: Option<Option<Fetched>>) -> Vec<i64> {
        fetched.unwrap().unwrap().messages.iter().map(Message::offset).collect()
    }

    #[test]
    fn a_run_takes_what_is_there_in_order_within_its_bounds() {
        let inbox = inbox(10, 1000);
        inbox.put(&mut messages(0..5));
        assert_eq!(offsets(inbox.try_take(3, 1000)), [0, 1, 2]);
        assert_eq!(offsets(inbox.try_take(3, 5)), [3], "one record, however large");
        assert_eq!(offsets(inbox.try_take(3, 1000)), [4]);
        assert!(inbox.try_take(3, 1000).is_none());
    }

    #[test]
    fn a_full_inbox_has_room_again_when_half_of_it_is_free() {
        for inbox in [inbox(10, 1000), inbox(1000, 100)] {
            inbox.put(&mut messages(0..10));
            assert_eq!(inbox.room(), 0);
            inbox.try_take(4, 1000);
            assert_eq!(inbox.room(), 0);
            inbox.try_take(1, 1000);
            assert!(inbox.room() >= 5);
        }
    }

    #[test]
    fn a_closed_inbox_gives_nothing_and_takes_nothing() {
        let inbox = inbox(10, 1000);
        inbox.put(&mut messages(0..2));
        inbox.close();
        inbox.put(&mut messages(2..4));
        assert!(inbox.try_take(5, 1000).unwrap().is_none());
        assert_eq!(inbox.room(), 0);
    }
}

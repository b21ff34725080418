//! A queue in memory, for tests.

use super::message::{FetchError, Message, OwnedMessage};
use super::queue::Queue;
use super::read_lock::Reading;
use std::collections::VecDeque;

pub(crate) struct InMemory(pub(crate) VecDeque<OwnedMessage>);

impl Queue for InMemory {
    fn read(
        &mut self,
        _: &Reading<'_>,
        limit: usize,
        messages: &mut Vec<Message>,
        _: &mut Vec<FetchError>,
    ) -> usize {
        let count = limit.min(self.0.len());
        messages.extend(self.0.drain(..count).map(|message| Message::Owned(Box::new(message))));
        count
    }
}

//! What has been done, in this process only.

use super::{Claim, State};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

/// Remembers the last identities in memory.
///
/// For demos, tests, and handlers whose duplicates are cheap: a restart or
/// another instance of the service knows nothing of them.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: usize,
    scopes: AtomicI32,
    done: Mutex<Done>,
}

#[derive(Debug, Default)]
struct Done {
    known: HashMap<(i32, u128), State>,
    oldest_first: VecDeque<(i32, u128)>,
}

impl Memory {
    /// Remembers up to `limit` identities, the oldest forgotten first.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, scopes: AtomicI32::default(), done: Mutex::default() }
    }

    /// Numbers for so many handlers. No other handler gets them, of whatever group:
    /// two that shared one would each miss what the other did.
    pub(crate) fn scopes(&self, handlers: usize) -> Vec<i32> {
        (0..handlers).map(|_| self.scopes.fetch_add(1, Ordering::Relaxed)).collect()
    }

    pub(super) fn seen(&self, scope: i32, claims: &[Claim]) -> Vec<bool> {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let is_done = |claim: &Claim| match done.known.get(&(scope, claim.identity.key)) {
            Some(State::DeadLettered) => !claim.redriven,
            Some(State::Done) => true,
            None => false,
        };
        claims.iter().map(is_done).collect()
    }

    pub(super) fn mark(&self, scope: i32, claims: &[Claim], state: State) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        for claim in claims {
            let entry = (scope, claim.identity.key);
            if done.known.insert(entry, state).is_none() {
                done.oldest_first.push_back(entry);
            }
            if done.oldest_first.len() > self.limit
                && let Some(oldest) = done.oldest_first.pop_front()
            {
                done.known.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::message::{Message, OwnedMessage};
    use crate::record::identity::{Content, IDENTITY_HEADER, IdentitySource, REDRIVEN_HEADER};
    use crate::record::source::Source;
    use crate::{Record, TopicPartition};

    fn claim(offset: i64) -> Claim {
        let message = Message::Owned(Box::new(OwnedMessage { offset, ..Default::default() }));
        let source = Source::new(TopicPartition::new("t", 0), "g".into());
        let record = Record::new(&message, &source, 1);
        Claim::new(IdentitySource::Position.of(record), record)
    }

    #[test]
    fn what_one_handler_has_done_another_has_not() {
        let memory = Memory::new(10);
        let scopes = [memory.scopes(2), memory.scopes(1)].concat();
        memory.mark(scopes[0], &[claim(1), claim(2)], State::Done);
        let claims = [claim(1), claim(2), claim(3)];
        assert_eq!(memory.seen(scopes[0], &claims), [true, true, false]);
        assert_eq!(memory.seen(scopes[1], &claims), [false; 3]);
        assert_eq!(memory.seen(scopes[2], &claims), [false; 3]);
    }

    #[test]
    fn what_is_a_dead_letter_is_a_duplicate_unless_it_was_sent_back() {
        let memory = Memory::new(10);
        let (letter, done) = (claim(1), claim(2));
        memory.mark(0, &[letter], State::DeadLettered);
        memory.mark(0, &[done], State::Done);
        let back = |claim| Claim { redriven: true, ..claim };
        assert_eq!(memory.seen(0, &[letter, back(letter), done, back(done)]), [true, false, true, true]);
        memory.mark(0, &[letter], State::Done);
        assert_eq!(memory.seen(0, &[back(letter)]), [true]);
    }

    /// A claim of a record with this payload.
    fn sent(offset: i64, payload: &str, headers: &[(&str, &str)]) -> (Claim, String) {
        let message = Message::Owned(Box::new(OwnedMessage {
            offset,
            payload: Some(payload.into()),
            headers: headers.iter().map(|(name, value)| ((*name).into(), Some((*value).into()))).collect(),
            ..Default::default()
        }));
        let source = Source::new(TopicPartition::new("t", 0), "g".into());
        let record = Record::new(&message, &source, 1);
        let identity = IdentitySource::CloudEvents.of(record);
        (Claim::new(identity, record), identity.to_header(Content::of(record)))
    }

    #[test]
    fn a_mended_letter_is_handled_once_in_place_of_the_letter_if_it_declares_its_identity() {
        let memory = Memory::new(10);
        let declared = [("ce_source", "/s"), ("ce_id", "1")];
        let (letter, carried) = sent(1, "bad", &declared);
        memory.mark(0, &[letter], State::DeadLettered);
        let carried = [(IDENTITY_HEADER, &*carried), (REDRIVEN_HEADER, "now")];
        let back = |offset, payload| sent(offset, payload, &[&declared[..], &carried].concat()).0;
        assert_eq!(memory.seen(0, &[letter, back(5, "mended")]), [true, false]);
        memory.mark(0, &[back(5, "mended")], State::Done);
        assert_eq!(
            memory.seen(0, &[back(6, "mended"), back(7, "mended again"), back(8, "bad"), letter]),
            [true; 4]
        );
    }

    #[test]
    fn a_mended_letter_that_declares_nothing_is_an_event_of_its_own_and_the_letter_stays() {
        let memory = Memory::new(10);
        let (letter, carried) = sent(1, "bad", &[]);
        memory.mark(0, &[letter], State::DeadLettered);
        let back =
            |offset, payload| sent(offset, payload, &[(IDENTITY_HEADER, &carried), (REDRIVEN_HEADER, "")]).0;
        memory.mark(0, &[back(5, "mended")], State::Done);
        let claims = [back(5, "mended"), back(6, "mended"), back(7, "bad"), letter];
        assert_eq!(memory.seen(0, &claims), [true, false, false, true]);
        memory.mark(0, &[back(7, "bad")], State::Done);
        assert_eq!(memory.seen(0, &[back(8, "bad"), letter]), [true; 2]);
    }

    #[test]
    fn the_oldest_are_forgotten_once_there_are_too_many() {
        let memory = Memory::new(2);
        memory.mark(0, &[claim(1), claim(2), claim(1)], State::Done);
        assert_eq!(memory.seen(0, &[claim(1), claim(2)]), [true, true]);
        memory.mark(0, &[claim(3)], State::Done);
        assert_eq!(memory.seen(0, &[claim(1), claim(2), claim(3)]), [false, true, true]);
    }
}

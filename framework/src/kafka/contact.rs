//! Notices a silent broker by probes: a frozen one raises no event.

use crate::base::backoff::Backoff;
use crate::base::sync::lock;
use crate::error::trouble::Rarely;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// When the broker was heard last, and whether it is asked just now.
#[derive(Debug)]
pub(crate) struct Contact(Mutex<State>);

#[derive(Debug)]
struct State {
    heard: Instant,
    asking: bool,
    ask_at: Instant,
    backoff: Backoff,
    /// It was asked and did not answer.
    silent_since: Option<Instant>,
    rarely: Rarely,
}

/// An idle partition brings nothing for long; then the broker is asked for something.
const ASKED_AFTER: Duration = Duration::from_secs(5);
/// How long it has for its answer.
pub(crate) const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

impl Default for Contact {
    fn default() -> Self {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let (heard, ask_at) = (Instant::now(), Instant::now() + ASKED_AFTER);
        Self(Mutex::new(State {
            heard,
            asking: false,
            ask_at,
            backoff,
            silent_since: None,
            rarely: Rarely::default(),
        }))
    }
}

impl Contact {
    /// Notes that the broker has sent something.
    pub(crate) fn heard(&self) {
        let mut state = self.lock();
        state.heard = Instant::now();
        state.ask_at = state.heard + ASKED_AFTER;
        if let Some(since) = state.silent_since.take() {
            state.backoff.reset();
            state.rarely = Rarely::default();
            tracing::info!(silent_for = ?since.elapsed(), "Kafka answers again");
        }
    }

    /// Whether it is time to ask it. Who gets a yes has to tell what came of it.
    pub(crate) fn is_to_be_asked(&self) -> bool {
        let mut state = self.lock();
        let is_time = !state.asking && state.ask_at <= Instant::now();
        state.asking |= is_time;
        is_time
    }

    /// Notes what came of asking. An answer that is an error is an answer: of a topic that is being
    /// deleted, say, or one that this user may not see.
    pub(crate) fn asked(&self, answer: Result<(), KafkaError>) {
        self.lock().asking = false;
        let Some(error) = answer.err().filter(is_no_answer) else { return self.heard() };
        let mut state = self.lock();
        let delay = state.backoff.delay();
        state.ask_at = Instant::now() + delay;
        if state.silent_since.is_none() {
            state.silent_since = Some(state.heard);
        }
        if let Some(times) = state.rarely.count() {
            tracing::warn!(%error, times, unheard_for = ?state.heard.elapsed(), "Kafka does not answer; asking again");
        }
    }

    /// Since when it has not answered, if it was asked.
    pub(crate) fn silent_since(&self) -> Option<Instant> {
        self.lock().silent_since
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

/// Whether nobody has answered: the connection is not there, or the time is up.
fn is_no_answer(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    let of_nobody = [
        Code::BrokerTransportFailure,
        Code::AllBrokersDown,
        Code::Resolve,
        Code::SSL,
        Code::Authentication,
        Code::OperationTimedOut,
        Code::TimedOutQueue,
        Code::MessageTimedOut,
    ];
    code.is_none_or(|code| of_nobody.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_does_not_answer_is_silent_until_it_is_heard() {
        let contact = Contact::default();
        assert!(!contact.is_to_be_asked(), "it was heard just now");
        contact.lock().ask_at = Instant::now();
        assert!(contact.is_to_be_asked() && !contact.is_to_be_asked(), "by one at a time");
        contact.asked(Err(KafkaError::MetadataFetch(Code::OperationTimedOut)));
        assert!(contact.silent_since().is_some());
        contact.lock().ask_at = Instant::now();
        assert!(contact.is_to_be_asked());
        contact.asked(Ok(()));
        assert_eq!(contact.silent_since(), None);
    }

    #[test]
    fn a_broker_that_answers_with_an_error_has_answered() {
        for code in [Code::UnknownTopicOrPartition, Code::UnknownPartition, Code::TopicAuthorizationFailed] {
            let contact = Contact::default();
            contact.asked(Err(KafkaError::MetadataFetch(code)));
            assert_eq!(contact.silent_since(), None, "{code:?}");
        }
    }
}

//! The reasons why work does not go on: each is logged once and then counted, and shown by
//! [`App::health`](crate::App::health) as long as it lasts.

use super::BoxError;
use super::text::in_one_line;
use crate::base::sync::lock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Why a record cannot be handled now, through no fault of its own. No attempt is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// It ends by itself: another owner has the record in progress, or may still write.
    Passing,
    /// A server is away, for every instance alike. Ready, but degraded: an orchestrator that took
    /// all instances away would mend nothing.
    Outage,
    /// This process or its settings: a login, a permission, a topic that is missing. Not ready.
    Setup,
}

/// An error of Onceward's own work, also where it comes through a handler's hands: no record's
/// fault, so no attempt is charged.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(crate) struct Held {
    pub(crate) cause: Cause,
    pub(crate) source: BoxError,
}

impl Held {
    /// The error's text, with its sources.
    pub(crate) fn text(&self) -> String {
        in_one_line(&*self.source).to_string()
    }
}

/// How often a trouble that lasts is logged again.
const LOGGED_EVERY: Duration = Duration::from_secs(30);

/// Decides which occurrences of a repeated event to log: the first, then at most one in 30 s,
/// with the number of occurrences.
#[derive(Debug, Default)]
pub(crate) struct Rarely {
    logged: Option<Instant>,
    since_then: u64,
}

impl Rarely {
    /// Counts an occurrence. Gives how many there were since the last that was logged, this one
    /// included, if it is to be logged.
    pub(crate) fn count(&mut self) -> Option<u64> {
        self.count_at(Instant::now())
    }

    fn count_at(&mut self, now: Instant) -> Option<u64> {
        self.since_then += 1;
        let is_due = self.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= LOGGED_EVERY);
        is_due.then(|| {
            self.logged = Some(now);
            std::mem::take(&mut self.since_then)
        })
    }
}

/// The troubles of one partition, or of one group.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// So that work that goes well takes no lock.
    any: AtomicBool,
    /// Keys of one partition may wait for different things. Newest last.
    current: Mutex<Vec<Trouble>>,
}

/// A trouble, and since when it lasts.
#[derive(Debug)]
struct Trouble {
    cause: Cause,
    sentence: String,
    since: Instant,
    rarely: Rarely,
}

/// So many troubles are told apart; of more, the oldest are forgotten.
const MOST: usize = 8;

impl Troubles {
    /// Notes a trouble, or that it is still there. Gives how often it came since it was last to be
    /// logged, if it is to be logged now. Another sentence is another trouble.
    pub(crate) fn raise(&self, cause: Cause, sentence: String) -> Option<u64> {
        let mut current = lock(&self.current);
        self.any.store(true, Ordering::Relaxed);
        let place = current.iter().position(|trouble| trouble.sentence == sentence);
        let place = place.unwrap_or_else(|| {
            if current.len() == MOST {
                current.remove(0);
            }
            current.push(Trouble { cause, sentence, since: Instant::now(), rarely: Rarely::default() });
            current.len() - 1
        });
        current[place].cause = cause;
        current[place].rarely.count()
    }

    /// Notes that all of it is over. Gives for how long it lasted, if there was any.
    pub(crate) fn clear(&self) -> Option<Duration> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let mut current = lock(&self.current);
        self.any.store(false, Ordering::Relaxed);
        current.drain(..).map(|trouble| trouble.since.elapsed()).max()
    }

    /// The current trouble, the worst and newest of several, and how long it has lasted.
    pub(crate) fn current(&self) -> Option<(Cause, String, Duration)> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let current = lock(&self.current);
        let worst = current.iter().max_by_key(|trouble| trouble.cause)?;
        Some((worst.cause, worst.sentence.clone(), worst.since.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_a_record_is_not_said_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("inner")]
        struct Inner;
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("no answer: {0}")]
        struct Repeats(#[source] Outer);
        let held = |source: BoxError| Held { cause: Cause::Outage, source }.text();
        assert_eq!(held(Repeats(Outer(Inner)).into()), "no answer: outer: inner");
        assert_eq!(held(Held { cause: Cause::Outage, source: Outer(Inner).into() }.into()), "outer: inner");
    }

    #[test]
    fn a_repeated_event_is_logged_once_and_then_counted() {
        let (mut rarely, start) = (Rarely::default(), Instant::now());
        assert_eq!(rarely.count_at(start), Some(1));
        for second in 1..30 {
            assert_eq!(rarely.count_at(start + Duration::from_secs(second)), None);
        }
        assert_eq!(rarely.count_at(start + LOGGED_EVERY), Some(30));
    }

    #[test]
    fn a_trouble_is_shown_until_it_is_over() {
        let troubles = Troubles::default();
        assert!(troubles.current().is_none() && troubles.clear().is_none());
        assert_eq!(troubles.raise(Cause::Outage, "away".to_owned()), Some(1));
        assert_eq!(troubles.raise(Cause::Outage, "away".to_owned()), None);
        assert_eq!(troubles.raise(Cause::Setup, "forbidden".to_owned()), Some(1), "another one");
        let (cause, sentence, _) = troubles.current().unwrap();
        assert_eq!((cause, &*sentence), (Cause::Setup, "forbidden"));
        assert!(troubles.clear().is_some());
        assert!(troubles.current().is_none());
    }

    #[test]
    fn troubles_that_come_in_turn_are_each_logged_once_and_the_worst_is_shown() {
        let troubles = Troubles::default();
        let raise = |cause, sentence: &str| troubles.raise(cause, sentence.to_owned()).is_some();
        assert!(raise(Cause::Setup, "forbidden") && raise(Cause::Outage, "away"));
        assert!(!raise(Cause::Setup, "forbidden") && !raise(Cause::Outage, "away"));
        assert_eq!(troubles.current().unwrap().0, Cause::Setup);
        for other in 0..100 {
            raise(Cause::Passing, &other.to_string());
        }
        assert_eq!(troubles.current().unwrap().1, "99", "the newest");
        assert_eq!(lock(&troubles.current).len(), MOST);
    }
}

//! The dead letters of one assigned partition that are there already, as far as they were looked for; see
//! `failure/dead_letter/written.rs`.

use crate::kafka::look::Look;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// The dead letters of one assigned partition that are there already, of each
/// topic that was looked into.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) looked_into: Mutex<HashMap<String, LookedInto>>,
    /// Until then an owner before may still write.
    settled: Option<Instant>,
    is_told: AtomicBool,
    sends: Arc<Sends>,
}

/// The copies of this assignment that are on their way to dead-letter topics.
#[derive(Debug, Default)]
struct Sends {
    under_way: AtomicUsize,
    /// One ended without an acknowledgement. The broker may have it, or get it.
    in_doubt: AtomicBool,
}

/// A copy that is under way, until this is dropped.
#[derive(Debug)]
pub(crate) struct Sending(Arc<Sends>, bool);

impl Sending {
    /// The broker has it.
    pub(crate) fn acknowledged(mut self) {
        self.1 = true;
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.1 {
            self.0.in_doubt.store(true, Ordering::Release);
        }
        self.0.under_way.fetch_sub(1, Ordering::Release);
    }
}

/// One dead-letter topic.
#[derive(Debug, Default)]
pub(crate) struct LookedInto {
    /// Shared with a read that goes on although nobody waits for it any more.
    pub(crate) letters: Arc<std::sync::Mutex<Letters>>,
    /// All was read that was there when nothing was under way.
    pub(crate) is_complete: bool,
    /// The lowest offset among the records for which it was read. Whatever was copied of those behind it
    /// was copied later than it was written.
    pub(crate) from: Option<i64>,
}

/// The letters of one partition in one dead-letter topic.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    pub(crate) look: Look,
    pub(crate) originals: HashSet<Original>,
}

/// What tells one original from another: handler, offset and timestamp.
pub(crate) type Original = (String, i64, Option<i64>);

impl Written {
    /// Of a partition whose owner before may still write, until then.
    pub(crate) fn settled_at(time: Instant) -> Self {
        Self { settled: Some(time), ..Self::default() }
    }

    /// How long to wait before the first letter.
    pub(crate) fn unsettled_for(&self) -> Option<Duration> {
        self.settled?.checked_duration_since(Instant::now())
    }

    /// Whether it is the first time that a letter waits for that.
    pub(crate) fn is_first_to_wait(&self) -> bool {
        !self.is_told.swap(true, Ordering::Relaxed)
    }

    /// Notes that a copy is sent.
    pub(crate) fn sending(&self) -> Sending {
        self.sends.under_way.fetch_add(1, Ordering::Relaxed);
        Sending(self.sends.clone(), false)
    }

    /// Whether no copy is under way or in doubt, neither of this owner nor of one before.
    pub(crate) fn is_over(&self) -> bool {
        self.sends.under_way.load(Ordering::Acquire) == 0
            && !self.sends.in_doubt.load(Ordering::Acquire)
            && self.unsettled_for().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_left_when_all_its_copies_are_acknowledged() {
        let written = Written::default();
        assert!(written.is_over());
        let sending = written.sending();
        assert!(!written.is_over(), "it is under way");
        sending.acknowledged();
        assert!(written.is_over());
        drop(written.sending());
        assert!(!written.is_over(), "the broker may have it, or get it");
        let after_another = Written::settled_at(Instant::now() + Duration::from_secs(60));
        assert!(!after_another.is_over(), "the owner before may still write");
    }
}

//! The dead letters of one assigned partition that are there already, as far as they were looked for; see
//! `failure/dead_letter/written.rs`.

use crate::kafka::look::Look;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// The dead letters of one assigned partition that are there already, of each
/// topic that was looked into.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) looked_into: Mutex<HashMap<String, LookedInto>>,
    /// Until then an owner before may still write.
    settled: Option<Instant>,
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
}

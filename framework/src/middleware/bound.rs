//! What a list of middleware works with.

use crate::Record;
use crate::dedupe::Dedupe;
use crate::error::panic::without_panic;
use crate::extract::Context;
use crate::failure::dead_letter::RouteLetters;
use crate::failure::policy::FailurePolicy;
use crate::failure::trials::Trials;
use crate::publish::Publishing;
use crate::record::identity::{Identity, IdentitySource};
use crate::telemetry::left_out::LeftOut;
use crate::telemetry::metrics::Counts;
use crate::telemetry::trace::Spans;
use std::sync::Arc;
use std::time::Duration;

/// The parts of a route at run time, besides its stack.
#[derive(Debug)]
pub struct Parts<H> {
    pub(crate) handler: H,
    pub(crate) bound: Bound,
}

/// What the application gives a route when it starts.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) context: Arc<Context>,
    pub(crate) dedupe: Dedupe,
    pub(crate) identity: IdentitySource,
    /// Consumer group and handler, by number.
    pub(crate) scope: i32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) group: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) failure: FailurePolicy,
    /// Whether `Retry` is in its list.
    pub(crate) retries: bool,
    /// This handler's alone.
    pub(crate) trials: Arc<Trials>,
    #[cfg(feature = "postgres")]
    pub(crate) savepoints: Arc<super::Savepoints>,
    #[cfg(feature = "postgres")]
    pub(crate) alone: Arc<super::Alone>,
    /// `None` where records that were given up hold their partition.
    pub(crate) letters: Option<RouteLetters>,
    pub(crate) publishing: Arc<Publishing>,
    pub(crate) counts: Counts,
    pub(crate) left_out: Arc<LeftOut>,
    pub(crate) spans: Spans,
}

impl Bound {
    /// A record's identity, also where the function that finds it out is what fails.
    pub(crate) fn identity_of(&self, record: Record<'_>) -> Identity {
        without_panic("the identity's function", || self.identity.of(record))
            .unwrap_or_else(|_| IdentitySource::Position.of(record))
    }
}

//! Why a record was given up, and what comes next for one that failed.

use std::time::Duration;

/// Why a record failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Its bytes do not decode, or lack a value that the handler takes.
    Rejected,
    /// The handler returned a permanent error.
    Permanent,
    /// It was tried `max_attempts` times.
    MaxAttempts,
    /// `max_elapsed` has passed since its first failure.
    MaxElapsed,
    /// A policy for its error type.
    Policy,
    /// No handler takes its event type.
    Unmatched,
    /// The process ended `max_starts` times while it was tried.
    MaxStarts,
    /// A record published because of it would have passed `max_hops`.
    MaxHops,
}

impl Reason {
    /// The reason's name in headers, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Permanent => "permanent",
            Self::MaxAttempts => "max_attempts",
            Self::MaxElapsed => "max_elapsed",
            Self::Policy => "policy",
            Self::Unmatched => "unmatched",
            Self::MaxStarts => "max_starts",
            Self::MaxHops => "max_hops",
        }
    }
}

/// A record that was given up, and why.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GivenUp {
    pub(crate) reason: Reason,
    /// How many attempts at it have failed.
    pub(crate) attempts: u32,
    /// When the first one failed, in milliseconds since the epoch.
    pub(crate) first_failure: u128,
}

/// What the middleware has decided of a record that failed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Decision {
    /// It is tried again after this delay.
    Again(Duration),
    /// It is not to be tried again.
    GiveUp(GivenUp),
    /// The same, and it goes to the dead-letter topic, in a run of its own: others do not wait for
    /// that, and its handler is not called again.
    PutAway(GivenUp),
}

//! Why a record failed.

use super::BoxError;
#[cfg(feature = "schemas")]
use super::lookup::{Lookup, Wanted};
use super::reason::{Decision, GivenUp, Reason};
use super::text::in_one_line;
use super::trouble::{Cause, Held};
use crate::base::backoff::LONGEST;
use std::any::type_name;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The result of a handler. Its error says whether a retry can help.
pub type HandlerResult<T = ()> = Result<T, HandlerError>;

/// Why a record failed.
///
/// `?` converts any error to a retryable one. [`permanent`](Self::permanent) marks an error
/// that a retry cannot help. This type deliberately does not implement `std::error::Error`, so
/// that `?` works on every type that does.
pub struct HandlerError(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    permanent: bool,
    retry_after: Option<Duration>,
    /// The name of the error's type.
    class: &'static str,
    /// Why it is permanent, where it is not the handler that says so.
    reason: Option<Reason>,
    next: Option<Decision>,
    /// Its copy is in the dead-letter topic.
    copied: AtomicBool,
    /// The schema that it was to be decoded by.
    #[cfg(feature = "schemas")]
    schema: Option<Wanted>,
    source: BoxError,
}

/// How a record failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The handler returned an error.
    Returned,
    /// The handler panicked.
    Panicked,
    /// The handler ran longer than its timeout.
    TimedOut,
    /// The record could not be decoded, or lacks a value that an extractor needs.
    Rejected,
}

impl HandlerError {
    /// Makes a retryable error from another error or a text.
    pub fn new<E: Into<BoxError>>(source: E) -> Self {
        Self::of_kind(ErrorKind::Returned, source)
    }

    pub(crate) fn of_kind<E: Into<BoxError>>(kind: ErrorKind, source: E) -> Self {
        let class = match kind {
            ErrorKind::Returned => type_name::<E>(),
            ErrorKind::Panicked => "onceward::Panicked",
            ErrorKind::TimedOut => "onceward::TimedOut",
            ErrorKind::Rejected => "onceward::Rejected",
        };
        Self(Box::new(Inner {
            kind,
            permanent: kind == ErrorKind::Rejected,
            retry_after: None,
            class,
            reason: None,
            next: None,
            copied: AtomicBool::new(false),
            #[cfg(feature = "schemas")]
            schema: None,
            source: source.into(),
        }))
    }

    /// The same, of a record that names this schema.
    #[cfg(feature = "schemas")]
    pub(crate) fn by_schema(mut self, wanted: Wanted) -> Self {
        self.0.schema = Some(wanted);
        self
    }

    /// The look-up that is needed before the record can be decoded.
    #[cfg(feature = "schemas")]
    pub(crate) fn needed_lookup(&self) -> Option<&Lookup> {
        match self.0.schema.as_ref()? {
            Wanted::Lookup(lookup) => Some(lookup),
            Wanted::By { .. } => None,
        }
    }

    /// The schema that the record names, where that is what it was rejected by, and its subject
    /// if that is known.
    pub(crate) fn schema(&self) -> Option<(String, Option<std::sync::Arc<str>>)> {
        #[cfg(feature = "schemas")]
        if let Some(Wanted::By { id, subject }) = &self.0.schema {
            return Some((id.to_string(), subject.clone()));
        }
        None
    }

    /// Onceward's own work cannot go on: no record's fault.
    pub(crate) fn held(cause: Cause, error: impl Into<BoxError>) -> Self {
        Self::new(Held { cause, source: error.into() })
    }

    /// Kafka or the schema registry cannot be reached or cannot work: no record's fault.
    pub(crate) fn outage(error: impl Into<BoxError>) -> Self {
        Self::held(Cause::Outage, error)
    }

    /// Returns the failure of Onceward's own work, if it is one.
    pub(crate) fn into_held(self) -> Result<Held, Self> {
        let Self(inner) = self;
        match inner.source.downcast::<Held>() {
            Ok(held) => Ok(*held),
            Err(source) => Err(Self(Box::new(Inner { source, ..*inner }))),
        }
    }

    /// The same failure, by an error that says more and has the one so far as its source.
    #[cfg(feature = "postgres")]
    pub(crate) fn explained<E: Into<BoxError>>(self, explain: impl FnOnce(BoxError) -> E) -> Self {
        let Self(inner) = self;
        Self(Box::new(Inner { source: explain(inner.source).into(), ..*inner }))
    }

    /// Permanent, for a reason of Onceward's own.
    pub(crate) fn because(mut self, reason: Reason) -> Self {
        (self.0.permanent, self.0.reason) = (true, Some(reason));
        self
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        self.0.reason
    }

    /// Notes what has been decided.
    pub(crate) fn decide(&mut self, next: Decision) {
        self.0.next = Some(next);
    }

    pub(crate) fn decided(&self) -> Option<Decision> {
        self.0.next
    }

    pub(crate) fn given_up(&self) -> Option<GivenUp> {
        match self.0.next {
            Some(Decision::GiveUp(given_up) | Decision::PutAway(given_up)) => Some(given_up),
            _ => None,
        }
    }

    /// Whether what is left to do of the record is its dead letter.
    pub(crate) fn is_to_be_put_away(&self) -> bool {
        matches!(self.0.next, Some(Decision::PutAway(_)))
    }

    /// Whether its copy is in the dead-letter topic.
    pub(crate) fn is_copied(&self) -> bool {
        self.0.copied.load(Ordering::Relaxed)
    }

    /// Notes that its copy is there, so that no second one is made.
    pub(crate) fn note_copied(&self) {
        self.0.copied.store(true, Ordering::Relaxed);
    }

    /// The failure of Onceward's own work, if it is one and not the record's.
    pub(crate) fn held_by(&self) -> Option<&Held> {
        self.0.source.downcast_ref()
    }

    /// The name of the error's type, as in the header of a dead letter.
    pub fn class(&self) -> &'static str {
        self.0.class
    }

    /// Marks the error as permanent: a retry cannot help.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.0.permanent = true;
        self
    }

    /// Sets the delay before the next attempt, instead of the backoff. A delay of more than a
    /// day is one day.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay.min(LONGEST));
        self
    }

    /// Whether the error is permanent: a retry cannot help.
    pub fn is_permanent(&self) -> bool {
        self.0.permanent
    }

    /// How the record failed.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The delay set by [`retry_after`](Self::retry_after).
    pub fn delay(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The error itself, to downcast.
    pub fn source(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.0.source
    }
}

impl<E: Into<BoxError>> From<E> for HandlerError {
    fn from(source: E) -> Self {
        Self::new(source)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", in_one_line(self.source()))
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError")
            .field("kind", &self.0.kind)
            .field("permanent", &self.0.permanent)
            .field("source", &self.0.source)
            .finish()
    }
}

/// `.permanent()` and `.retry_after(d)` on a `Result`, before the `?`.
///
/// ```
/// use onceward::prelude::*;
///
/// fn parse(text: &str) -> HandlerResult<u32> {
///     Ok(text.parse::<u32>().permanent()?)
/// }
/// assert!(parse("x").unwrap_err().is_permanent());
/// ```
pub trait ResultExt<T> {
    /// Marks the error as permanent: a retry cannot help.
    ///
    /// # Errors
    /// Returns the error it was called on, marked.
    fn permanent(self) -> HandlerResult<T>;

    /// Sets the delay before the next attempt, instead of the backoff.
    ///
    /// # Errors
    /// Returns the error it was called on, marked.
    fn retry_after(self, delay: Duration) -> HandlerResult<T>;
}

impl<T, E: Into<HandlerError>> ResultExt<T> for Result<T, E> {
    fn permanent(self) -> HandlerResult<T> {
        self.map_err(|error| error.into().permanent())
    }

    fn retry_after(self, delay: Duration) -> HandlerResult<T> {
        self.map_err(|error| error.into().retry_after(delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_permanent_and_any_other_error_is_not() {
        assert!(HandlerError::of_kind(ErrorKind::Rejected, "x").is_permanent());
        assert!(!HandlerError::new("x").is_permanent());
    }
}

//! Why the application stopped, and why a record failed.

pub(crate) mod trouble;

use crate::base::backoff::LONGEST;
use crate::error::trouble::Cause;
use crate::failure::policy::{GivenUp, Held, Reason};
#[cfg(feature = "schemas")]
use crate::schemas::{Lookup, Wanted};
use std::any::type_name;
use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Any error, boxed.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why the application did not start or had to stop.
///
/// Each message says in one sentence what is wrong and names the setting. The source, if there
/// is one, says why. `Debug` prints both, so a `main` that returns it ends with a readable
/// line.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is missing, unknown or impossible.
    ///
    /// The value itself is left out: it may be a secret.
    #[error("setting `{setting}`{}: {problem}", in_brackets(.origin))]
    Config {
        /// The setting, by the name it has in a file or on the builder.
        setting: Cow<'static, str>,
        /// What is wrong, and how to fix it.
        problem: String,
        /// The environment variable, or the line of the file, where it was set; `None` if code
        /// sets it.
        origin: Option<String>,
    },
    /// A handler cannot run as it is set up.
    #[error("handler `{handler}`: {problem}")]
    Handler {
        /// The handler's name.
        handler: String,
        /// What is wrong, and how to fix it.
        problem: String,
    },
    /// A topic that a handler reads cannot be read.
    #[error("topic `{topic}`: {problem}")]
    Topic {
        /// The topic.
        topic: String,
        /// What is wrong, and how to fix it.
        problem: String,
    },
    /// The Kafka client failed for good.
    #[error("cannot {action} (setting `brokers` = {brokers})")]
    Kafka {
        /// The action that failed.
        action: String,
        /// The brokers, as they are set.
        brokers: String,
        /// The client's error.
        source: rdkafka::error::KafkaError,
    },
    /// The dedupe table could not be used at startup.
    #[error("cannot {action} (setting `database_url`)")]
    Store {
        /// The action that failed.
        action: String,
        /// The database's error.
        source: BoxError,
    },
    /// The schema registry cannot be reached.
    #[error("cannot {action} (setting `schema_registry`)")]
    Registry {
        /// The action that failed.
        action: String,
        /// Why it failed.
        source: BoxError,
    },
    /// A record arrived that no handler takes, and the topic's policy is to stop.
    #[error(
        "no handler of group `{group}` takes the record at {topic}/{partition}/{offset} (event type {event}); \
         add a handler for it, or set `unmatched` of the topic to `skip`"
    )]
    Unmatched {
        /// The consumer group.
        group: String,
        /// The record's topic.
        topic: String,
        /// The record's partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// The record's event type.
        event: String,
    },
    /// Work did not finish within the shutdown deadline. It was not committed
    /// and is delivered again to the next owner.
    #[error(
        "{partitions} partition(s) had work left at the shutdown deadline of {deadline:?} (setting `shutdown_deadline`)"
    )]
    Unfinished {
        /// How many partitions were abandoned.
        partitions: usize,
        /// The deadline.
        deadline: Duration,
    },
    /// A hook or a thread of the application failed.
    #[error("{what} failed")]
    Internal {
        /// The part that failed.
        what: String,
        /// Why.
        source: BoxError,
    },
}

impl Error {
    pub(crate) fn config(setting: impl Into<Cow<'static, str>>, problem: impl Into<String>) -> Self {
        Self::Config { setting: setting.into(), problem: problem.into(), origin: None }
    }

    /// Adds the place where the wrong setting was set.
    pub(crate) fn at(mut self, place: &impl fmt::Display) -> Self {
        if let Self::Config { origin, .. } = &mut self {
            origin.get_or_insert_with(|| place.to_string());
        }
        self
    }

    pub(crate) fn handler(handler: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Handler { handler: handler.into(), problem: problem.into() }
    }
}

fn in_brackets(origin: &Option<String>) -> String {
    origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default()
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", in_one_line(self))
    }
}

/// An error with why it came about, and why that did, in one line.
pub(crate) fn in_one_line<'e>(error: &'e (dyn std::error::Error + 'static)) -> impl fmt::Display + 'e {
    OneLine(error)
}

struct OneLine<'e>(&'e (dyn std::error::Error + 'static));

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        for error in chain(self.0).skip(1) {
            let text = error.to_string();
            // Many errors, sqlx's among them, say what their source says.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
        }
        Ok(())
    }
}

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

/// An error and what caused it, outermost first. Bounded: an error may name itself as its cause.
pub(crate) fn chain<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    const DEEPEST: usize = 64;
    std::iter::successors(Some(error), |error| error.source()).take(DEEPEST)
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
    fn debug_of_an_error_is_one_line_with_its_source() {
        let error = Error::Store {
            action: "read the dedupe table".into(),
            source: "no such host".to_string().into(),
        };
        assert_eq!(
            format!("{error:?}"),
            "cannot read the dedupe table (setting `database_url`): no such host"
        );
    }

    #[derive(Debug, thiserror::Error)]
    #[error("error returned from database: {0}")]
    struct Repeats(#[source] BoxError);

    #[test]
    fn what_an_error_says_of_its_source_is_not_said_again() {
        let repeats = || Repeats("relation \"t\" does not exist".into());
        let right = "error returned from database: relation \"t\" does not exist";
        assert_eq!(in_one_line(&repeats()).to_string(), right);
        assert_eq!(HandlerError::new(repeats()).to_string(), right);
        let error = Error::Store { action: "begin".into(), source: repeats().into() };
        assert_eq!(format!("{error:?}"), format!("cannot begin (setting `database_url`): {right}"));
    }

    #[test]
    fn an_error_that_is_its_own_cause_has_a_text() {
        #[derive(Debug)]
        struct Circle;
        impl fmt::Display for Circle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("round")
            }
        }
        impl std::error::Error for Circle {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&Circle)
            }
        }
        assert_eq!(HandlerError::new(Circle).to_string(), "round");
    }

    #[test]
    fn a_rejection_is_permanent_and_any_other_error_is_not() {
        assert!(HandlerError::of_kind(ErrorKind::Rejected, "x").is_permanent());
        assert!(!HandlerError::new("x").is_permanent());
    }
}

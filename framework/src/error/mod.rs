//! Why the application stopped, and why a record failed.

mod handler_error;
pub(crate) mod lookup;
pub(crate) mod panic;
pub(crate) mod reason;
pub(crate) mod text;
pub(crate) mod trouble;

pub use handler_error::{ErrorKind, HandlerError, HandlerResult, ResultExt};

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;
use text::in_one_line;

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
        source: BoxError,
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

    pub(crate) fn kafka(action: impl Into<String>, brokers: &str, source: impl Into<BoxError>) -> Self {
        Self::Kafka { action: action.into(), brokers: brokers.to_owned(), source: source.into() }
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
}

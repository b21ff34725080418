//! What an error of PostgreSQL means for the records of a run.
//!
//! Only errors of Onceward's own connections are looked up here. What the table
//! does not know is an ordinary failure, never an outage.

use super::StoreError;
use crate::error::chain;
use crate::outage;
use sqlx::Error;
use std::error::Error as StdError;

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let Error::Database(database) = &error else {
            return match error {
                Error::Io(_) | Error::Tls(_) | Error::WorkerCrashed => Self::Outage(error.into()),
                _ => Self::Other(error.into()),
            };
        };
        match database.code().as_deref().unwrap_or_default() {
            // deadlock_detected, serialization_failure
            "40P01" | "40001" => Self::Conflict,
            // lock_not_available: lock_timeout ended the wait for another owner
            "55P03" => Self::InProgress,
            // in_failed_sql_transaction
            "25P02" => Self::Aborted,
            // division_by_zero, which only the last statement of a run makes on our side
            "22012" => Self::NotOurs,
            code if outage::is_postgres(code) => Self::Outage(error.into()),
            _ => Self::Other(error.into()),
        }
    }
}

/// The SQLSTATE somewhere in the chain of a handler's error, if sqlx put one there.
pub(crate) fn code_in(error: &(dyn StdError + 'static)) -> Option<String> {
    let coded = |error: &(dyn StdError + 'static)| match error.downcast_ref::<Error>() {
        Some(Error::Database(database)) => Some(database.code().map(|code| code.into_owned())),
        _ => None,
    };
    chain(error).find_map(coded).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::error::{DatabaseError, ErrorKind};
    use std::borrow::Cow;
    use std::fmt;

    /// An error of the server.
    #[derive(Debug)]
    struct Coded(&'static str);

    impl fmt::Display for Coded {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Coded {}

    impl DatabaseError for Coded {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn coded(code: &'static str) -> Error {
        Error::Database(Box::new(Coded(code)))
    }

    #[derive(Debug, thiserror::Error)]
    #[error("a handler's own")]
    struct Own(#[source] Error);

    #[test]
    fn what_no_record_is_to_blame_for_is_told_from_what_one_is() {
        let of = |code| StoreError::from(coded(code));
        assert!(["40P01", "40001"].into_iter().all(|code| matches!(of(code), StoreError::Conflict)));
        assert!(matches!(of("55P03"), StoreError::InProgress));
        assert!(matches!(of("25P02"), StoreError::Aborted));
        assert!(matches!(of("22012"), StoreError::NotOurs));
        assert!(
            ["57P01", "08006", "53300"].into_iter().all(|code| matches!(of(code), StoreError::Outage(_)))
        );
        assert!(["23505", "42P01", ""].into_iter().all(|code| matches!(of(code), StoreError::Other(_))));
        let broken = [Error::Io(std::io::ErrorKind::BrokenPipe.into()), Error::WorkerCrashed];
        assert!(broken.into_iter().all(|error| matches!(error.into(), StoreError::Outage(_))));
        assert!(matches!(Error::RowNotFound.into(), StoreError::Other(_)));
    }

    #[test]
    fn a_code_is_found_wherever_it_stands_in_the_chain() {
        assert_eq!(code_in(&coded("23505")).as_deref(), Some("23505"));
        assert_eq!(code_in(&Own(coded("23505"))).as_deref(), Some("23505"));
        assert_eq!(code_in(&Own(Error::RowNotFound)), None);
        assert_eq!(code_in(&fmt::Error), None);
    }
}

//! What an error of PostgreSQL means for the records of a run.
//!
//! Only errors of Onceward's own connections are looked up here. What the table
//! does not know is an ordinary failure, never an outage.

use super::StoreError;
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
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(Error::Database(database)) = error.downcast_ref::<Error>() {
            return database.code().map(|code| code.into_owned());
        }
        next = error.source();
    }
    None
}

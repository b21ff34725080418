//! Whose fault an error of PostgreSQL is, by whose statement raised it; see `kafka/outage.rs` for the rule.

use crate::dedupe::StoreError;
use crate::error::trouble::Cause;
use crate::{BoxError, HandlerError};
use sqlx::Error;
use std::error::Error as StdError;

/// A code and what it means.
type Row = (&'static str, &'static str);

/// SQLSTATEs of Onceward's own statements, or their first two letters for a class, at which a server is
/// away.
const POSTGRES_AWAY: [Row; 14] = [
    ("08", "connection exceptions"),
    ("25006", "read-only: connected to a standby during a failover"),
    ("25P03", "idle_in_transaction_session_timeout"),
    ("25P04", "transaction_timeout"),
    ("40003", "the connection broke before the answer to a COMMIT"),
    ("53", "out of disk, memory or connections"),
    ("57014", "cancelled by somebody"),
    ("57P01", "shutdown"),
    ("57P02", "crash shutdown"),
    ("57P03", "starting up"),
    ("57P05", "idle_session_timeout"),
    ("58", "I/O errors of the server"),
    ("F0", "configuration or lock file errors of the server"),
    ("XX", "internal errors of the server"),
];

/// SQLSTATEs of Onceward's own statements at which somebody has to mend something. All that stand in
/// neither table are of this kind too.
const POSTGRES_SETUP: [Row; 7] = [
    (
        "28",
        "PostgreSQL refuses the login: correct the user and the password in `database_url`, or give the role LOGIN",
    ),
    ("3D", "the database of `database_url` does not exist"),
    ("3F", "a schema of the role's `search_path` does not exist"),
    ("42501", "the role lacks a right: grant it what Onceward's tables need"),
    ("42", "Onceward's tables are not there or not as this version needs them: run `migrate`"),
    ("55000", "the database accepts no connections, or is not ready for the statement"),
    ("57P04", "the database was dropped"),
];

/// What an error of PostgreSQL means that came of Onceward's own work, and what to do.
fn of_postgres(sqlstate: &str) -> (Cause, &'static str) {
    let find = |rows: &[Row]| {
        let whole = rows.iter().find(|(code, _)| *code == sqlstate);
        whole.or_else(|| rows.iter().find(|(code, _)| sqlstate.starts_with(code))).map(|(_, what)| *what)
    };
    match find(&POSTGRES_AWAY) {
        Some(what) => (Cause::Outage, what),
        None => (
            Cause::Setup,
            find(&POSTGRES_SETUP).unwrap_or("PostgreSQL refuses a statement of Onceward's own"),
        ),
    }
}

/// An error of a statement of Onceward's own: before the handler, after it, or without one. It is no
/// record's fault, whatever it is.
impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Database(database) => database.code().unwrap_or_default().into_owned(),
            // Another connection may do better.
            Error::Io(_) | Error::WorkerCrashed | Error::Protocol(_) => return Self::Outage(error.into()),
            _ => return Self::Setup(error.into()),
        };
        match &*code {
            // deadlock_detected, serialization_failure
            "40P01" | "40001" => Self::Conflict,
            // lock_not_available: lock_timeout ended the wait
            "55P03" => Self::InProgress,
            code if is_remembered(code) => Self::Stale(error.into()),
            code => match of_postgres(code) {
                (Cause::Outage | Cause::Passing, _) => Self::Outage(error.into()),
                (Cause::Setup, what) => Self::Setup(ToMend { what, source: error }.into()),
            },
        }
    }
}

/// Something that has to be mended.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct ToMend {
    what: &'static str,
    source: Error,
}

/// Says what an error means at the end of a transaction, or of a part of one, in which handlers have
/// worked. Their statements may have left it aborted, and their constraints and triggers speak only now.
pub(crate) fn at_the_end(error: Error) -> StoreError {
    let code = match &error {
        Error::Database(database) => database.code().unwrap_or_default().into_owned(),
        _ => return error.into(),
    };
    match &*code {
        // in_failed_sql_transaction
        "25P02" => StoreError::Aborted,
        // division_by_zero, which only the last statement of a run makes on our side
        "22012" => StoreError::NotOurs,
        // Only a trigger can wait for a lock here.
        "55P03" => StoreError::Conflict,
        // A trigger can fail by any code; by these the server says that it cannot work.
        code if code.starts_with("XX") => StoreError::Other(error.into()),
        code => match (StoreError::from(error), code) {
            (StoreError::Setup(source) | StoreError::Stale(source), _) => StoreError::Other(bare(source)),
            (other, _) => other,
        },
    }
}

/// Without what is to be mended where it is Onceward's own.
fn bare(source: BoxError) -> BoxError {
    match source.downcast::<ToMend>() {
        Ok(to_mend) => to_mend.source.into(),
        Err(source) => source,
    }
}

/// What the error of a handler's call says of the transaction that it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OfCall {
    /// It met another one: a deadlock, a serialization failure, or a lock that somebody else held for
    /// longer than `lock_timeout`. No record's fault.
    Conflict,
    /// It was aborted before this call.
    FoundAborted,
    /// It may be of what the connection remembers of before. No record's fault where the connection is
    /// an old one.
    Stale,
    /// The server ended it because another process of the server crashed. No record's fault.
    OthersCrash,
    /// Nothing: the failure is of the record. Where the connection broke it is not known whose it is
    /// until it breaks again.
    Failed,
    /// The same, and the error has no SQLSTATE.
    FailedWithoutCode,
}

impl OfCall {
    pub(crate) fn of(error: &HandlerError) -> Self {
        match code_in(error.source()).as_deref() {
            None => Self::FailedWithoutCode,
            Some("40P01" | "40001" | "55P03") => Self::Conflict,
            Some("25P02") => Self::FoundAborted,
            Some("57P02") => Self::OthersCrash,
            Some(code) if is_remembered(code) || is_of_a_catalog(code) => Self::Stale,
            Some(_) => Self::Failed,
        }
    }
}

/// Whether a prepared statement that the connection keeps may be outdated or gone:
/// feature_not_supported ("cached plan must not change result type"), invalid_sql_statement_name,
/// duplicate_prepared_statement.
fn is_remembered(code: &str) -> bool {
    matches!(code, "0A000" | "26000" | "42P05")
}

/// Whether a type or a function may be gone that a kept statement refers to by number: undefined_object,
/// internal_error ("cache lookup failed for type").
fn is_of_a_catalog(code: &str) -> bool {
    matches!(code, "42704" | "XX000")
}

/// The SQLSTATE somewhere in the chain of a handler's error, if sqlx put one there.
fn code_in(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(Error::Database(database)) = error.downcast_ref::<Error>() {
            return database.code().map(|code| code.into_owned());
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::error::{DatabaseError, ErrorKind};
    use std::borrow::Cow;
    use std::fmt;

    /// An error of the server.
    #[test]
    fn the_guide_has_the_same_tables() {
        let guide = include_str!("../../../docs/operations.md");
        for (code, meaning) in POSTGRES_AWAY.into_iter().chain(POSTGRES_SETUP) {
            let class = if code.len() == 2 { "xxx" } else { "" };
            let row = format!("| `{code}{class}` | {meaning} |");
            assert!(guide.contains(&row), "docs/operations.md lacks: {row}");
        }
    }

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

    /// Codes of all classes of PostgreSQL's appendix A, and of those that extensions and triggers make
    /// up, with what they mean: of Onceward's own statement, at the end of a transaction, in a handler's
    /// statement. `o`utage, `s`etup, `c`onflict, `p`assing, `r`emembered, `a`borted, `f`ailure of the
    /// record, `x` another's crash.
    #[rustfmt::skip]
    const CODES: &[(&str, &str)] = &[
        ("00000", "sff"), ("01000", "sff"), ("02000", "sff"), ("03000", "sff"),
        ("08000", "oof"), ("08006", "oof"), ("08P01", "oof"), ("09000", "sff"),
        ("0A000", "rfr"), ("0B000", "sff"), ("0F000", "sff"), ("0L000", "sff"),
        ("0P000", "sff"), ("0Z000", "sff"), ("10608", "sff"), ("20000", "sff"),
        ("21000", "sff"), ("22000", "sff"), ("22012", "snf"), ("22021", "sff"),
        ("22P02", "sff"), ("23000", "sff"), ("23502", "sff"), ("23503", "sff"),
        ("23505", "sff"), ("23514", "sff"), ("23P01", "sff"), ("24000", "sff"),
        ("25000", "sff"), ("25006", "oof"), ("25P01", "sff"), ("25P02", "saa"),
        ("25P03", "oof"), ("25P04", "oof"), ("26000", "rfr"), ("27000", "sff"),
        ("28000", "sff"), ("28P01", "sff"), ("2B000", "sff"), ("2BP01", "sff"),
        ("2D000", "sff"), ("2F000", "sff"), ("34000", "sff"), ("38000", "sff"),
        ("39000", "sff"), ("3B000", "sff"), ("3B001", "sff"), ("3D000", "sff"),
        ("3F000", "sff"), ("40000", "sff"), ("40001", "ccc"), ("40002", "sff"),
        ("40003", "oof"), ("40P01", "ccc"), ("42000", "sff"), ("42501", "sff"),
        ("42601", "sff"), ("42704", "sfr"), ("42P01", "sff"), ("42P05", "rfr"),
        ("44000", "sff"), ("53000", "oof"), ("53100", "oof"), ("53200", "oof"),
        ("53300", "oof"), ("54000", "sff"), ("55000", "sff"), ("55006", "sff"),
        ("55P03", "pcc"), ("57000", "sff"), ("57014", "oof"), ("57P01", "oof"),
        ("57P02", "oox"), ("57P03", "oof"), ("57P04", "sff"), ("57P05", "oof"),
        ("58000", "oof"), ("58030", "oof"), ("72000", "sff"), ("F0000", "oof"),
        ("HV000", "sff"), ("P0000", "sff"), ("P0001", "sff"), ("XX000", "ofr"),
        ("XX001", "off"), ("XX002", "off"), ("U0001", "sff"), ("", "sff"),
    ];

    fn of_store(error: &StoreError) -> char {
        match error {
            StoreError::Outage(_) => 'o',
            StoreError::Setup(_) => 's',
            StoreError::Conflict => 'c',
            StoreError::InProgress => 'p',
            StoreError::Stale(_) => 'r',
            StoreError::Aborted => 'a',
            StoreError::NotOurs => 'n',
            StoreError::Other(_) => 'f',
            StoreError::Fenced => 'z',
        }
    }

    fn of_call(error: Error) -> char {
        match OfCall::of(&HandlerError::new(Own(error))) {
            OfCall::Conflict => 'c',
            OfCall::FoundAborted => 'a',
            OfCall::Stale => 'r',
            OfCall::OthersCrash => 'x',
            OfCall::Failed | OfCall::FailedWithoutCode => 'f',
        }
    }

    #[test]
    fn of_all_sqlstates_none_of_onceward_s_own_statements_is_a_record_s_fault() {
        for (code, right) in CODES {
            let meant = [
                of_store(&StoreError::from(coded(code))),
                of_store(&at_the_end(coded(code))),
                of_call(coded(code)),
            ];
            assert_eq!(meant.iter().collect::<String>(), *right, "{code}");
            assert!(!"fan".contains(meant[0]), "{code} is charged to a record");
        }
    }

    #[test]
    fn an_error_without_a_sqlstate_is_the_handler_s_only_in_its_own_statement() {
        let errors: [fn() -> Error; 5] = [
            || Error::Io(std::io::ErrorKind::BrokenPipe.into()),
            || Error::WorkerCrashed,
            || Error::Protocol("out of step".into()),
            || Error::RowNotFound,
            || Error::Tls("no".into()),
        ];
        let meant =
            errors.map(|make| [of_store(&make().into()), of_store(&at_the_end(make())), of_call(make())]);
        let right = ["oof", "oof", "oof", "ssf", "ssf"];
        assert_eq!(meant.map(|meant| meant.iter().collect::<String>()), right);
    }

    #[test]
    fn what_is_to_be_mended_is_said_before_the_server_s_words() {
        let said = |code| match StoreError::from(coded(code)) {
            StoreError::Setup(source) => crate::error::text::in_one_line(&*source).to_string(),
            other => panic!("{other}"),
        };
        assert!(said("28P01").starts_with("PostgreSQL refuses the login: correct the user and the password"));
        assert!(said("42501").starts_with("the role lacks a right"));
        assert!(said("42P01").contains("run `migrate`"));
        assert!(said("22003").ends_with("22003"));
    }

    #[test]
    fn a_code_is_found_wherever_it_stands_in_the_chain() {
        assert_eq!(code_in(&coded("23505")).as_deref(), Some("23505"));
        assert_eq!(code_in(&Own(coded("23505"))).as_deref(), Some("23505"));
        assert_eq!(code_in(&Own(Error::RowNotFound)), None);
        assert_eq!(code_in(&fmt::Error), None);
    }
}

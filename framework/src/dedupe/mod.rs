//! What has been done: asked before a record is handled, noted with its effects.

#[cfg(feature = "postgres")]
mod buckets;
#[cfg(all(feature = "faults", feature = "postgres"))]
pub mod by_hand;
#[cfg(feature = "postgres")]
mod claims;
#[cfg(feature = "postgres")]
mod connections;
#[cfg(feature = "postgres")]
mod leftovers;
mod memory;
#[cfg(feature = "postgres")]
pub(crate) mod migrate;
#[cfg(feature = "postgres")]
pub(crate) mod outage;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "postgres")]
mod rights;
#[cfg(feature = "postgres")]
pub(crate) mod scope;
#[cfg(feature = "postgres")]
mod sql;
pub(crate) mod tx;
#[cfg(feature = "postgres")]
pub(crate) mod unit;
#[cfg(feature = "postgres")]
pub(crate) mod upkeep;

pub(crate) use memory::Memory;

use crate::Record;
use crate::error::trouble::Cause;
use crate::record::identity::{Identity, REDRIVEN_HEADER};
use crate::record::source::Source;
use std::sync::Arc;

/// Where it is kept.
#[derive(Debug, Clone, Default)]
pub(crate) enum Dedupe {
    /// Nowhere: at least once.
    #[default]
    Off,
    /// In this process, gone with it.
    Memory(Arc<Memory>),
    #[cfg(feature = "postgres")]
    Postgres(Arc<postgres::Postgres>),
}

/// An identity with the record that has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) identity: Identity,
    pub(crate) offset: i64,
    /// It was sent back from the dead-letter topic.
    pub(crate) redriven: bool,
}

impl Claim {
    pub(crate) fn new(identity: Identity, record: Record<'_>) -> Self {
        let redriven =
            record.headers().iter().any(|header| header.name_bytes() == REDRIVEN_HEADER.as_bytes());
        Self { identity, offset: record.offset(), redriven }
    }
}

/// What is noted of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It is done.
    Done,
    /// Its record is in the dead-letter topic. What is delivered again is a duplicate;
    /// what is sent back from there is not.
    DeadLettered,
}

/// The values of the column `state`.
#[cfg(feature = "postgres")]
const DONE: i16 = 0;
#[cfg(feature = "postgres")]
const DEAD_LETTERED: i16 = 1;

/// Why the store could not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// It cannot be reached, or cannot work. No record's fault.
    #[error("PostgreSQL, Kafka or the schema registry is unreachable or cannot work")]
    Outage(#[source] crate::error::BoxError),
    /// It can be reached and refuses: rights, a login, tables. No record's fault, and somebody has to
    /// mend it.
    #[error("Onceward may not, or cannot as it is set up, do its own work")]
    Setup(#[source] crate::error::BoxError),
    /// Another owner has an identity of the run in progress, or somebody has a table locked.
    #[error(
        "another owner has a record of this run in progress, or somebody has locked one of Onceward's tables"
    )]
    InProgress,
    /// The partition has a new owner: this one does nothing more.
    #[error("the partition has a new owner")]
    Fenced,
    /// The connection is an old one and remembers what has changed since. Another one does better.
    #[error("the connection remembers what is not so any more")]
    Stale(#[source] crate::error::BoxError),
    /// A deadlock, a serialization failure, or a lock that somebody else held for long.
    #[error("a deadlock, a serialization failure, or a lock that was held for too long")]
    Conflict,
    /// The transaction was aborted by a statement whose error was dropped.
    #[error("a statement failed and the handler dropped its error, so the transaction cannot commit")]
    Aborted,
    /// The handler ended the transaction.
    #[error("the handler ended the transaction that it was given")]
    NotOurs,
    /// An error at the end of a transaction that only what its handlers did can have caused.
    #[error(transparent)]
    Other(crate::error::BoxError),
}

impl StoreError {
    /// Whose fault it is, where it is no record's.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::InProgress | Self::Conflict | Self::Stale(_) => Cause::Passing,
            // It gives the partition up, and says so until Kafka takes it away.
            Self::Setup(_) | Self::Fenced => Cause::Setup,
            Self::Outage(_) | Self::Aborted | Self::NotOurs | Self::Other(_) => Cause::Outage,
        }
    }
}

impl From<crate::error::trouble::Held> for StoreError {
    fn from(held: crate::error::trouble::Held) -> Self {
        match held.cause {
            Cause::Setup => Self::Setup(held.source),
            Cause::Outage | Cause::Passing => Self::Outage(held.source),
        }
    }
}

impl Dedupe {
    /// For how long it is known what was done, where that has an end.
    pub(crate) fn window(&self) -> Option<std::time::Duration> {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => Some(postgres.window()),
            _ => None,
        }
    }

    /// Which identities are done, one answer each.
    pub(crate) async fn seen(&self, scope: i32, claims: &[Claim]) -> Result<Vec<bool>, StoreError> {
        match self {
            Self::Off => Ok(vec![false; claims.len()]),
            Self::Memory(memory) => Ok(memory.seen(scope, claims)),
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => {
                postgres.seen(scope, claims).await.inspect_err(|error| postgres.doubt(error))
            }
        }
    }

    /// Notes what became of identities.
    pub(crate) async fn mark(
        &self,
        source: &Source,
        scope: i32,
        claims: &[Claim],
        state: State,
    ) -> Result<(), StoreError> {
        let _ = source;
        match self {
            Self::Off => Ok(()),
            Self::Memory(memory) => {
                memory.mark(scope, claims, state);
                Ok(())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => {
                postgres.mark(source, scope, claims, state).await.inspect_err(|error| postgres.doubt(error))
            }
        }
    }
}

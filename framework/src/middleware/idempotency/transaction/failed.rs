//! What it means that a call failed in a transaction: for its record, for those beside it, or for nobody.

use super::{InTransaction, offsets};
use crate::dedupe::outage::OfCall;
use crate::dedupe::unit::UnitOfWork;
use crate::dedupe::{Claim, StoreError};
use crate::error::ErrorKind;
use crate::handler::Handler;
use crate::middleware::Stack;
use crate::middleware::idempotency::attempts::Attempt;
use crate::record::breaks::MOST_BREAKS;
use crate::{BoxError, HandlerError, Run};
use std::time::Instant;

impl<S: Stack, H: Handler> InTransaction<'_, S, H> {
    /// What a failed call means. The connection of a handler that was dropped in
    /// the middle (timeout, panic) is closed, not used again.
    pub(super) async fn failed(
        &self,
        mut unit: UnitOfWork,
        (index, called): (usize, Run<'_>),
        error: HandlerError,
        started: Instant,
    ) -> Attempt {
        if error.kind() != ErrorKind::Returned {
            return Attempt::Culprit(index, error);
        }
        let blames_another = self.blames_another(&mut unit, &error).await;
        let attempt = self.roll_back(unit, called, error, started).await;
        if blames_another && index > 0 { attempt } else { attempt.at(index) }
    }

    /// Whether a record found the transaction aborted: then it is not the one that did it.
    pub(super) async fn blames_another(&self, unit: &mut UnitOfWork, error: &HandlerError) -> bool {
        match OfCall::of(error) {
            OfCall::FailedWithoutCode => unit.is_aborted().await,
            of_call => of_call == OfCall::FoundAborted,
        }
    }

    pub(super) async fn failed_together(
        &self,
        unit: UnitOfWork,
        called: Run<'_>,
        error: HandlerError,
        started: Instant,
    ) -> Attempt {
        if error.kind() != ErrorKind::Returned {
            return Attempt::Failed(error);
        }
        self.roll_back(unit, called, error, started).await
    }

    /// Says what it means if the server has ended the transaction during a call that went well: one that
    /// took long without a statement, or dropped the error. Found later, it would look like an outage,
    /// and be tried again for ever.
    pub(super) async fn lost(
        &self,
        unit: &mut UnitOfWork,
        called: Run<'_>,
        started: Instant,
    ) -> Option<Attempt> {
        let left_idle = started.elapsed() >= self.postgres.idle_limit;
        let [first, ..] = called.records() else { return None };
        if !(left_idle || called.assigned().breaks.is_alone(first.offset())) || !unit.is_lost().await {
            return None;
        }
        if left_idle {
            return Some(Attempt::Failed(HandlerError::new(format!(
                "the handler left its transaction idle for longer than `session.timeout.ms` = {:?}, so PostgreSQL ended \
                 it",
                self.postgres.idle_limit
            ))));
        }
        Some(broke(called, HandlerError::new("the connection broke and the handler dropped the error")))
    }

    /// Says what it means if a call that had the connection itself has ended the transaction. After a COMMIT
    /// the claims of the records that were not done have to go, or they would count as done.
    pub(super) async fn ended_by_call(
        &self,
        unit: &mut UnitOfWork,
        undone: impl Iterator<Item = Claim>,
    ) -> Option<Attempt> {
        if !unit.was_ended().await {
            return None;
        }
        let undone: Vec<Claim> = undone.collect();
        Some(match unit.unclaim(&undone).await {
            Ok(()) => Attempt::Failed(HandlerError::new(StoreError::NotOurs).permanent()),
            Err(error) => error.into(),
        })
    }

    /// A record that is known to fail, in a transaction that is sound.
    pub(super) async fn rejected(&self, mut unit: UnitOfWork, place: usize, error: HandlerError) -> Attempt {
        if unit.rollback().await.is_ok() {
            self.postgres.done(unit);
        }
        Attempt::Culprit(place, error)
    }

    /// Rolls back, and says if the failure of a call with these records is nobody's: a deadlock, an old
    /// connection, or one that broke. One that the server closed because the handler left
    /// it idle for too long is the record's.
    async fn roll_back(
        &self,
        mut unit: UnitOfWork,
        called: Run<'_>,
        error: HandlerError,
        started: Instant,
    ) -> Attempt {
        let of_call = OfCall::of(&error);
        match unit.rollback().await {
            // Its connection is closed.
            Ok(()) if of_call == OfCall::Stale && unit.is_on_a_kept_connection() => {
                Attempt::Blameless(StoreError::Stale(error.to_string().into()))
            }
            Ok(()) => {
                self.postgres.done(unit);
                match of_call {
                    OfCall::Conflict => Attempt::Blameless(StoreError::Conflict),
                    _ => Attempt::Failed(error),
                }
            }
            Err(_) if started.elapsed() >= self.postgres.idle_limit => Attempt::Failed(error),
            Err(broken) if of_call == OfCall::OthersCrash => Attempt::Blameless(broken),
            Err(_) => broke(called, error),
        }
    }
}

/// What it means that the connection broke in the call of these records.
fn broke(called: Run<'_>, error: HandlerError) -> Attempt {
    let is_theirs = !called.is_empty() && called.assigned().breaks.broke_in_call(&offsets(called.records()));
    if is_theirs {
        Attempt::Failed(error.explained(|source| BreaksItsConnection { source }))
    } else {
        Attempt::Blameless(StoreError::Outage(error.to_string().into()))
    }
}

/// Why a record is charged that would else be an outage for ever.
#[derive(Debug, thiserror::Error)]
#[error("the connection to PostgreSQL broke in each of {MOST_BREAKS} calls with this record")]
struct BreaksItsConnection {
    source: BoxError,
}

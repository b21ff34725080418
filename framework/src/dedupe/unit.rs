//! A run's transaction: its savepoints, its end, and the leftovers of its calls.

use super::buckets::Live;
use super::claims::{Rows, give_back};
use super::connections::{Pooled, end_part, rows_at_the_end};
use super::leftovers::{CLEAN, Leftovers};
use super::tx::Tx;
use super::{Claim, StoreError};
use sqlx::Row;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How long to wait for the end of a transaction in which a call failed, before its connection counts
/// as broken.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// A run's open transaction. Dropped before its end, it closes the connection,
/// which rolls back.
#[derive(Debug)]
pub(crate) struct UnitOfWork {
    pooled: Pooled,
    mark: Uuid,
    scope: i32,
    /// Where its claims are.
    live: Arc<Live>,
    /// How many calls of the handler it holds.
    calls: u32,
    /// Statements that set its connection up again.
    settings: Arc<str>,
    /// It did not answer in time.
    is_stuck: bool,
}

/// Whether a COMMIT looks for what the handler's calls have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LooksFor {
    /// It does not.
    Nothing,
    /// It tells.
    Leftovers,
    /// It does not commit where something is left.
    NoLeftovers,
}

/// How a COMMIT ended that PostgreSQL understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Committed,
    /// And the handler's calls have left something.
    CommittedWithLeftovers,
    /// A call has left something that others in the transaction have met.
    RolledBack,
}

impl UnitOfWork {
    /// Of a transaction that has claimed, in these buckets.
    pub(super) fn new(pooled: Pooled, mark: Uuid, scope: i32, live: Arc<Live>, settings: Arc<str>) -> Self {
        Self { pooled, mark, scope, live, calls: 0, settings, is_stuck: false }
    }

    /// Its connection, after its end.
    pub(super) fn into_connection(self) -> Pooled {
        self.pooled
    }

    pub(crate) fn tx(&mut self) -> &mut Tx {
        &mut self.pooled.tx
    }

    pub(crate) fn begin_call(&mut self) {
        self.calls += 1;
        self.pooled.tx.left.begin_call();
    }

    /// How many calls of the handler it holds, those that failed included.
    pub(crate) fn calls(&self) -> u32 {
        self.calls
    }

    /// Begins a part that can be undone alone, and ends the one before if there is one. Fails
    /// as `Aborted` where a statement in that one failed and nobody said so.
    pub(crate) async fn savepoint(&mut self, ends_another: bool) -> Result<(), StoreError> {
        let sql = if ends_another { "release onceward; savepoint onceward" } else { "savepoint onceward" };
        self.execute(sql).await
    }

    /// Ends such a part. Fails as `Aborted` where a statement in it failed and nobody said so.
    pub(crate) async fn release(&mut self) -> Result<(), StoreError> {
        self.execute("release onceward").await
    }

    /// Undoes what was done since the savepoint, which stays.
    pub(crate) async fn rollback_to_savepoint(&mut self) -> Result<(), StoreError> {
        self.after_a_call("rollback to onceward").await
    }

    /// Whether a call that had the connection itself has ended the transaction.
    pub(crate) async fn was_ended(&mut self) -> bool {
        let is_ours = self.is_ours();
        std::mem::take(&mut self.pooled.tx.is_unseen)
            && matches!(self.after_a_call(&format!("select {is_ours}")).await, Err(StoreError::NotOurs))
    }

    /// An expression that fails in any other transaction.
    fn is_ours(&self) -> String {
        format!("1 / (coalesce(current_setting('onceward.run', true), '') = '{}')::int", self.mark)
    }

    /// Gives claims back whose records were not done; also after a call has committed them.
    pub(crate) async fn unclaim(&mut self, claims: &[Claim]) -> Result<(), StoreError> {
        let rows = Rows::sorted(claims);
        // What the handler has set for the transaction must not lead to another table, nor end this.
        self.execute(
            "reset role; set local search_path to default; set local statement_timeout = 0; \
             set local row_security to default",
        )
        .await?;
        for bucket in self.live.written() {
            give_back(&mut self.pooled.tx.connection, bucket, self.scope, &rows).await?;
        }
        Ok(())
    }

    /// Whether the server has ended the transaction, as it does to one that was
    /// idle for too long.
    pub(crate) async fn is_lost(&mut self) -> bool {
        matches!(self.after_a_call("select 1").await, Err(StoreError::Outage(_)))
    }

    /// Whether the transaction can still do something.
    pub(crate) async fn is_aborted(&mut self) -> bool {
        matches!(self.after_a_call("select 1").await, Err(StoreError::Aborted))
    }

    /// Commits, if it is still our transaction and not aborted.
    ///
    /// A plain COMMIT of an aborted transaction is answered by a rollback and no
    /// error. So it follows, in one round trip, a statement that fails in an
    /// aborted transaction (25P02) and in any other than ours (22012). Before them a setting
    /// by which the COMMIT is durable, whatever the handler has set; behind them the connection is cleaned.
    pub(crate) async fn commit(&mut self, looks_for: LooksFor) -> Result<Ended, StoreError> {
        let found = match looks_for {
            LooksFor::Nothing => "true".to_owned(),
            LooksFor::Leftovers => self.pooled.leftovers.are_none(),
            LooksFor::NoLeftovers => self.pooled.leftovers.refused(),
        };
        let end = format!(
            "set local synchronous_commit = on; \
             select {}, {found}; \
             commit; {CLEAN}; {}",
            self.is_ours(),
            self.settings
        );
        match rows_at_the_end(&mut self.pooled.tx.connection, &end).await {
            Err(error) if Leftovers::are_in(&error) => {
                self.rollback().await?;
                Ok(Ended::RolledBack)
            }
            Err(error) => Err(error),
            Ok(rows) if looks_for == LooksFor::Leftovers => {
                let are_none = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(1)?;
                Ok(if are_none { Ended::Committed } else { Ended::CommittedWithLeftovers })
            }
            Ok(_) => Ok(Ended::Committed),
        }
    }

    /// Rolls back, and cleans the connection.
    pub(crate) async fn rollback(&mut self) -> Result<(), StoreError> {
        let end = format!("rollback; {CLEAN}; {}", self.settings);
        self.after_a_call(&end).await
    }

    /// Runs a statement that takes no time, after a call that may have left the connection waiting for
    /// something that never comes.
    async fn after_a_call(&mut self, sql: &str) -> Result<(), StoreError> {
        let is_stuck =
            || Err(StoreError::Outage("the connection does not answer after a handler's call".into()));
        if self.is_stuck {
            return is_stuck();
        }
        let answered = tokio::time::timeout(ANSWERED_WITHIN, self.execute(sql)).await;
        self.is_stuck = answered.is_err();
        answered.unwrap_or_else(|_| is_stuck())
    }

    /// Whether it is on a connection that another run had before.
    pub(crate) fn is_on_a_kept_connection(&self) -> bool {
        self.pooled.is_kept
    }

    async fn execute(&mut self, sql: &str) -> Result<(), StoreError> {
        end_part(&mut self.pooled.tx.connection, sql).await
    }
}

//! Claims without an application, for tests that put transactions and the moving of buckets in an order.
//! Compiled in with a feature that no release has.

use super::postgres::{Postgres, Window};
use super::scope::{ScopeName, resolve};
use super::unit::{LooksFor, UnitOfWork};
use super::{Claim, State, StoreError, migrate, upkeep};
use crate::record::identity::Identity;
use crate::record::source::Source;
use crate::{Error, TopicPartition, Tx};
use std::time::Duration;

/// A process that owns one partition.
#[derive(Debug)]
pub struct Owner {
    postgres: Postgres,
    scope: i32,
    source: Source,
}

/// A transaction that has claimed.
#[derive(Debug)]
pub struct Open(UnitOfWork);

/// An identity, and whether it was sent back from the dead-letter topic.
pub type Key = (u128, bool);

fn claims(keys: &[Key]) -> Vec<Claim> {
    let claim =
        |(key, redriven): &Key| Claim { identity: Identity::of_key(*key), offset: 0, redriven: *redriven };
    keys.iter().map(claim).collect()
}

impl Owner {
    /// Connects, and makes the tables if they are not there.
    ///
    /// # Errors
    /// Where PostgreSQL cannot be reached.
    pub async fn new(
        url: &str,
        partition: i32,
        window: Duration,
        copies_within: Duration,
    ) -> Result<Self, Error> {
        let window = Window { remembered: window, copies_within };
        let postgres = Postgres::connect(url, 4, Duration::from_secs(60), window).await?;
        migrate::apply(&postgres).await?;
        let handler = ScopeName { handler: "h".into(), formerly: Vec::new(), topics: vec!["t".into()] };
        let scope = resolve(&postgres, "g", &[handler], &[]).await?[0];
        Ok(Self { postgres, scope, source: Source::new(TopicPartition::new("t", partition), "g".into()) })
    }

    /// Begins a transaction, and says of each identity whether it is fresh.
    ///
    /// # Errors
    /// As a run's claim has them.
    pub async fn begin(&self, keys: &[Key]) -> Result<(Open, Vec<bool>), String> {
        let begun = self.postgres.begin(&self.source, self.scope, &claims(keys)).await;
        begun.map(|(unit, fresh)| (Open(unit), fresh)).map_err(text)
    }

    /// # Errors
    /// As a run's COMMIT has them.
    pub async fn commit(&self, mut open: Open) -> Result<(), String> {
        open.0.commit(LooksFor::Nothing).await.map_err(text)?;
        self.postgres.done(open.0);
        Ok(())
    }

    /// # Errors
    /// Where PostgreSQL does not answer.
    pub async fn rollback(&self, mut open: Open) -> Result<(), String> {
        open.0.rollback().await.map_err(text)?;
        self.postgres.done(open.0);
        Ok(())
    }

    /// Which identities are done.
    ///
    /// # Errors
    /// As a look-up has them.
    pub async fn seen(&self, keys: &[Key]) -> Result<Vec<bool>, String> {
        self.postgres.seen(self.scope, &claims(keys)).await.map_err(text)
    }

    /// Notes that identities are done, or dead-lettered.
    ///
    /// # Errors
    /// As a mark has them.
    pub async fn mark(&self, keys: &[Key], is_done: bool) -> Result<(), String> {
        let state = if is_done { State::Done } else { State::DeadLettered };
        self.postgres.mark(&self.source, self.scope, &claims(keys), state).await.map_err(text)
    }

    /// Opens, seals, expires and empties buckets, as it is time for.
    ///
    /// # Errors
    /// Where PostgreSQL does not answer.
    pub async fn keep_buckets(&self) -> Result<(), String> {
        upkeep::once(&self.postgres).await.map_err(text)
    }
}

impl Open {
    /// Where the handler's effects go.
    pub fn tx(&mut self) -> &mut Tx {
        self.0.tx()
    }

    /// Gives claims back.
    ///
    /// # Errors
    /// Where PostgreSQL does not answer.
    pub async fn unclaim(&mut self, keys: &[Key]) -> Result<(), String> {
        self.0.unclaim(&claims(keys)).await.map_err(text)
    }
}

fn text(error: StoreError) -> String {
    format!("{error:?}")
}

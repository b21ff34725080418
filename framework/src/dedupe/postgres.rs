//! The dedupe store in PostgreSQL: claims in the handler's own transaction (`claims.rs`),
//! and the fence that keeps an old owner of a partition out.
//!
//! No text of a record is bound to a statement: identities are UUIDs and offsets are numbers, so
//! no record can make a statement fail.

use super::buckets::{self, Buckets, Live};
use super::claims::{Claimed, Filed, Marked, Seen, fence, first_of_each, seen};
use super::connections::{CONNECT_TIMEOUT, Connections, Pooled, execute, root};
use super::scope::Scope;
use super::unit::UnitOfWork;
use super::{Claim, DEAD_LETTERED, DONE, State, StoreError, rights};
use crate::base::sync::lock;
use crate::config::database_url;
use crate::record::source::Source;
use crate::{BoxError, Error};
use sqlx::postgres::PgConnection;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

/// How long identities are remembered, and how far apart copies are found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// How long an identity is remembered at least.
    pub(crate) remembered: Duration,
    /// Copies that come later than this after each other are not found.
    pub(crate) copies_within: Duration,
}

/// Onceward's own connections, and what is done on them.
#[derive(Debug)]
pub(crate) struct Postgres {
    connections: Connections,
    buckets: Buckets,
    window: Window,
    /// Topics by number, as far as this process knows.
    topics: Mutex<HashMap<String, i32>>,
    /// The handlers that have a number, as they were when the process started.
    scopes: Mutex<HashMap<i32, Arc<Scope>>>,
    /// A transaction that is idle for longer is ended by the server.
    pub(crate) idle_limit: Duration,
}

impl Postgres {
    /// Connects once, to find out now whether it can.
    pub(crate) async fn connect(
        url: &str,
        most: usize,
        idle_limit: Duration,
        window: Window,
    ) -> Result<Self, Error> {
        let postgres = Self {
            connections: Connections::new(database_url::options(url)?, most, idle_limit),
            buckets: Buckets::new(window.copies_within),
            window,
            topics: Mutex::default(),
            scopes: Mutex::default(),
            idle_limit,
        };
        let mut connection =
            postgres.connections.get().await.map_err(|error| match database_url::note(root(error)) {
                Ok(error) => failed("connect to PostgreSQL")(error),
                Err(noted) => noted,
            })?;
        rights::refuse_read_only(connection.get()).await?;
        // A role may have one connection only.
        if let Ok(Ok((mut another, _))) =
            tokio::time::timeout(CONNECT_TIMEOUT, postgres.connections.open()).await
        {
            rights::refuse_shared(connection.get(), &mut another).await?;
        }
        postgres.put_back(connection);
        Ok(postgres)
    }

    /// A connection for a step of the startup.
    pub(crate) async fn connection(&self, action: &'static str) -> Result<Pooled, Error> {
        self.connections.get().await.map_err(|error| failed(action)(root(error)))
    }

    pub(super) async fn get(&self) -> Result<Pooled, StoreError> {
        self.connections.get().await
    }

    /// Forgets what an error puts in doubt.
    pub(crate) fn doubt(&self, error: &StoreError) {
        match error {
            StoreError::Outage(_) | StoreError::Stale(_) => self.connections.close_idle(),
            StoreError::Setup(_) => {
                self.buckets.forget();
                lock(&self.topics).clear();
            }
            _ => {}
        }
    }

    /// How long an identity is remembered at least.
    pub(super) fn window(&self) -> Duration {
        self.window.remembered
    }

    /// Keeps a handler's number with the row that it stands in.
    pub(super) fn know_scope(&self, scope: Scope) {
        lock(&self.scopes).insert(scope.id, Arc::new(scope));
    }

    fn scope(&self, id: i32) -> Result<Arc<Scope>, StoreError> {
        let known = lock(&self.scopes).get(&id).cloned();
        known.ok_or_else(|| StoreError::Setup(format!("no handler has the number {id}").into()))
    }

    /// Takes a connection back.
    pub(crate) fn put_back(&self, pooled: Pooled) {
        self.connections.put_back(pooled);
    }

    /// Opens a run's transaction and claims its identities. Says of each claim whether it is fresh, which
    /// means that nobody has done it and it is ours to do in this transaction.
    pub(crate) async fn begin(
        &self,
        source: &Source,
        scope: i32,
        claims: &[Claim],
    ) -> Result<(UnitOfWork, Vec<bool>), StoreError> {
        let scope = self.scope(scope)?;
        let mut pooled = self.connections.get().await?;
        let topic = match self.topic(pooled.get(), source.partition.topic()).await {
            Err(error) => return Err(pooled.judged(error)),
            Ok(topic) => topic,
        };
        let filed = Filed { source, scope: &scope, topic, claims };
        loop {
            let mark = Uuid::from_u128(fastrand::u128(..));
            let (live, claimed) = match self.claim(pooled.get(), &filed, mark).await {
                Err(error) => return Err(pooled.judged(error)),
                Ok(claimed) => claimed,
            };
            let refused = match claimed.of_this_owner(source, &scope).await {
                Ok(Some(keys)) => {
                    let fresh =
                        first_of_each(claims, |claim| keys.contains(&Uuid::from_u128(claim.identity.key)));
                    let settings = self.connections.settings.clone();
                    return Ok((UnitOfWork::new(pooled, mark, scope.id, live, settings), fresh));
                }
                Ok(None) => None,
                Err(refused) => Some(refused),
            };
            execute(pooled.get(), "rollback").await?;
            if let Some(refused) = refused {
                self.connections.put_back(pooled);
                return Err(refused);
            }
            self.buckets.forget();
        }
    }

    async fn claim(
        &self,
        connection: &mut PgConnection,
        filed: &Filed<'_>,
        mark: Uuid,
    ) -> Result<(Arc<Live>, Claimed), StoreError> {
        let live = self.buckets.live(connection).await?;
        let fence = fence(connection, filed.source).await?;
        execute(connection, &buckets::begin(live.current)).await?;
        let claimed = filed.claim(connection, &live, fence, mark).await?;
        Ok((live, claimed))
    }

    /// Which identities are done.
    pub(crate) async fn seen(&self, scope: i32, claims: &[Claim]) -> Result<Vec<bool>, StoreError> {
        let scope = self.scope(scope)?;
        let states = loop {
            let mut pooled = self.connections.get().await?;
            match self.seen_on(pooled.get(), &scope, claims).await.map_err(|error| pooled.judged(error)) {
                Err(error @ StoreError::Stale(_)) => self.doubt(&error),
                Err(error) => return Err(error),
                Ok(seen) => {
                    self.connections.put_back(pooled);
                    match seen {
                        Seen::States(states) => break states,
                        Seen::NotOfScope => return Err(scope.is_gone()),
                        Seen::NotCurrent => self.buckets.forget(),
                    }
                }
            }
        };
        let is_done = |claim: &Claim| {
            let state = states.get(&Uuid::from_u128(claim.identity.key));
            state.is_some_and(|state| *state != DEAD_LETTERED || !claim.redriven)
        };
        Ok(claims.iter().map(is_done).collect())
    }

    async fn seen_on(
        &self,
        connection: &mut PgConnection,
        scope: &Scope,
        claims: &[Claim],
    ) -> Result<Seen, StoreError> {
        let live = self.buckets.live(connection).await?;
        seen(connection, &live, scope, claims).await
    }

    /// Notes what became of identities.
    pub(crate) async fn mark(
        &self,
        source: &Source,
        scope: i32,
        claims: &[Claim],
        state: State,
    ) -> Result<(), StoreError> {
        let scope = self.scope(scope)?;
        let state = match state {
            State::Done => DONE,
            State::DeadLettered => DEAD_LETTERED,
        };
        loop {
            let mut pooled = self.connections.get().await?;
            let marked = self.mark_on(pooled.get(), source, &scope, claims, state).await;
            match marked.map_err(|error| pooled.judged(error)) {
                Err(error @ StoreError::Stale(_)) => self.doubt(&error),
                Err(error) => return Err(error),
                Ok(marked) => {
                    self.connections.put_back(pooled);
                    match marked {
                        Marked::Done => return Ok(()),
                        Marked::NotOfScope => return Err(scope.is_gone()),
                        Marked::NotCurrent => self.buckets.forget(),
                    }
                }
            }
        }
    }

    async fn mark_on(
        &self,
        connection: &mut PgConnection,
        source: &Source,
        scope: &Scope,
        claims: &[Claim],
        state: i16,
    ) -> Result<Marked, StoreError> {
        let live = self.buckets.live(connection).await?;
        let topic = self.topic(connection, source.partition.topic()).await?;
        Filed { source, scope, topic, claims }.mark(connection, &live, state).await
    }

    /// The number of a topic.
    async fn topic(&self, connection: &mut PgConnection, name: &str) -> Result<i32, StoreError> {
        if let Some(id) = lock(&self.topics).get(name) {
            return Ok(*id);
        }
        // The update changes nothing; it makes `returning` answer for an old row too.
        let id = sqlx::query_scalar(
            "insert into onceward_topic (name) values ($1) \
             on conflict (name) do update set name = excluded.name returning id",
        )
        .bind(name)
        .fetch_one(connection)
        .await?;
        lock(&self.topics).insert(name.to_owned(), id);
        Ok(id)
    }

    /// Gives a transaction's connection back after its end.
    pub(crate) fn done(&self, unit: UnitOfWork) {
        self.connections.put_back(unit.into_connection());
    }
}

/// What a failed step of the startup means.
pub(super) fn failed<E: Into<BoxError>>(action: &'static str) -> impl Fn(E) -> Error {
    move |source| Error::Store { action: action.to_owned(), source: source.into() }
}

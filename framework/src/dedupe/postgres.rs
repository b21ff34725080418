//! What has been done, in PostgreSQL: claims in the handler's own transaction (`claims.rs`),
//! and the fence that keeps an old owner of a partition out.
//!
//! Nothing that a record says is bound to a statement as text: identities are UUIDs, days and offsets
//! numbers, so no record can make one fail.

use super::claims::{CLAIM, Claimed, Rows, fence, first_of_each, seen, take_over};
use super::leftovers::{CLEAN, Leftovers};
use super::scope::Scope;
use super::{Claim, State, StoreError, migrate, rights};
use crate::config::database_url;
use crate::dedupe::outage::at_the_end;
use crate::dedupe::sql::Left;
use crate::dedupe::tx::Tx;
use crate::record::source::Source;
use crate::{BoxError, Error};
use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{Connection, Executor, Row};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// How long to wait for a lock before an identity counts as in progress elsewhere.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a process notes that it still writes to a day.
const WRITTEN_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long to wait for a connection, new or free.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the end of a transaction in which a call failed, before its connection counts
/// as broken.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// Onceward's own connections, and what is done on them.
#[derive(Debug)]
pub(crate) struct Postgres {
    connections: Connections,
    /// Days that have a partition, as far as this process knows, and since when.
    days: Mutex<HashMap<i32, Instant>>,
    /// Topics by number, as far as this process knows.
    topics: Mutex<HashMap<String, i32>>,
    /// The handlers that have a number, as they were when the process started.
    scopes: Mutex<HashMap<i32, Arc<Scope>>>,
    /// A transaction that is idle for longer is ended by the server.
    pub(crate) idle_limit: Duration,
}

impl Postgres {
    /// Connects once, to find out now whether it can.
    pub(crate) async fn connect(url: &str, most: usize, idle_limit: Duration) -> Result<Self, Error> {
        let options = database_url::options(url)?;
        let connections = Connections {
            options: options.application_name("onceward"),
            permits: Arc::new(Semaphore::new(most)),
            idle: Mutex::default(),
            settings: settings(idle_limit).into(),
        };
        let postgres = Self {
            connections,
            days: Mutex::default(),
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

    /// Forgets what an error puts in doubt. Where one connection is broken or outdated the others
    /// likely are, and each would cost a failed run.
    pub(crate) fn doubt(&self, error: &StoreError) {
        match error {
            StoreError::Outage(_) | StoreError::Stale(_) => lock(&self.connections.idle).clear(),
            StoreError::Setup(_) => {
                lock(&self.days).clear();
                lock(&self.topics).clear();
            }
            _ => {}
        }
    }

    /// Notes what a handler's number stands for.
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

    /// Opens a run's transaction and claims its identities: fence, scope, mark and claims
    /// in one statement. Says of each claim whether it is fresh, which means that
    /// nobody has done it and it is ours to do in this transaction.
    pub(crate) async fn begin(
        &self,
        source: &Source,
        scope: i32,
        claims: &[Claim],
    ) -> Result<(UnitOfWork, Vec<bool>), StoreError> {
        let scope = self.scope(scope)?;
        let mut pooled = self.connections.get().await?;
        let mark = Uuid::from_u128(fastrand::u128(..));
        let found = match self.claim(&mut pooled.tx.connection, source, &scope, claims, mark).await {
            Err(error) => return Err(pooled.judged(error)),
            Ok(found) => found,
        };
        let claimed = match found.of_this_owner(source, &scope).await {
            Ok(claimed) => claimed,
            Err(refused) => {
                execute(&mut pooled.tx.connection, "rollback").await?;
                self.connections.put_back(pooled);
                return Err(refused);
            }
        };
        let fresh = first_of_each(claims, |claim| {
            let key = Uuid::from_u128(claim.identity.key);
            claim.identity.days().all(|day| claimed.contains(&(key, day)))
        });
        let settings = self.connections.settings.clone();
        Ok((UnitOfWork { pooled, mark, scope: scope.id, calls: 0, settings, is_stuck: false }, fresh))
    }

    async fn claim(
        &self,
        connection: &mut PgConnection,
        source: &Source,
        scope: &Scope,
        claims: &[Claim],
        mark: Uuid,
    ) -> Result<Claimed, StoreError> {
        let rows = Rows::sorted(claims);
        self.make_days(connection, &rows.days).await?;
        let topic = self.topic(connection, source.partition.topic()).await?;
        let fence = fence(connection, source).await?;
        execute(connection, "begin").await?;
        take_over(connection, scope.id, claims).await?;
        let row = sqlx::query(CLAIM)
            .bind(&*source.group)
            .bind(source.partition.topic())
            .bind(source.partition.partition())
            .bind(mark.to_string())
            .bind(scope.id)
            .bind(topic)
            .bind(&rows.keys)
            .bind(&rows.days)
            .bind(&rows.offsets)
            .bind(fence)
            .bind(&*scope.handler)
            .fetch_one(connection)
            .await?;
        Ok(Claimed::of(&row, fence)?)
    }

    /// Which identities are done.
    pub(crate) async fn seen(&self, scope: i32, claims: &[Claim]) -> Result<Vec<bool>, StoreError> {
        let scope = self.scope(scope)?;
        let done: HashMap<Uuid, i16> = loop {
            let mut pooled = self.connections.get().await?;
            match seen(&mut pooled.tx.connection, &scope, claims).await.map_err(|error| pooled.judged(error))
            {
                Ok(done) => {
                    self.connections.put_back(pooled);
                    break done.ok_or_else(|| scope.is_gone())?;
                }
                Err(error @ StoreError::Stale(_)) => self.doubt(&error),
                Err(error) => return Err(error),
            }
        };
        let is_done = |claim: &Claim| {
            let state = done.get(&Uuid::from_u128(claim.identity.key));
            state.is_some_and(|state| *state != DEAD_LETTERED || !claim.redriven)
        };
        Ok(claims.iter().map(is_done).collect())
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
        loop {
            let mut pooled = self.connections.get().await?;
            let marked = self.mark_on(&mut pooled.tx.connection, source, &scope, claims, state).await;
            match marked.map_err(|error| pooled.judged(error)) {
                Ok(is_of_scope) => {
                    self.connections.put_back(pooled);
                    return if is_of_scope { Ok(()) } else { Err(scope.is_gone()) };
                }
                Err(error @ StoreError::Stale(_)) => self.doubt(&error),
                Err(error) => return Err(error),
            }
        }
    }

    /// Says whether the number is still the handler's; nothing is noted where it is not.
    async fn mark_on(
        &self,
        connection: &mut PgConnection,
        source: &Source,
        scope: &Scope,
        claims: &[Claim],
        state: State,
    ) -> Result<bool, StoreError> {
        let state = match state {
            State::Done => DONE,
            State::DeadLettered => DEAD_LETTERED,
        };
        let rows = Rows::sorted(claims);
        self.make_days(connection, &rows.days).await?;
        let topic = self.topic(connection, source.partition.topic()).await?;
        let is_of_scope = sqlx::query_scalar(
            "with scope as materialized ( \
                 select id from onceward_scope where id = $1 and group_id = $8 and handler = $9 \
             ), noted as ( \
                 insert into onceward_dedupe as d (event_key, scope, bucket, topic, partition, record_offset, state) \
                 select u.event_key, $1, date '1970-01-01' + u.day, $2, $3, u.record_offset, $7 \
                 from unnest($4::uuid[], $5::int[], $6::bigint[]) as u (event_key, day, record_offset), scope \
                 order by u.event_key, u.day \
                 on conflict (event_key, scope, bucket) do update set state = excluded.state \
                 where d.state = 1 and excluded.state = 0 \
             ) \
             select exists (select from scope)",
        )
        .bind(scope.id)
        .bind(topic)
        .bind(source.partition.partition())
        .bind(&rows.keys)
        .bind(&rows.days)
        .bind(&rows.offsets)
        .bind(state)
        .bind(&*scope.group)
        .bind(&*scope.handler)
        .fetch_one(connection)
        .await?;
        Ok(is_of_scope)
    }

    /// Makes the partitions of days that have none yet. A record of any day comes
    /// at any time: a lagging consumer, a replay.
    async fn make_days(&self, connection: &mut PgConnection, days: &[i32]) -> Result<(), StoreError> {
        let missing: HashSet<i32> = {
            let known = lock(&self.days);
            let is_fresh = |at: &Instant| at.elapsed() < WRITTEN_EVERY;
            days.iter().copied().filter(|day| !known.get(day).is_some_and(is_fresh)).collect()
        };
        for day in missing {
            migrate::make_day(connection, day).await?;
            lock(&self.days).insert(day, Instant::now());
        }
        Ok(())
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
        self.connections.put_back(unit.pooled);
    }
}

/// The values of the column `state`.
const DONE: i16 = 0;
const DEAD_LETTERED: i16 = 1;

/// What a failed step of the startup means.
pub(super) fn failed<E: Into<BoxError>>(action: &'static str) -> impl Fn(E) -> Error {
    move |source| Error::Store { action: action.to_owned(), source: source.into() }
}

/// A run's open transaction. Dropped before its end, it closes the connection,
/// which rolls back.
#[derive(Debug)]
pub(crate) struct UnitOfWork {
    pooled: Pooled,
    mark: Uuid,
    scope: i32,
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

    /// Gives claims back whose records were not done.
    pub(crate) async fn unclaim(&mut self, claims: &[Claim]) -> Result<(), StoreError> {
        let rows = Rows::sorted(claims);
        // What the handler has set for the transaction must not lead to another table, nor end this.
        self.execute(
            "reset role; set local search_path to default; set local statement_timeout = 0; \
             set local row_security to default",
        )
        .await?;
        sqlx::query(
            "delete from onceward_dedupe d using unnest($1::uuid[], $2::int[]) as u (event_key, day) \
             where d.event_key = u.event_key and d.scope = $3 and d.bucket = date '1970-01-01' + u.day",
        )
        .bind(&rows.keys)
        .bind(&rows.days)
        .bind(self.scope)
        .execute(&mut self.pooled.tx.connection)
        .await?;
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
             select 1 / (coalesce(current_setting('onceward.run', true), '') = '{}')::int, {found}; \
             commit; {CLEAN}; {}",
            self.mark, self.settings
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

/// A few connections, kept open. sqlx's pool asks the server on each return
/// whether the connection is alive, a round trip a run; here a broken one is found
/// when it is used, which an outage is anyway.
struct Connections {
    options: PgConnectOptions,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<(PgConnection, Leftovers)>>,
    /// Statements that set a connection up.
    settings: Arc<str>,
}

#[derive(Debug)]
pub(crate) struct Pooled {
    tx: Tx,
    leftovers: Leftovers,
    /// Whether another run had it before.
    is_kept: bool,
    _permit: OwnedSemaphorePermit,
}

impl Pooled {
    /// What an error on it means: a new connection remembers nothing.
    fn judged(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Stale(source) if !self.is_kept => StoreError::Setup(source),
            error => error,
        }
    }

    pub(super) fn get(&mut self) -> &mut PgConnection {
        &mut self.tx.connection
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // sqlx's options print the password.
        f.write_str("Connections")
    }
}

impl Connections {
    async fn get(&self) -> Result<Pooled, StoreError> {
        let connecting = async {
            let permit = self.permits.clone().acquire_owned().await;
            let permit = permit.map_err(|error| StoreError::Outage(error.into()))?;
            let idle = lock(&self.idle).pop();
            let is_kept = idle.is_some();
            let (connection, leftovers) = match idle {
                Some(idle) => idle,
                None => self.open().await?,
            };
            let tx = Tx { connection, statements: 0, left: Left::default() };
            Ok(Pooled { tx, leftovers, is_kept, _permit: permit })
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| {
            Err(StoreError::Outage(format!("no connection within {CONNECT_TIMEOUT:?}").into()))
        })
    }

    fn put_back(&self, pooled: Pooled) {
        // What was prepared stays until the connection ends.
        if !pooled.tx.left.prepared {
            lock(&self.idle).push((pooled.tx.connection, pooled.leftovers));
        }
    }

    async fn open(&self) -> Result<(PgConnection, Leftovers), StoreError> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        execute(&mut connection, &self.settings).await?;
        let leftovers = Leftovers::of(&mut connection).await?;
        Ok((connection, leftovers))
    }
}

/// Statements that set a connection up, new or cleaned.
fn settings(idle_limit: Duration) -> String {
    // The role's own limits of a statement are for the handler's (`CLAIM`); Onceward's wait as long as
    // `lock_timeout` lets them. `client_connection_check_interval` ends what a handler left behind that was
    // abandoned inside a long statement.
    format!(
        "select set_config('onceward.statement_timeout', current_setting('statement_timeout'), false); \
         set statement_timeout = 0; \
         select set_config('transaction_timeout', '0', false) \
         where current_setting('server_version_num')::int >= 170000; \
         set synchronous_commit = on; set default_transaction_isolation = 'read committed'; \
         set lock_timeout = {}; set idle_in_transaction_session_timeout = {}; \
         set client_connection_check_interval = '1s'",
        LOCK_TIMEOUT.as_millis(),
        idle_limit.as_millis(),
    )
}

/// Runs statements without parameters in one round trip.
///
/// Not an `async fn`, nor `raw_sql`: the compiler could not see that the future is
/// `Send` for every lifetime.
pub(super) fn execute<'c>(
    connection: &'c mut PgConnection,
    sql: &'c str,
) -> BoxFuture<'c, Result<(), StoreError>> {
    let executed = connection.execute(sql);
    Box::pin(async move { Ok(executed.await.map(|_| ())?) })
}

/// The rows of statements without parameters, in one round trip.
pub(super) fn rows<'c>(
    connection: &'c mut PgConnection,
    sql: &'c str,
) -> BoxFuture<'c, Result<Vec<PgRow>, StoreError>> {
    let rows = connection.fetch_all(sql);
    Box::pin(async move { Ok(rows.await?) })
}

/// The same at the end of a transaction in which handlers have worked.
fn rows_at_the_end<'c>(
    connection: &'c mut PgConnection,
    sql: &'c str,
) -> BoxFuture<'c, Result<Vec<PgRow>, StoreError>> {
    let rows = connection.fetch_all(sql);
    Box::pin(async move { rows.await.map_err(at_the_end) })
}

/// Runs statements at the end of a part of a transaction in which handlers have worked.
fn end_part<'c>(connection: &'c mut PgConnection, sql: &'c str) -> BoxFuture<'c, Result<(), StoreError>> {
    let executed = connection.execute(sql);
    Box::pin(async move { executed.await.map(|_| ()).map_err(at_the_end) })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error itself, without the class that it was put into.
fn root(error: StoreError) -> BoxError {
    match error {
        StoreError::Outage(source)
        | StoreError::Setup(source)
        | StoreError::Stale(source)
        | StoreError::Other(source) => source,
        error => error.into(),
    }
}

//! Onceward's connections to PostgreSQL, and statements on them.

use super::StoreError;
use super::leftovers::Leftovers;
use crate::BoxError;
use crate::base::sync::lock;
use crate::dedupe::outage::at_the_end;
use crate::dedupe::tx::{self, Tx};
use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{Connection, Executor};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long to wait for a lock before an identity counts as in progress elsewhere.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait for a connection, new or free.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A few connections, kept open. sqlx's pool asks the server on each return
/// whether the connection is alive, a round trip a run; here a broken one is found
/// when it is used, which an outage is anyway.
pub(super) struct Connections {
    options: PgConnectOptions,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<(PgConnection, Leftovers)>>,
    /// Statements that set a connection up.
    pub(super) settings: Arc<str>,
}

#[derive(Debug)]
pub(crate) struct Pooled {
    pub(super) tx: Tx,
    pub(super) leftovers: Leftovers,
    /// Whether another run had it before.
    pub(super) is_kept: bool,
    _permit: OwnedSemaphorePermit,
}

impl Pooled {
    /// What an error on it means: a new connection remembers nothing.
    pub(super) fn judged(&self, error: StoreError) -> StoreError {
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
    pub(super) fn new(options: PgConnectOptions, most: usize, idle_limit: Duration) -> Self {
        Self {
            options: options.application_name("onceward"),
            permits: Arc::new(Semaphore::new(most)),
            idle: Mutex::default(),
            settings: settings(idle_limit).into(),
        }
    }

    pub(super) async fn get(&self) -> Result<Pooled, StoreError> {
        let connecting = async {
            let permit = self.permits.clone().acquire_owned().await;
            let permit = permit.map_err(|error| StoreError::Outage(error.into()))?;
            let idle = lock(&self.idle).pop();
            let is_kept = idle.is_some();
            let (connection, leftovers) = match idle {
                Some(idle) => idle,
                None => self.open().await?,
            };
            Ok(Pooled { tx: Tx::on(connection), leftovers, is_kept, _permit: permit })
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| {
            Err(StoreError::Outage(format!("no connection within {CONNECT_TIMEOUT:?}").into()))
        })
    }

    /// Closes those that nobody uses. Where one connection is broken or outdated the others likely are, and
    /// each would cost a failed run.
    pub(super) fn close_idle(&self) {
        lock(&self.idle).clear();
    }

    pub(super) fn put_back(&self, pooled: Pooled) {
        // What was prepared stays until the connection ends.
        if !pooled.tx.left.prepared && tx::is_sound(&pooled.tx.connection) {
            lock(&self.idle).push((pooled.tx.connection, pooled.leftovers));
        }
    }

    pub(super) async fn open(&self) -> Result<(PgConnection, Leftovers), StoreError> {
        let mut connection = PgConnection::connect_with(&self.options).await?;
        tx::begin(&mut connection).await?;
        execute(&mut connection, "rollback").await?;
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
pub(super) fn rows_at_the_end<'c>(
    connection: &'c mut PgConnection,
    sql: &'c str,
) -> BoxFuture<'c, Result<Vec<PgRow>, StoreError>> {
    let rows = connection.fetch_all(sql);
    Box::pin(async move { rows.await.map_err(at_the_end) })
}

/// Runs statements at the end of a part of a transaction in which handlers have worked.
pub(super) fn end_part<'c>(
    connection: &'c mut PgConnection,
    sql: &'c str,
) -> BoxFuture<'c, Result<(), StoreError>> {
    let executed = connection.execute(sql);
    Box::pin(async move { executed.await.map(|_| ()).map_err(at_the_end) })
}

/// The error itself, without the class that it was put into.
pub(super) fn root(error: StoreError) -> BoxError {
    match error {
        StoreError::Outage(source)
        | StoreError::Setup(source)
        | StoreError::Stale(source)
        | StoreError::Other(source) => source,
        error => error.into(),
    }
}

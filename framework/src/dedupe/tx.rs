//! The record's PostgreSQL transaction, as a handler gets it.

#[cfg(feature = "postgres")]
pub use with_postgres::Tx;
#[cfg(feature = "postgres")]
pub(crate) use with_postgres::{begin, is_sound};

/// Without the feature `postgres` there is no transaction, so there is no value
/// of this type.
#[cfg(not(feature = "postgres"))]
#[derive(Debug)]
pub enum Tx {}

#[cfg(feature = "postgres")]
mod with_postgres {
    use crate::dedupe::sql::Left;
    use futures_util::future::{BoxFuture, ready};
    use futures_util::stream::{self, BoxStream};
    use sqlx::TransactionManager;
    use sqlx::postgres::PgTransactionManager;
    use sqlx::{Acquire, Describe, Either, Error, Execute, Executor, PgConnection, Postgres, Transaction};
    use sqlx::{postgres::PgQueryResult, postgres::PgRow, postgres::PgStatement, postgres::PgTypeInfo};
    use std::fmt;

    /// The transaction in which a record is handled: its effects, the note that
    /// it was done and its outgoing events commit together, or none of them does.
    ///
    /// `&mut Tx` is an sqlx `Executor`: `.execute(tx)`, or `.execute(&mut *tx)`
    /// where it is used again. It is an `Acquire`, too: `tx.begin()` opens a savepoint, and
    /// what was done since it was opened is undone if it is dropped. Code that takes a
    /// `&mut PgConnection` gets [`connection`](Self::connection).
    ///
    /// ```
    /// use onceward::prelude::*;
    /// use sqlx::{Acquire, PgConnection};
    ///
    /// /// As in any repository: two statements that count together.
    /// async fn move_gate(connection: &mut PgConnection, flight: i64, gate: &str) -> sqlx::Result<()> {
    ///     let mut both = connection.begin().await?;
    ///     sqlx::query("delete from gates where flight = $1").bind(flight).execute(&mut *both).await?;
    ///     sqlx::query("insert into gates values ($1, $2)").bind(flight).bind(gate).execute(&mut *both).await?;
    ///     both.commit().await
    /// }
    ///
    /// #[handler(topic = "gates", group = "gates")]
    /// async fn on_gate(Key(flight): Key<i64>, gate: &[u8], tx: &mut Tx) -> HandlerResult {
    ///     move_gate(tx.connection(), flight, str::from_utf8(gate)?).await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// A handler may be called more than once for a record: a run is rolled back
    /// and repeated when a neighbour fails or the connection breaks. What it does
    /// through the transaction counts once.
    ///
    /// The transaction belongs to the run and holds other records too, so a
    /// handler cannot end it: `COMMIT`, `ROLLBACK` and the like are refused, and
    /// the record fails. If a statement fails, let the error out: PostgreSQL has
    /// aborted the transaction by then, and a handler that returns `Ok` all the
    /// same is found out and its record fails.
    ///
    /// What else a handler does to its transaction ends with its record: a record after
    /// which a setting, a role or a temporary table is left is the last of its run. The table in
    /// [`#[handler]`](macro@crate::handler#what-a-handler-does-to-its-transaction) has each case.
    pub struct Tx {
        pub(crate) connection: PgConnection,
        /// How many the handlers have begun.
        pub(crate) statements: u64,
        /// What they have left.
        pub(crate) left: Left,
        /// A call has had the connection, and nobody saw what it did.
        pub(crate) is_unseen: bool,
    }

    /// How deep in transactions sqlx believes each connection to be. So what a handler begins is a
    /// savepoint to it, and not a second BEGIN whose COMMIT would be the run's. If a savepoint cannot
    /// be opened sqlx goes one level up, and it must not find the outermost one there, which it
    /// would roll back.
    const DEPTH: usize = 4;

    /// Begins a transaction on a new connection, and has sqlx count on from [`DEPTH`].
    pub(crate) async fn begin(connection: &mut PgConnection) -> Result<(), Error> {
        for _ in 0..DEPTH {
            PgTransactionManager::begin(connection, None).await?;
        }
        Ok(())
    }

    /// Whether sqlx still counts so.
    pub(crate) fn is_sound(connection: &PgConnection) -> bool {
        PgTransactionManager::get_transaction_depth(connection) == DEPTH
    }

    impl Tx {
        /// In a transaction that was [begun](begin).
        pub(crate) fn on(connection: PgConnection) -> Self {
            Self { connection, statements: 0, left: Left::default(), is_unseen: false }
        }

        /// The connection itself, for code that takes a `&mut PgConnection`.
        ///
        /// sqlx's own `begin` and `commit` on it are savepoints. Onceward does not see its
        /// statements, so none is refused, and what the table in
        /// [`#[handler]`](macro@crate::handler#what-a-handler-does-to-its-transaction) calls refused
        /// must not be done: above all no `COMMIT` or `ROLLBACK` as a text. It is found out:
        /// after the call one statement more asks whether it is still the same transaction.
        /// If it is not, the record counts as failed for good and goes to its dead-letter topic, what
        /// was committed of it stays, and the other records of the run are handled as if nothing had been.
        /// What else a call leaves is found at the COMMIT, as with a function of the database.
        pub fn connection(&mut self) -> &mut PgConnection {
            self.statements += 1;
            self.is_unseen = true;
            &mut self.connection
        }

        fn note(&mut self, sql: &str) -> Result<(), Error> {
            self.left.note(sql).map_err(Error::Protocol)
        }
    }

    impl fmt::Debug for Tx {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Tx")
        }
    }

    impl<'c> Acquire<'c> for &'c mut Tx {
        type Database = Postgres;

        type Connection = &'c mut PgConnection;

        fn acquire(self) -> BoxFuture<'c, Result<Self::Connection, Error>> {
            Box::pin(ready(Ok(self.connection())))
        }

        fn begin(self) -> BoxFuture<'c, Result<Transaction<'c, Postgres>, Error>> {
            self.connection().begin()
        }
    }

    impl<'c> Executor<'c> for &'c mut Tx {
        type Database = Postgres;

        fn fetch_many<'e, 'q: 'e, E>(
            self,
            query: E,
        ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
        where
            'c: 'e,
            E: 'q + Execute<'q, Postgres>,
        {
            self.statements += 1;
            match self.note(query.sql()) {
                Ok(()) => self.connection.fetch_many(query),
                Err(error) => Box::pin(stream::iter([Err(error)])),
            }
        }

        fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
        where
            'c: 'e,
            E: 'q + Execute<'q, Postgres>,
        {
            self.statements += 1;
            match self.note(query.sql()) {
                Ok(()) => self.connection.fetch_optional(query),
                Err(error) => Box::pin(std::future::ready(Err(error))),
            }
        }

        fn prepare_with<'e, 'q: 'e>(
            self,
            sql: &'q str,
            parameters: &'e [PgTypeInfo],
        ) -> BoxFuture<'e, Result<PgStatement<'q>, Error>>
        where
            'c: 'e,
        {
            self.statements += 1;
            self.connection.prepare_with(sql, parameters)
        }

        fn describe<'e, 'q: 'e>(self, sql: &'q str) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
        where
            'c: 'e,
        {
            self.statements += 1;
            self.connection.describe(sql)
        }
    }
}

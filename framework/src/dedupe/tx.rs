//! The record's PostgreSQL transaction, as a handler gets it.

#[cfg(feature = "postgres")]
pub use with_postgres::Tx;

/// Without the feature `postgres` there is no transaction, so there is no value
/// of this type.
#[cfg(not(feature = "postgres"))]
#[derive(Debug)]
pub enum Tx {}

#[cfg(feature = "postgres")]
mod with_postgres {
    use crate::dedupe::sql::Left;
    use futures_util::future::BoxFuture;
    use futures_util::stream::{self, BoxStream};
    use sqlx::{Describe, Either, Error, Execute, Executor, PgConnection, Postgres};
    use sqlx::{postgres::PgQueryResult, postgres::PgRow, postgres::PgStatement, postgres::PgTypeInfo};
    use std::fmt;

    /// The transaction in which a record is handled: its effects, the note that
    /// it was done and its outgoing events commit together, or none of them does.
    ///
    /// `&mut Tx` is an sqlx `Executor`: `.execute(tx)`, or `.execute(&mut *tx)`
    /// where it is used again.
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
    }

    impl Tx {
        fn note(&mut self, sql: &str) -> Result<(), Error> {
            self.left.note(sql).map_err(Error::Protocol)
        }
    }

    impl fmt::Debug for Tx {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Tx")
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

//! A transaction for a handler that a test calls.

use crate::config::database_url;
use crate::dedupe::tx::{self, Tx};
use crate::{BoxError, Error};
use sqlx::{Connection, PgConnection};

/// Begins a transaction in the database at this URL, to call a handler with that takes `&mut Tx`.
///
/// What the handler does is rolled back when the value is dropped; until then the test sees it
/// through the same value. Nothing stands around the call: no record is claimed, nothing is committed,
/// and what would be found out at a COMMIT is not.
///
/// ```no_run
/// use onceward::prelude::*;
///
/// #[handler(topic = "flights", group = "totals")]
/// async fn on_flight(Key(tailnum): Key<&str>, tx: &mut Tx) -> HandlerResult {
///     sqlx::query("insert into totals values ($1, 1)").bind(tailnum).execute(tx).await?;
///     Ok(())
/// }
///
/// #[tokio::test]
/// async fn a_flight_is_counted() {
///     let mut tx = onceward::testing::tx("postgres://app:secret@127.0.0.1/app").await.unwrap();
///     on_flight(Key("N14228"), &mut tx).await.unwrap();
///     let counted: i64 = sqlx::query_scalar("select sum(flights)::bigint from totals where tailnum = 'N14228'")
///         .fetch_one(&mut tx)
///         .await
///         .unwrap();
///     assert_eq!(counted, 1);
/// }
/// ```
///
/// # Errors
/// Where the database cannot be reached, with its setting `database_url` named.
pub async fn tx(database_url: &str) -> Result<Tx, Error> {
    let failed = |source: sqlx::Error| Error::Store {
        action: "begin a transaction for a test".to_owned(),
        source: BoxError::from(source),
    };
    let options = database_url::options(database_url)?;
    let mut connection = PgConnection::connect_with(&options).await.map_err(failed)?;
    tx::begin(&mut connection).await.map_err(failed)?;
    Ok(Tx::on(connection))
}

//! The table `flights_totals`.

use crate::totals::{Planes, Totals};
use crate::{Result, settings};
use sqlx::{Connection, PgConnection, PgPool};

/// Creates or updates the table.
pub(crate) async fn migrate() -> Result<()> {
    // A future that migrates by a connection of its own is not `Send`.
    let pool = PgPool::connect(&settings::database_url()?).await.map_err(not_connected)?;
    let mut migrator = sqlx::migrate!();
    // Another application of this database may keep its migrations in the same place.
    migrator.set_ignore_missing(true);
    migrator.run(&pool).await.map_err(|error| format!("cannot migrate the table flights_totals: {error}"))?;
    pool.close().await;
    Ok(())
}

/// Reads all rows.
pub(crate) async fn read() -> Result<Planes> {
    let mut connection = PgConnection::connect(&settings::database_url()?).await.map_err(not_connected)?;
    let rows: Vec<Totals> =
        sqlx::query_as("select * from flights_totals").fetch_all(&mut connection).await.map_err(|error| {
            format!("cannot read the table flights_totals, which `flights serve` makes: {error}")
        })?;
    connection.close().await.map_err(|error| format!("cannot leave the database (DATABASE_URL): {error}"))?;
    Ok(rows.into_iter().collect())
}

fn not_connected(error: sqlx::Error) -> String {
    format!("cannot connect to the database (DATABASE_URL): {error}")
}

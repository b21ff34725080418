//! The table `flights_totals`.

use crate::totals::{Planes, Totals};
use crate::{Result, settings};
use sqlx::{Connection, PgConnection};

/// Brings the table up to date.
pub(crate) async fn migrate() -> Result<()> {
    let mut connection = connect().await?;
    let mut migrator = sqlx::migrate!();
    // Another application of this database may keep its migrations in the same place.
    migrator.set_ignore_missing(true);
    migrator
        .run(&mut connection)
        .await
        .map_err(|error| format!("cannot migrate the table flights_totals: {error}"))?;
    close(connection).await
}

/// All its rows.
pub(crate) async fn read() -> Result<Planes> {
    let mut connection = connect().await?;
    let rows: Vec<Totals> =
        sqlx::query_as("select * from flights_totals").fetch_all(&mut connection).await.map_err(|error| {
            format!("cannot read the table flights_totals, which `flights serve` makes: {error}")
        })?;
    close(connection).await?;
    Ok(rows.into_iter().collect())
}

async fn connect() -> Result<PgConnection> {
    PgConnection::connect(&settings::database_url()?)
        .await
        .map_err(|error| format!("cannot connect to the database (DATABASE_URL): {error}"))
}

async fn close(connection: PgConnection) -> Result<()> {
    connection.close().await.map_err(|error| format!("cannot leave the database (DATABASE_URL): {error}"))
}

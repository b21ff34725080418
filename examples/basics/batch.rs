//! A handler that takes all records of a run at once, and writes them with one
//! statement in the run's transaction. It needs a PostgreSQL:
//!
//! ```text
//! DATABASE_URL=postgres://user:password@localhost/database cargo run -p basics --example batch
//! ```

#![allow(clippy::print_stdout, reason = "an example prints")]

use onceward::prelude::*;
use onceward::testing::{TestBroker, TestRecord, run_until};
use sqlx::{Connection, PgConnection};
use std::collections::BTreeMap;

/// Counts the departures of each airport. It is called once per run, without duplicates. Its
/// writes and the note that the records were processed are committed together.
#[handler(topic = "departures", group = "airports")]
async fn count(airports: Batch<Key<String>>, tx: &mut Tx) -> HandlerResult {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for Key(airport) in airports {
        *counts.entry(airport).or_default() += 1;
    }
    println!("a run of {} departures", counts.values().sum::<i64>());
    let (airports, counts): (Vec<_>, Vec<_>) = counts.into_iter().unzip();
    // Sorted by the map, so that two runs lock the same rows in the same order.
    sqlx::query(
        "insert into example_airports as a (airport, departures) select * from unnest($1::text[], $2::bigint[])
         on conflict (airport) do update set departures = a.departures + excluded.departures",
    )
    .bind(airports)
    .bind(counts)
    .execute(tx)
    .await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), onceward::BoxError> {
    // Logs INFO and above. Without a subscriber, Onceward logs nothing.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let url =
        std::env::var("DATABASE_URL").map_err(|_| "this example needs a PostgreSQL: set DATABASE_URL")?;
    let mut database = PgConnection::connect(&url).await?;
    sqlx::raw_sql(
        "create table if not exists example_airports (airport text primary key, departures bigint not null)",
    )
    .execute(&mut database)
    .await?;

    let broker = TestBroker::start()?;
    broker.topic("departures", 3)?;
    let airports = ["EWR", "JFK", "LGA"].into_iter().cycle().take(1000);
    broker.produce("departures", airports.map(|airport| TestRecord::new("").key(airport))).await?;

    let app = broker.app().database_url(url).migrate(true).handler(count {});
    run_until(app, broker.caught_up("airports", "departures")).await?;

    let rows = sqlx::query_as::<_, (String, i64)>("select * from example_airports order by airport");
    for (airport, departures) in rows.fetch_all(&mut database).await? {
        println!("{airport}: {departures}");
    }
    Ok(())
}

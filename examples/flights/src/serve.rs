//! `flights serve`: keeps one row per plane.

use crate::args::{Args, Options};
use crate::flight::Flight;
use crate::totals::{Planes, Totals};
use crate::{Result, settings, table};
use onceward::prelude::*;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

pub(crate) const OPTIONS: Options = Options { operand: None, flags: &["--batch"], values: &["--format"] };

/// How long the topic may take to appear.
const TOPIC_LIMIT: Duration = Duration::from_secs(300);

/// Adds a flight to its plane's totals.
#[handler(topic = "flights", group = "flights")]
async fn on_flight(Json(flight): Json<Flight>, tx: &mut Tx) -> HandlerResult {
    add(&flight, tx).await
}

/// The same from Avro.
#[handler(topic = "flights", group = "flights", name = "on_flight")]
async fn on_avro_flight(Avro(flight): Avro<Flight>, tx: &mut Tx) -> HandlerResult {
    add(&flight, tx).await
}

async fn add(flight: &Flight, tx: &mut Tx) -> HandlerResult {
    sqlx::query(
        "insert into flights_totals as t (tailnum, flights, cancelled, dep_delay_sum, distance_sum, chain)
         values ($1, 1, $2, $3, $4, md5($5))
         on conflict (tailnum) do update set
             flights = t.flights + 1,
             cancelled = t.cancelled + excluded.cancelled,
             dep_delay_sum = t.dep_delay_sum + excluded.dep_delay_sum,
             distance_sum = t.distance_sum + excluded.distance_sum,
             chain = md5(t.chain || $5)",
    )
    .bind(&flight.tailnum)
    .bind(i64::from(flight.is_cancelled()))
    .bind(flight.delay())
    .bind(i64::from(flight.distance))
    .bind(&flight.event_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// The same for a whole run in two statements. Both handlers have one name, so records that one
/// has processed are duplicates for the other.
///
/// Rows are locked and written in the order of their keys. Partitions share no key, so two runs
/// never lock the same row; if they did, this order would prevent a deadlock.
#[handler(topic = "flights", group = "flights", name = "on_flight")]
async fn on_flights(flights: Batch<Json<Flight>>, tx: &mut Tx) -> HandlerResult {
    add_all(flights.iter().map(|flight| &flight.0).collect(), tx).await
}

/// The same from Avro.
#[handler(topic = "flights", group = "flights", name = "on_flight")]
async fn on_avro_flights(flights: Batch<Avro<Flight>>, tx: &mut Tx) -> HandlerResult {
    add_all(flights.iter().map(|flight| &flight.0).collect(), tx).await
}

async fn add_all(flights: Vec<&Flight>, tx: &mut Tx) -> HandlerResult {
    let mut planes = lock(&flights, tx).await?;
    for flight in flights {
        planes.add(flight);
    }
    upsert(&planes, tx).await?;
    Ok(())
}

async fn lock(flights: &[&Flight], tx: &mut Tx) -> sqlx::Result<Planes> {
    let keys: BTreeSet<&str> = flights.iter().map(|flight| flight.tailnum.as_str()).collect();
    let rows: Vec<Totals> =
        sqlx::query_as("select * from flights_totals where tailnum = any($1) order by tailnum for update")
            .bind(Vec::from_iter(keys))
            .fetch_all(tx)
            .await?;
    Ok(rows.into_iter().collect())
}

async fn upsert(planes: &Planes, tx: &mut Tx) -> sqlx::Result<()> {
    let numbers = |column: fn(&Totals) -> i64| planes.rows().map(column).collect::<Vec<_>>();
    let texts = |column: fn(&Totals) -> &str| planes.rows().map(column).collect::<Vec<_>>();
    sqlx::query(
        "insert into flights_totals (tailnum, flights, cancelled, dep_delay_sum, distance_sum, chain)
         select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])
         on conflict (tailnum) do update set
             flights = excluded.flights,
             cancelled = excluded.cancelled,
             dep_delay_sum = excluded.dep_delay_sum,
             distance_sum = excluded.distance_sum,
             chain = excluded.chain",
    )
    .bind(texts(|plane| &plane.tailnum))
    .bind(numbers(|plane| plane.flights))
    .bind(numbers(|plane| plane.cancelled))
    .bind(numbers(|plane| plane.dep_delay_sum))
    .bind(numbers(|plane| plane.distance_sum))
    .bind(texts(|plane| &plane.chain))
    .execute(tx)
    .await?;
    Ok(())
}

/// Runs a handler until the process is told to stop.
pub(crate) async fn serve(args: &Args) -> Result<()> {
    let (batch, avro) = (args.has("--batch"), args.is_avro()?);
    // RUST_LOG says otherwise. sqlx's notices of tables that are there already are no news.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let stderr = std::io::stderr;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr().is_terminal())
        .with_writer(stderr)
        .init();
    // Its Debug is one line with the reason.
    run(batch, avro).await.map_err(|error| format!("{error:?}"))
}

async fn run(batch: bool, avro: bool) -> std::result::Result<(), onceward::Error> {
    let app = App::from_env()?.migrate(true).wait_for_topics(TOPIC_LIMIT);
    // When the settings are right: what is wrong with them is told without a database.
    let app = app.on_start(async || Ok(table::migrate().await?));
    let (topic, group) = (settings::topic(), settings::group());
    let app = match (batch, avro) {
        (false, false) => app.handler(on_flight {}.route().topic(topic).group(group)),
        (false, true) => app.handler(on_avro_flight {}.route().topic(topic).group(group)),
        (true, false) => app.handler(on_flights {}.route().topic(topic).group(group)),
        (true, true) => app.handler(on_avro_flights {}.route().topic(topic).group(group)),
    };
    app.run().await
}

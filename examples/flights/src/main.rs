//! A year of real flights, from Kafka into one row per plane, exactly once.
//!
//! ```text
//! make stack-up                  # Kafka and PostgreSQL
//! source target/stack/env        # KAFKA_BROKERS, DATABASE_URL, SCHEMA_REGISTRY_URL
//! cargo run --release -p flights -- produce
//! cargo run --release -p flights -- serve      # until Ctrl-C
//! cargo run --release -p flights -- verify     # `keys differ: 0`
//! ```
//!
//! The handlers are in `serve.rs`, the event is in `flight.rs`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool prints")]

mod args;
mod avro;
mod copies;
mod flight;
mod produce;
mod selection;
mod serve;
mod settings;
mod table;
mod totals;
mod verify;

use args::Args;
// Takes the place of `malloc`: librdkafka allocates a record in one thread and frees it in another.
use mimalloc as _;
use std::process::ExitCode;

/// A failure, in one sentence for the user.
pub(crate) type Result<T> = std::result::Result<T, String>;

const USAGE: &str = "\
flights produce [FILE] [SELECTION] [--format FORMAT] [--duplicates PERCENT] [--forwarded] [--rate N]
    Produces one record a row of FILE, a CSV or CSV.xz (default: the bundled year).
    --format FORMAT       json (default), or avro by schemas that it registers: a first version, then
                          one with a field more, then one with a field renamed
    --duplicates PERCENT  that share of the events twice: every second copy within 50 records,
                          the others within 100,000; one in three on the other side of midnight
    --forwarded           with headers that a forwarder copied from a record that Onceward wrote
    --rate N              at most N records a second
flights serve [--format FORMAT] [--batch]
    Reads the topic and keeps flights_totals, until SIGTERM or Ctrl-C. --batch: a run at once.
flights verify [TRUTH] [--data FILE] [--unordered] [SELECTION]
    Compares flights_totals with TRUTH (default: the bundled one), or with what comes out of FILE
    or of a selection. Exit code 0: equal, 1: keys differ, 2: could not be compared.
    --unordered           leaves out the chain, which tells the order
flights truth [FILE] [SELECTION]
    Prints what flights_totals must hold in the end.

SELECTION, the same for a topic and its truth:
    --from ROW --to ROW   rows from ROW on, up to and without ROW, counted from 0
    --sample N            one key in N, with all its rows
    --seed S              which keys, and which duplicates (default 0)

Environment: KAFKA_BROKERS, DATABASE_URL, FLIGHTS_TOPIC (flights), FLIGHTS_GROUP (flights),
FLIGHTS_PARTITIONS (12, for a topic that does not exist yet); for Avro SCHEMA_REGISTRY_URL.";

#[tokio::main]
async fn main() -> ExitCode {
    run(std::env::args().skip(1).collect()).await.unwrap_or_else(|error| {
        eprintln!("flights: {error}");
        ExitCode::from(2)
    })
}

async fn run(args: Vec<String>) -> Result<ExitCode> {
    let Some((command, args)) = args.split_first() else { return Err(format!("no command\n\n{USAGE}")) };
    match command.as_str() {
        "produce" => produce::produce(&Args::parse(args, &produce::OPTIONS)?).await?,
        "serve" => serve::serve(&Args::parse(args, &serve::OPTIONS)?).await?,
        "verify" => return verify::verify(&Args::parse(args, &verify::OPTIONS)?).await,
        "truth" => totals::print(&Args::parse(args, &totals::OPTIONS)?)?,
        "help" | "--help" | "-h" => println!("{USAGE}"),
        other => return Err(format!("there is no command `{other}`\n\n{USAGE}")),
    }
    Ok(ExitCode::SUCCESS)
}

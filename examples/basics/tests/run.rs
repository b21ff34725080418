//! Examples as they are run, and what they print. `versions` has tests of its own.

#![allow(clippy::print_stdout, reason = "it says what is left out")]

use sqlx::{Connection, PgConnection};
use std::process::Command;

/// What an example prints, with this database.
fn printed_by(example: &str, database_url: &str) -> String {
    let tests = std::env::current_exe().expect("this program has a path");
    let program = tests.ancestors().nth(2).expect("the folder of a profile").join("examples").join(example);
    assert!(program.exists(), "{} is not built: cargo build -p basics --examples", program.display());
    let output =
        Command::new(program).env("DATABASE_URL", database_url).output().expect("the example starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_middleware_lets_one_region_through() {
    assert_eq!(printed_by("middleware", ""), "order a: 12 EUR\norder c: 31 EUR\n");
}

#[test]
fn each_event_type_has_a_handler() {
    assert_eq!(printed_by("event_types", ""), "N14228 left EWR\nN14228 is in IAH\n");
}

#[tokio::test]
async fn a_batch_counts_the_departures_of_each_airport() {
    let Ok(url) = std::env::var("DATABASE_URL") else {
        println!("left out: it needs a PostgreSQL (`make test`, or `make stack-up` first)");
        return;
    };
    let name = format!("basics_{}", std::process::id());
    let mut connection = PgConnection::connect(&url).await.expect("PostgreSQL answers");
    let sql = format!("drop database if exists {name}; create database {name}");
    for statement in sql.split(';') {
        sqlx::query(statement).execute(&mut connection).await.expect("the database is made");
    }
    let base = url.rsplit_once('/').expect("a URL with a database").0;
    let printed = printed_by("batch", &format!("{base}/{name}"));
    assert!(printed.ends_with("EWR: 334\nJFK: 333\nLGA: 333\n"), "{printed}");
}

//! Settings from the environment.

use crate::Result;

/// The bundled year.
pub(crate) const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights.csv.xz");

/// The right result for it.
pub(crate) const TRUTH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights-truth.csv");

pub(crate) fn brokers() -> Result<String> {
    variable("KAFKA_BROKERS").ok_or_else(|| {
        "KAFKA_BROKERS is not set: name the brokers, as in KAFKA_BROKERS=localhost:9092, \
         or source target/stack/env"
            .into()
    })
}

pub(crate) fn database_url() -> Result<String> {
    variable("DATABASE_URL").ok_or_else(|| {
        "DATABASE_URL is not set: name the database, as in DATABASE_URL=postgres://user@localhost/name, \
         or source target/stack/env"
            .into()
    })
}

pub(crate) fn registry() -> Result<String> {
    variable("SCHEMA_REGISTRY_URL").ok_or_else(|| {
        "SCHEMA_REGISTRY_URL is not set: name the registry, as in SCHEMA_REGISTRY_URL=http://localhost:8081, \
         or source target/stack/env"
            .into()
    })
}

pub(crate) fn topic() -> String {
    variable("FLIGHTS_TOPIC").unwrap_or_else(|| "flights".into())
}

pub(crate) fn group() -> String {
    variable("FLIGHTS_GROUP").unwrap_or_else(|| "flights".into())
}

pub(crate) fn partitions() -> Result<i32> {
    let Some(text) = variable("FLIGHTS_PARTITIONS") else { return Ok(12) };
    text.parse()
        .ok()
        .filter(|partitions| *partitions > 0)
        .ok_or_else(|| format!("FLIGHTS_PARTITIONS is `{text}`: make it a number of partitions, 1 or more"))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

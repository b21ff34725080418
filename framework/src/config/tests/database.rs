//! A `DATABASE_URL` that is somebody else's.

use super::from;
use crate::config::{Config, DedupeKind, Resolved};

const BROKERS: (&str, &str) = ("KAFKA_BROKERS", "127.0.0.1:1");

fn with(variables: &[(&str, &str)], needs_database: bool) -> Resolved {
    let config = from(&[&[BROKERS], variables].concat()).unwrap();
    config.without_foreign_database(needs_database).resolve().unwrap()
}

#[test]
fn a_database_that_is_not_needed_is_not_judged() {
    let theirs = ("DATABASE_URL", "mysql://x@y/z");
    let config = with(&[theirs], false);
    assert_eq!((config.database_url, config.dedupe), (None, DedupeKind::Off));
    // Asked for in any way, it stays, and is refused where it is connected to.
    for (variables, needs_database) in [
        (&[theirs][..], true),
        (&[theirs, ("ONCEWARD_DEDUPE", "postgres")], false),
        (&[theirs, ("ONCEWARD_MIGRATE", "true")], false),
        (&[("ONCEWARD_DATABASE_URL", "mysql://x@y/z")], false),
    ] {
        let config = with(variables, needs_database);
        assert_eq!(config.dedupe, DedupeKind::Postgres);
        assert!(config.database_url.is_some());
    }
}

#[cfg(feature = "postgres")]
#[test]
fn a_database_that_can_be_used_is_used() {
    let config = with(&[("DATABASE_URL", "postgresql://x@y/z")], false);
    assert_eq!(config.dedupe, DedupeKind::Postgres);
    assert_eq!(with(&[("ONCEWARD_DATABASE_URL", " ")], false).dedupe, DedupeKind::Off);
}

#[test]
fn the_error_names_the_variable_that_it_came_from() {
    let config: Config = from(&[BROKERS, ("DATABASE_URL", "mysql://x:hunter2@y/z")]).unwrap();
    let error = config.origins.place(crate::Error::config("database_url", "is wrong")).to_string();
    assert!(error.contains("variable `DATABASE_URL`"), "{error}");
}

//! What is taken from the environment, what is refused, and what is kept secret.

mod database;
mod kafka;
mod secrets;
mod sources;

use super::{Config, Start};
use crate::config::TraceMode;
use crate::config::promises::OURS;
use crate::error::Error;
use crate::kafka::client_config::ClientSettings as _;
use std::time::Duration;

fn from(variables: &[(&str, &str)]) -> Result<Config, Error> {
    Config::from_sources(variables.iter().map(|(name, value)| (name.into(), value.into())))
}

fn refused(variables: &[(&str, &str)]) -> String {
    let resolved = from(variables).and_then(Config::resolve);
    resolved.and_then(|resolved| resolved.check_times()).expect_err("refused").to_string()
}

/// A file of a test, gone at its end.
struct File(std::path::PathBuf);

impl File {
    fn new(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("onceward-{}.toml", fastrand::u64(..)));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn read(text: &str) -> Result<Config, Error> {
        Config::file(&Self::new(text).0)
    }

    fn refused(text: &str) -> String {
        let error = Self::read(text).and_then(Config::resolve).err().expect("refused");
        error.to_string()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_environment_reaches_every_kind_of_setting() {
    let config = from(&[
        ("KAFKA_BROKERS", "a:1"),
        ("ONCEWARD_DRAIN_DEADLINE", "2s"),
        ("ONCEWARD_MAX_RUN_RECORDS", "7"),
        ("ONCEWARD_START", "time:5"),
        ("ONCEWARD_KAFKA__FETCH_WAIT_MAX_MS", "100"),
        ("ONCEWARD_HANDLERS__ON_FLIGHT__TOPIC", "other"),
        ("PATH", "ignored"),
    ])
    .unwrap();
    assert_eq!(config.brokers.as_deref(), Some("a:1"));
    assert_eq!(config.drain_deadline, Some(Duration::from_secs(2)));
    assert_eq!(config.max_run_records, Some(7));
    assert_eq!(config.start, Some(Start::Time(5)));
    assert_eq!(config.kafka["fetch.wait.max.ms"], "100");
    assert_eq!(config.handlers["on_flight"].topic.as_deref(), Some("other"));
}

#[test]
fn the_stronger_source_wins_setting_by_setting() {
    let strong = from(&[("KAFKA_BROKERS", "strong:1")]).unwrap();
    let weak = from(&[("KAFKA_BROKERS", "weak:1"), ("ONCEWARD_START", "latest")]).unwrap();
    let config = strong.over(weak);
    assert_eq!((config.brokers.as_deref(), config.start), (Some("strong:1"), Some(Start::Latest)));
}

#[test]
fn what_is_wrong_is_refused_by_the_name_of_the_setting() {
    let brokers = ("KAFKA_BROKERS", "a:1");
    assert!(refused(&[]).contains("KAFKA_BROKERS"));
    assert!(refused(&[brokers, ("ONCEWARD_DRAIN_DEADLIN", "2s")]).contains("drain_deadlin"));
    assert!(refused(&[brokers, ("ONCEWARD_DRAIN_DEADLINE", "2 parsecs")]).contains("drain_deadline"));
    assert!(refused(&[brokers, ("ONCEWARD_MAX_RUN_RECORDS", "0")]).contains("max_run_records"));
    assert!(refused(&[brokers, ("ONCEWARD_START", "sometime")]).contains("`ONCEWARD_START`"));
    for (property, _) in OURS {
        let variable = format!("ONCEWARD_KAFKA__{}", property.replace('.', "_").to_uppercase());
        assert!(refused(&[brokers, (&variable, "x")]).contains("would undo a promise"), "{property}");
    }
    assert!(refused(&[brokers, ("ONCEWARD_DRAIN_DEADLINE", "4min")]).contains("max.poll.interval.ms"));
    assert!(refused(&[brokers, ("ONCEWARD_DRAIN_DEADLINE", "50s")]).contains("session.timeout.ms"));
}

#[test]
fn spans_are_not_asked_for_in_vain() {
    let mode = |mode| from(&[("KAFKA_BROKERS", "a:1"), ("ONCEWARD_TRACE", mode)]).and_then(Config::resolve);
    assert_eq!(mode("off").unwrap().trace, TraceMode::Off);
    match mode("parent") {
        Ok(config) => assert!(cfg!(feature = "otel") && config.trace == TraceMode::Parent),
        Err(error) => assert!(!cfg!(feature = "otel") && error.to_string().contains("`otel`")),
    }
    assert!(mode("sideways").err().expect("refused").to_string().contains("`link`, `parent`, `off`"));
}

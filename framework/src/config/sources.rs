//! Reads settings from a file and the environment.

use super::Config;
use crate::error::Error;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

impl Config {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// Where it cannot be read, or holds something that is not a setting.
    pub fn file(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::from_table(read_file(path.as_ref())?)
    }

    /// Reads the file named by `ONCEWARD_CONFIG`, if that is set, and the environment
    /// over it.
    ///
    /// # Errors
    /// As [`file`](Self::file); a variable that starts with `ONCEWARD_` and names no
    /// setting is an error too.
    pub fn from_env() -> Result<Self, Error> {
        let file = std::env::var("ONCEWARD_CONFIG").ok();
        Self::from_sources(file.as_deref().map(Path::new), std::env::vars())
    }

    pub(super) fn from_sources(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let mut table = file.map(read_file).transpose()?.unwrap_or_default();
        for (name, value) in environment {
            let path = match (&*name, name.strip_prefix("ONCEWARD_")) {
                ("KAFKA_BROKERS", _) => vec!["brokers".to_owned()],
                ("DATABASE_URL", _) => vec!["database_url".to_owned()],
                #[cfg(feature = "schemas")]
                ("SCHEMA_REGISTRY_URL", _) => vec!["schema_registry".to_owned(), "url".to_owned()],
                ("ONCEWARD_CONFIG", _) => continue,
                (_, Some(setting)) => path_of(setting),
                _ => continue,
            };
            insert(&mut table, &path, &value).map_err(|problem| Error::config(name, problem))?;
        }
        Self::from_table(table)
    }

    fn from_table(table: toml::Table) -> Result<Self, Error> {
        table.try_into().map_err(|error: toml::de::Error| {
            let text = error.to_string();
            let setting = text.lines().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
            let problem = text.lines().next().unwrap_or_default().to_owned();
            Error::config(setting.unwrap_or("config").to_owned(), problem)
        })
    }
}

fn read_file(path: &Path) -> Result<toml::Table, Error> {
    let setting = format!("ONCEWARD_CONFIG = {}", path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::config(setting.clone(), format!("cannot read the file: {error}")))?;
    text.parse()
        .map_err(|error: toml::de::Error| Error::config(setting, error.to_string().replace('\n', " ")))
}

/// `KAFKA__FETCH_WAIT_MAX_MS` to `kafka`, `fetch.wait.max.ms`.
fn path_of(variable: &str) -> Vec<String> {
    let lower = variable.to_ascii_lowercase();
    match lower.strip_prefix("kafka__") {
        Some(property) => vec!["kafka".into(), property.replace('_', ".")],
        None => lower.split("__").map(str::to_owned).collect(),
    }
}

fn insert(table: &mut toml::Table, path: &[String], text: &str) -> Result<(), String> {
    let Some((last, sections)) = path.split_last() else { return Ok(()) };
    let mut table = table;
    for section in sections {
        let entry = table.entry(section.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        table = entry.as_table_mut().ok_or_else(|| format!("`{section}` is no section"))?;
    }
    let value = text
        .parse::<i64>()
        .map(toml::Value::Integer)
        .or_else(|_| text.parse::<bool>().map(toml::Value::Boolean))
        .unwrap_or_else(|_| toml::Value::String(text.to_owned()));
    table.insert(last.clone(), value);
    Ok(())
}

pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer).map_err(|_| {
        serde::de::Error::custom("a duration is a text with a unit, such as `500ms`, `5s`, `7days`")
    })?;
    humantime::parse_duration(&text).map(Some).map_err(|error| {
        serde::de::Error::custom(format!("`{text}` is no duration such as `500ms`, `5s`, `7days`: {error}"))
    })
}

pub(super) fn properties<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let table = BTreeMap::<String, toml::Value>::deserialize(deserializer)?;
    let text = |value| match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(table.into_iter().map(|(name, value)| (name, text(value))).collect())
}

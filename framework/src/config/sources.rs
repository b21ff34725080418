//! Reads settings from a file and the environment.

use super::given::{Given, Written, path};
use super::{Config, Origin, kubernetes};
use crate::error::Error;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// Variables that other programs read too. Those with our own prefix are stronger.
const SHARED: [(&str, &str); 3] = [
    ("KAFKA_BROKERS", "brokers"),
    ("DATABASE_URL", "database_url"),
    ("SCHEMA_REGISTRY_URL", "schema_registry.url"),
];
const PREFIX: &str = "ONCEWARD_";
const FILE: &str = "ONCEWARD_CONFIG";

/// Whether a URL of a database came from a variable that is not Onceward's own.
pub(super) fn is_shared(origin: &Origin) -> bool {
    matches!(origin, Origin::Variable(name) if SHARED.iter().any(|(shared, _)| shared == name))
}

impl Config {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// Where it cannot be read, or holds something that is not a setting.
    pub fn file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let mut given = Given::default();
        given.add_file("Config::file", path.as_ref())?;
        given.config()
    }

    /// Reads the file named by `ONCEWARD_CONFIG`, if that is set, and the environment
    /// over it.
    ///
    /// # Errors
    /// As [`file`](Self::file); a variable that starts with `ONCEWARD_` and names no
    /// setting is an error too, unless Kubernetes has made it for a Service.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_sources(std::env::vars_os())
    }

    pub(super) fn from_sources(
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Error> {
        // A name that is not UTF-8 can still be meant as one of ours.
        let mut ours: BTreeMap<String, OsString> = environment
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
            .filter(|(name, _)| name.starts_with(PREFIX) || SHARED.iter().any(|(shared, _)| shared == name))
            .collect();
        let mut given = Given::default();
        if let Some(file) = ours.remove(FILE).filter(|file| !file.is_empty()) {
            given.add_file(FILE, Path::new(&file))?;
        }
        for (variable, setting) in SHARED {
            let Some(value) = ours.remove(variable) else { continue };
            let setting_variable = variable_of(setting);
            let is_of_use = cfg!(feature = "schemas") || setting != "schema_registry.url";
            if ours.contains_key(&setting_variable) {
                tracing::info!("`{variable}` is set too: `{setting_variable}` counts");
            } else if !value.is_empty() && is_of_use {
                given.add_variable(variable, setting, &value)?;
            }
        }
        for (variable, value) in &ours {
            let name = &variable[PREFIX.len()..];
            let is_link = value.to_str().is_some_and(|value| kubernetes::is_service_link(variable, value));
            if is_link {
                tracing::debug!("`{variable}` is of a Service in Kubernetes, and no setting");
            } else {
                given.add_variable(variable, &setting_of(name), value)?;
            }
        }
        given.config()
    }
}

impl Given {
    fn add_variable(&mut self, variable: &str, setting: &str, value: &OsString) -> Result<(), Error> {
        let origin = Origin::Variable(variable.to_owned());
        let text = value
            .to_str()
            .ok_or_else(|| Error::config(setting.to_owned(), "is not UTF-8").at(&origin))?
            .to_owned();
        self.set(path(setting), Written::Text(text), origin, |other| matches!(other, Origin::Variable(_)))
    }
}

/// `KAFKA__FETCH_WAIT_MAX_MS` to `kafka.fetch_wait_max_ms`: there, an underscore is a dot.
fn setting_of(variable: &str) -> String {
    let lower = variable.to_ascii_lowercase();
    match lower.strip_prefix("kafka__") {
        Some(property) => format!("kafka.{}", property.replace('_', ".")),
        None => lower.replace("__", "."),
    }
}

fn variable_of(setting: &str) -> String {
    format!("{PREFIX}{}", setting.to_ascii_uppercase().replace('.', "__"))
}

pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let refused = || serde::de::Error::custom("must be a number with a unit, such as `500ms`, `5s`, `7days`");
    let text = String::deserialize(deserializer).map_err(|_| refused())?;
    humantime::parse_duration(text.trim()).map(Some).map_err(|_| refused())
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

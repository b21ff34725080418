//! The settings of the schema registry.

use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The schema registry: its address and the login. It must offer Confluent's API, which other
/// registries do too (Apicurio under `/apis/ccompat/v7`, Karapace, Redpanda).
///
/// ```toml
/// [schema_registry]
/// url = "https://registry-a:8081,https://registry-b:8081" # asked in this order
/// username = "app"
/// password = "secret" # or token = ".."
/// ```
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SchemaRegistryConfig {
    /// Its address, several with commas, which are tried in this order. Also
    /// `SCHEMA_REGISTRY_URL`.
    pub url: Option<String>,
    /// For basic authentication.
    pub username: Option<String>,
    /// For basic authentication.
    pub password: Option<String>,
    /// For bearer authentication, instead of user name and password.
    pub token: Option<String>,
    /// A PEM file with certificate authorities to trust beside the system's; needs the feature
    /// `schemas-tls`.
    pub ca: Option<PathBuf>,
    /// A PEM file with the service's own certificate and its key, for mutual TLS; needs the
    /// feature `schemas-tls`.
    pub identity: Option<PathBuf>,
    /// What a start does if a handler's type cannot read a schema of its topics in the
    /// registry; it is refused by default.
    pub check: Option<SchemaCheck>,
    /// How long the registry may take to answer, 5 s by default.
    #[serde(default, deserialize_with = "crate::config::duration")]
    pub timeout: Option<Duration>,
}

/// Whether a start checks handlers against the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SchemaCheck {
    /// A handler that does not fit is refused; the error names the field.
    #[default]
    Refuse,
    /// A handler that does not fit is logged.
    Warn,
    /// Handlers are not checked.
    Off,
}

impl SchemaRegistryConfig {
    /// A registry at this address, several with commas.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..Self::default() }
    }

    pub(crate) fn over(self, weaker: Self) -> Self {
        Self {
            url: self.url.or(weaker.url),
            username: self.username.or(weaker.username),
            password: self.password.or(weaker.password),
            token: self.token.or(weaker.token),
            ca: self.ca.or(weaker.ca),
            identity: self.identity.or(weaker.identity),
            check: self.check.or(weaker.check),
            timeout: self.timeout.or(weaker.timeout),
        }
    }
}

impl fmt::Debug for SchemaRegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SchemaRegistryConfig")
    }
}

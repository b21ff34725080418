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
/// url = "https://registry-a:8081,https://registry-b:8081" # of one registry, asked in this order
/// username = "app"
/// password = "secret" # or token = ".."
/// ```
///
/// ```
/// use onceward::{App, SchemaRegistryConfig};
///
/// let registry = SchemaRegistryConfig::at("http://registry:8081").username("app").password("secret");
/// let app = App::new().schema_registry(registry);
/// ```
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SchemaRegistryConfig {
    /// The address, several with commas; Onceward asks them in this order. A schema that one of them has counts. One
    /// that none has is unknown if the first says so, and waited for while the first is down. Also
    /// `SCHEMA_REGISTRY_URL`.
    pub url: Option<String>,
    /// The proxy that it is asked through (`http://host:port`), or `none`. That of `HTTP_PROXY` or
    /// `HTTPS_PROXY`, by default.
    pub proxy: Option<String>,
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
    /// The draft of JSON Schemas that do not name one (`$schema`): draft 7 by default, as in other
    /// serializers.
    pub json_schema_draft: Option<JsonSchemaDraft>,
    /// How many bytes a schema's id has before a payload: 4 by default, or 8, as serializers of
    /// Apicurio write it.
    pub id_bytes: Option<u8>,
    /// Whether the indexes of a Protobuf message are written without zigzag: what Python's serializer
    /// calls `use.deprecated.format`.
    pub deprecated_message_indexes: Option<bool>,
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

/// A version of JSON Schema.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub enum JsonSchemaDraft {
    /// `draft-04`
    #[serde(rename = "draft-04")]
    Draft04,
    /// `draft-06`
    #[serde(rename = "draft-06")]
    Draft06,
    /// `draft-07`
    #[default]
    #[serde(rename = "draft-07")]
    Draft07,
    /// `2019-09`
    #[serde(rename = "2019-09")]
    Draft201909,
    /// `2020-12`
    #[serde(rename = "2020-12")]
    Draft202012,
}

impl SchemaRegistryConfig {
    /// A registry at this address, several with commas.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..Self::default() }
    }

    /// Sets the user name for basic authentication.
    #[must_use]
    pub fn username(self, name: impl Into<String>) -> Self {
        Self { username: Some(name.into()), ..self }
    }

    /// Sets the password for basic authentication.
    #[must_use]
    pub fn password(self, password: impl Into<String>) -> Self {
        Self { password: Some(password.into()), ..self }
    }

    /// Sets the token for bearer authentication.
    #[must_use]
    pub fn token(self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self }
    }

    /// Sets the file with certificates (PEM) to trust besides the system's.
    #[must_use]
    pub fn ca(self, file: impl Into<PathBuf>) -> Self {
        Self { ca: Some(file.into()), ..self }
    }

    /// Sets the file with our own certificate and its key (PEM).
    #[must_use]
    pub fn identity(self, file: impl Into<PathBuf>) -> Self {
        Self { identity: Some(file.into()), ..self }
    }

    /// Sets what happens at a start if a handler's type cannot read a schema of the registry.
    #[must_use]
    pub fn check(self, check: SchemaCheck) -> Self {
        Self { check: Some(check), ..self }
    }

    /// Sets how long an answer may take.
    #[must_use]
    pub fn timeout(self, limit: Duration) -> Self {
        Self { timeout: Some(limit), ..self }
    }

    pub(crate) fn over(self, weaker: Self) -> Self {
        Self {
            url: self.url.or(weaker.url),
            proxy: self.proxy.or(weaker.proxy),
            json_schema_draft: self.json_schema_draft.or(weaker.json_schema_draft),
            id_bytes: self.id_bytes.or(weaker.id_bytes),
            deprecated_message_indexes: self.deprecated_message_indexes.or(weaker.deprecated_message_indexes),
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

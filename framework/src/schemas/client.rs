//! Asks the registry, through `schema_registry_converter`.
//!
//! That crate keeps every error for ever and tells no status apart from another; so only its
//! calls that keep nothing are used, and a middleware of its HTTP client says what an answer
//! means (`answers.rs`).

use super::answers::{Answer, Answers, answer_in, causes, describe};
use super::references::Referenced;
#[cfg(feature = "schemas-tls")]
use super::tls::with_certificates;
use super::{Parsed, Schema, SchemaFormat, SubjectVersion};
use crate::Error;
use crate::config::schema_registry::JsonSchemaDraft;
use crate::config::schema_registry::SchemaRegistryConfig;
use crate::error::BoxError;
use crate::error::lookup::{Part, SchemaId};
use reqwest_middleware::reqwest::{self, StatusCode, redirect};
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_all_versions, get_referenced_schema, get_schema_by_guid, get_schema_by_id,
    get_schema_by_subject_and_version, perform_sr_call,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{
    RegisteredReference, RegisteredSchema, SchemaType, SrCall,
};
use std::time::Duration;

pub(super) struct Client {
    /// One for each address, in the order in which they are asked.
    registries: Vec<SrSettings>,
    draft: JsonSchemaDraft,
}

/// Asks one address after the other. What any of them has counts. What none has is unknown if the
/// first one says so, and an outage while that one is away.
macro_rules! first_of {
    ($client:ident, |$registry:ident| $question:expr) => {{
        let (mut found, mut failed) = (None, None);
        for $registry in &$client.registries {
            match $question.await.map_err(LookupError::from) {
                Ok(answer) => {
                    found = Some(answer);
                    break;
                }
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        found.ok_or_else(|| failed.unwrap_or_else(|| LookupError::Unknown(NOT_THERE.into())))
    }};
}

/// Why a schema was not found.
#[derive(Debug)]
pub(super) enum LookupError {
    /// The registry says that it does not have it, or what it has is no schema.
    Unknown(String),
    /// The registry cannot be asked: no record's fault.
    Outage { source: BoxError, retry_after: Option<Duration> },
}

/// Why a schema has no id to write by.
#[cfg(any(feature = "avro", feature = "json-schema", feature = "protobuf"))]
#[derive(Debug)]
pub(super) enum WriteError {
    /// The registry does not have it, or does not take it.
    Refused(String),
    /// The registry cannot be asked: no record's fault.
    Outage(BoxError),
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

impl Client {
    /// `None` where no registry is set.
    pub(super) fn new(config: &SchemaRegistryConfig) -> Result<Option<Self>, Error> {
        let Some(urls) = &config.url else { return Ok(None) };
        let uses_tls = urls.to_ascii_lowercase().contains("https:");
        let urls = urls.split(',').map(|url| url.trim().trim_end_matches('/'));
        let refused = |problem: String| Error::config("schema_registry.url", problem);
        let check = |url: &str| {
            let parsed = reqwest::Url::parse(url).ok();
            match parsed.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
                None => Err(refused(
                    "is not `http://host:port` or `https://host:port`, several with commas".into(),
                )),
                Some(url) if url.scheme() == "https" && !cfg!(feature = "schemas-tls") => Err(refused(
                    "asks for TLS, which this program was built without; enable the feature `schemas-tls`"
                        .into(),
                )),
                Some(url) if !url.username().is_empty() || url.password().is_some() => Err(refused(
                    "holds a user name or password; set `schema_registry.username` and `.password`".into(),
                )),
                Some(_) => Ok(url.to_owned()),
            }
        };
        check_access(config)?;
        let registries = urls.map(|url| settings(config, check(url)?, uses_tls)).collect::<Result<_, _>>()?;
        Ok(Some(Self { registries, draft: config.json_schema_draft.unwrap_or_default() }))
    }

    pub(super) async fn schema(&self, id: SchemaId) -> Result<Schema, LookupError> {
        let registered = self.registered(id).await?;
        let referenced = self.referenced(&registered.references).await?;
        Ok(self.parsed(id, registered, &referenced))
    }

    async fn registered(&self, id: SchemaId) -> Result<RegisteredSchema, LookupError> {
        Ok(match id {
            // It is a signed number there.
            SchemaId::Number(number) if i32::try_from(number).is_err() => {
                return Err(LookupError::Unknown(format!("{number} is no schema id")));
            }
            SchemaId::Number(number) => first_of!(self, |registry| get_schema_by_id(number, registry))?,
            SchemaId::Guid(_) => {
                let guid = id.to_string();
                first_of!(self, |registry| by_guid(&guid, registry))?
            }
        })
    }

    /// Which version of a subject of the topic a schema is. The subject is the topic's, or that of
    /// its record type, as serializers are set to.
    pub(super) async fn version(
        &self,
        id: SchemaId,
        part: Part,
        topic: &str,
        record_type: Option<&str>,
    ) -> Result<SubjectVersion, LookupError> {
        let registered = self.registered(id).await?;
        let mut subjects = vec![format!("{topic}-{}", part.name())];
        if let Some(record_type) = record_type {
            subjects.extend([format!("{topic}-{record_type}"), record_type.to_owned()]);
        }
        let body = serde_json::json!({
            "schema": registered.schema,
            "schemaType": match &registered.schema_type {
                SchemaType::Protobuf => "PROTOBUF",
                SchemaType::Json => "JSON",
                SchemaType::Other(name) => name,
                _ => "AVRO",
            },
            "references": registered.references,
        });
        for subject in &subjects {
            let body = body.to_string();
            let found = first_of!(self, |registry| {
                perform_sr_call(registry, SrCall::PostForVersion(subject, &body))
            });
            match found {
                Ok(found) => {
                    let version = found.version.ok_or_else(|| LookupError::Outage {
                        source: "the schema registry gave no version".into(),
                        retry_after: None,
                    })?;
                    return Ok(SubjectVersion { subject: subject.as_str().into(), version });
                }
                Err(LookupError::Unknown(_)) => {}
                Err(outage) => return Err(outage),
            }
        }
        Err(LookupError::Unknown(format!("it is no version of subject `{}`", subjects.join("` or `"))))
    }

    /// The newest versions of a subject, with their schemas; none where it has none.
    pub(super) async fn versions(&self, subject: &str, most: usize) -> Result<Vec<(u32, Schema)>, BoxError> {
        let outage = |error: LookupError| match error {
            LookupError::Unknown(why) => why.into(),
            LookupError::Outage { source, .. } => source,
        };
        let versions = match first_of!(self, |registry| get_all_versions(registry, subject.to_owned())) {
            Ok(versions) => versions,
            Err(LookupError::Unknown(_)) => return Ok(Vec::new()),
            Err(error) => return Err(outage(error)),
        };
        let mut found = Vec::new();
        for version in versions.iter().rev().take(most).rev() {
            let registered = first_of!(self, |registry| {
                get_schema_by_subject_and_version(registry, subject, Some(*version))
            });
            let registered = registered.map_err(outage)?;
            let referenced = self.referenced(&registered.references).await.map_err(outage)?;
            found.push((*version, self.parsed(SchemaId::Number(registered.id), registered, &referenced)));
        }
        Ok(found)
    }

    /// The id of a schema under a subject, where it is registered if it may be.
    #[cfg(any(feature = "avro", feature = "json-schema", feature = "protobuf"))]
    pub(super) async fn id_of(
        &self,
        subject: &str,
        kind: &str,
        schema: &str,
        register: bool,
    ) -> Result<u32, WriteError> {
        let body = serde_json::json!({ "schema": schema, "schemaType": kind }).to_string();
        let mut failed = None;
        for registry in &self.registries {
            let call = match register {
                true => SrCall::PostNew(subject, &body),
                false => SrCall::PostForVersion(subject, &body),
            };
            let error = match perform_sr_call(registry, call).await {
                Ok(found) => {
                    return found
                        .id
                        .ok_or_else(|| WriteError::Outage("the schema registry gave no id".into()));
                }
                Err(error) => write_error(&error, subject, register),
            };
            match error {
                // Another may have it, or be there.
                WriteError::Refused(_) if register => return Err(error),
                error => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| WriteError::Outage("no schema registry is set".into())))
    }

    /// All schemas that these references lead to, each once.
    async fn referenced(&self, references: &[RegisteredReference]) -> Result<Referenced, LookupError> {
        let mut found = Referenced::default();
        let mut open = references.to_vec();
        while let Some(reference) = open.pop() {
            if found.has(&reference.subject, reference.version) {
                continue;
            }
            if found.is_full() {
                return Err(LookupError::Unknown("it refers to too many other schemas".into()));
            }
            let schema = first_of!(self, |registry| get_referenced_schema(registry, &reference))?;
            open.extend(schema.references);
            found.add(reference.name, reference.subject, reference.version, schema.schema);
        }
        Ok(found)
    }

    fn parsed(&self, id: SchemaId, registered: RegisteredSchema, referenced: &Referenced) -> Schema {
        let format = match registered.schema_type {
            SchemaType::Avro => SchemaFormat::Avro,
            SchemaType::Protobuf => SchemaFormat::Protobuf,
            SchemaType::Json => SchemaFormat::Json,
            SchemaType::Other(name) => SchemaFormat::Other(name),
            other => SchemaFormat::Other(format!("{other:?}")),
        };
        let text = &registered.schema;
        let parsed = match format {
            #[cfg(feature = "avro")]
            SchemaFormat::Avro => super::avro::parse(text, referenced).map(Box::new).map(Parsed::Avro),
            #[cfg(feature = "protobuf")]
            SchemaFormat::Protobuf => super::protobuf::parse(text).map(Parsed::Protobuf),
            #[cfg(feature = "json-schema")]
            SchemaFormat::Json => super::json::parse(text, referenced, self.draft).map(Parsed::Json),
            _ => Ok(Parsed::Not),
        };
        let _ = (referenced, self.draft);
        Schema { id, format, record_types: super::record_types_of(text), parsed }
    }
}

/// What none of them has.
const NOT_THERE: &str = "the registry does not know it";

/// Older registries, and others', have no GUIDs and answer as to any address that they do not know.
/// One that answers another question is a registry, and has answered.
async fn by_guid(guid: &str, registry: &SrSettings) -> Result<RegisteredSchema, LookupError> {
    let error = match get_schema_by_guid(guid, registry).await {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    let is_no_address = causes(&error).find_map(answer_in).is_some_and(|answer| answer.is_no_address());
    let other = if is_no_address {
        get_schema_by_id(1, registry).await.map_err(LookupError::from)
    } else {
        Err(error.into())
    };
    match other {
        Ok(_) | Err(LookupError::Unknown(_)) => {
            Err(LookupError::Unknown("the registry does not know it, or no GUIDs at all".into()))
        }
        Err(outage) => Err(outage),
    }
}

#[cfg(any(feature = "avro", feature = "json-schema", feature = "protobuf"))]
fn write_error(error: &SRCError, subject: &str, register: bool) -> WriteError {
    match causes(error).find_map(answer_in) {
        Some(answer) if answer.is_unknown && !register => WriteError::Refused(format!(
            "the schema registry does not have this schema under subject `{subject}`; register it, or let the encoder \
             do so with `registering()`"
        )),
        Some(Answer { status: StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY, message, .. }) => {
            WriteError::Refused(format!(
                "the schema registry refuses this schema under subject `{subject}`: {message}"
            ))
        }
        Some(answer) => WriteError::Outage(answer.to_string().into()),
        None => WriteError::Outage(describe(error).into()),
    }
}

fn check_access(config: &SchemaRegistryConfig) -> Result<(), Error> {
    match (&config.token, &config.username) {
        (Some(_), Some(_)) => {
            Err(Error::config("schema_registry.token", "is set beside `username`; take one out"))
        }
        (None, None) if config.password.is_some() => {
            Err(Error::config("schema_registry.password", "is set without `username`"))
        }
        _ => Ok(()),
    }
}

/// How one registry is asked.
fn settings(config: &SchemaRegistryConfig, url: String, uses_tls: bool) -> Result<SrSettings, Error> {
    let mut settings = SrSettings::new_builder(url);
    if let Some(token) = &config.token {
        settings.set_token_authorization(token);
    } else if let Some(user) = &config.username {
        settings.set_basic_authorization(user, config.password.as_deref());
    }
    match config.proxy.as_deref() {
        Some("none") => drop(settings.no_proxy()),
        Some(proxy) => drop(settings.set_proxy(proxy)),
        None => {}
    }
    settings.set_timeout(config.timeout.unwrap_or(DEFAULT_TIMEOUT)).with_middleware(Answers);
    let http = reqwest::Client::builder().redirect(redirect::Policy::none()).user_agent("onceward");
    let settings = settings.build_with(with_certificates(http, config, uses_tls)?);
    settings.map_err(|error| Error::config("schema_registry", describe(&error)))
}

#[cfg(not(feature = "schemas-tls"))]
fn with_certificates(
    http: reqwest::ClientBuilder,
    config: &SchemaRegistryConfig,
    _: bool,
) -> Result<reqwest::ClientBuilder, Error> {
    let set = [("schema_registry.ca", &config.ca), ("schema_registry.identity", &config.identity)];
    match set.into_iter().find(|(_, path)| path.is_some()) {
        Some((setting, _)) => Err(Error::config(setting, "needs TLS; enable the feature `schemas-tls`")),
        None => Ok(http),
    }
}

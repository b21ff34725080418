//! Asks the registry, through `schema_registry_converter`.
//!
//! That crate keeps every error for ever and tells no status apart from another; so only its
//! calls that keep nothing are used, and a middleware of its HTTP client says what an answer
//! means.

use super::config::SchemaRegistryConfig;
use super::references::Referenced;
#[cfg(feature = "schemas-tls")]
use super::tls::with_certificates;
use super::{Parsed, Schema, SchemaFormat, SchemaId, SubjectVersion};
use crate::Error;
use crate::error::BoxError;
use crate::extract::Part;
use crate::failure::capped;
use reqwest_middleware::reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest_middleware::reqwest::{self, Body, Request, Response, StatusCode, redirect};
use reqwest_middleware::{Middleware, Next};
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
    settings: SrSettings,
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

/// An answer that is not what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the schema registry answered {status}{}", note(*.status))]
struct Answer {
    status: StatusCode,
    /// What it says itself.
    message: String,
    /// By the registry's own error code: a proxy's 404 has none.
    is_unknown: bool,
    retry_after: Option<Duration>,
}

fn note(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            " (setting `schema_registry`: give `username` and `password`, or `token`, with the right to read)"
        }
        StatusCode::NOT_FOUND => {
            " with no error code of a registry (is setting `schema_registry.url` right?)"
        }
        status if status.is_redirection() => {
            " (redirects are not followed; give the address itself in setting `schema_registry.url`)"
        }
        _ => "",
    }
}

/// No schema is larger.
const LARGEST_ANSWER: usize = 16 << 20;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

impl Client {
    /// `None` where no registry is set.
    pub(super) fn new(config: &SchemaRegistryConfig) -> Result<Option<Self>, Error> {
        let Some(urls) = &config.url else { return Ok(None) };
        let uses_tls = urls.to_ascii_lowercase().contains("https:");
        let mut urls = urls.split(',').map(|url| url.trim().trim_end_matches('/'));
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
        let mut settings = SrSettings::new_builder(check(urls.next().unwrap_or_default())?);
        for url in urls {
            settings.add_url(check(url)?);
        }
        match (&config.token, &config.username) {
            (Some(_), Some(_)) => {
                return Err(Error::config("schema_registry.token", "is set beside `username`; take one out"));
            }
            (Some(token), None) => drop(settings.set_token_authorization(token)),
            (None, Some(user)) => drop(settings.set_basic_authorization(user, config.password.as_deref())),
            (None, None) if config.password.is_some() => {
                return Err(Error::config("schema_registry.password", "is set without `username`"));
            }
            (None, None) => {}
        }
        settings.set_timeout(config.timeout.unwrap_or(DEFAULT_TIMEOUT)).with_middleware(Answers);
        let http = reqwest::Client::builder().redirect(redirect::Policy::none()).user_agent("onceward");
        let settings = settings
            .build_with(with_certificates(http, config, uses_tls)?)
            .map_err(|error| Error::config("schema_registry", describe(&error)))?;
        Ok(Some(Self { settings }))
    }

    pub(super) async fn schema(&self, id: SchemaId) -> Result<Schema, LookupError> {
        let registered = self.registered(id).await?;
        let referenced = self.referenced(&registered.references).await?;
        Ok(parsed(id, registered, &referenced))
    }

    async fn registered(&self, id: SchemaId) -> Result<RegisteredSchema, LookupError> {
        Ok(match id {
            // It is a signed number there.
            SchemaId::Number(number) if i32::try_from(number).is_err() => {
                return Err(LookupError::Unknown(format!("{number} is no schema id")));
            }
            SchemaId::Number(number) => get_schema_by_id(number, &self.settings).await?,
            SchemaId::Guid(_) => get_schema_by_guid(&id.to_string(), &self.settings).await?,
        })
    }

    /// Which version of a subject of the topic a schema is. The subject is the topic's, or that of
    /// its record type, as serializers are set to.
    pub(super) async fn version(
        &self,
        id: SchemaId,
        part: Part,
        topic: &str,
    ) -> Result<SubjectVersion, LookupError> {
        let registered = self.registered(id).await?;
        let mut subjects = vec![format!("{topic}-{}", part.name())];
        if let Some(record_type) = super::record_type_of(&registered.schema) {
            subjects.extend([format!("{topic}-{record_type}"), record_type]);
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
            let call = SrCall::PostForVersion(subject, &body.to_string());
            match perform_sr_call(&self.settings, call).await.map_err(LookupError::from) {
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
        let versions = match get_all_versions(&self.settings, subject.to_owned()).await {
            Ok(versions) => versions,
            Err(error) => {
                return match LookupError::from(error) {
                    LookupError::Unknown(_) => Ok(Vec::new()),
                    error => Err(outage(error)),
                };
            }
        };
        let mut found = Vec::new();
        for version in versions.iter().rev().take(most).rev() {
            let registered = get_schema_by_subject_and_version(&self.settings, subject, Some(*version)).await;
            let registered = registered.map_err(|error| outage(error.into()))?;
            let referenced = self.referenced(&registered.references).await.map_err(outage)?;
            found.push((*version, parsed(SchemaId::Number(registered.id), registered, &referenced)));
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
        let call =
            if register { SrCall::PostNew(subject, &body) } else { SrCall::PostForVersion(subject, &body) };
        let error = match perform_sr_call(&self.settings, call).await {
            Ok(registered) => {
                return registered
                    .id
                    .ok_or_else(|| WriteError::Outage("the schema registry gave no id".into()));
            }
            Err(error) => error,
        };
        Err(match causes(&error).find_map(answer_in) {
            Some(answer) if answer.is_unknown && !register => WriteError::Refused(format!(
                "the schema registry does not have this schema under subject `{subject}`; register it, or let \
                 the encoder do so with `registering()`"
            )),
            Some(Answer {
                status: StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY, message, ..
            }) => WriteError::Refused(format!(
                "the schema registry refuses this schema under subject `{subject}`: {message}"
            )),
            Some(answer) => WriteError::Outage(answer.to_string().into()),
            None => WriteError::Outage(describe(&error).into()),
        })
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
            let schema = get_referenced_schema(&self.settings, &reference).await?;
            open.extend(schema.references);
            found.add(reference.name, reference.subject, reference.version, schema.schema);
        }
        Ok(found)
    }
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

fn parsed(id: SchemaId, registered: RegisteredSchema, referenced: &Referenced) -> Schema {
    let format = match registered.schema_type {
        SchemaType::Avro => SchemaFormat::Avro,
        SchemaType::Protobuf => SchemaFormat::Protobuf,
        SchemaType::Json => SchemaFormat::Json,
        SchemaType::Other(name) => SchemaFormat::Other(name),
        other => SchemaFormat::Other(format!("{other:?}")),
    };
    let parsed = match format {
        #[cfg(feature = "avro")]
        SchemaFormat::Avro => {
            super::avro::parse(&registered.schema, referenced).map(Box::new).map(Parsed::Avro)
        }
        #[cfg(feature = "protobuf")]
        SchemaFormat::Protobuf => super::protobuf::parse(&registered.schema).map(Parsed::Protobuf),
        #[cfg(feature = "json-schema")]
        SchemaFormat::Json => super::json::parse(&registered.schema, referenced).map(Parsed::Json),
        _ => Ok(Parsed::Not),
    };
    let _ = referenced;
    Schema { id, format, record_types: super::record_types_of(&registered.schema), parsed }
}

/// Refuses every answer but the one that was asked for, and says what it means.
struct Answers;

#[async_trait::async_trait]
impl Middleware for Answers {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut http::Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let mut response = next.run(request, extensions).await?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(refused(TooLarge));
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            let problem: Option<Problem> = serde_json::from_slice(&body).ok();
            // 40401 to 40403: the registry's own "no such subject, version or schema".
            let code = problem.as_ref().map_or(0, |problem| problem.error_code);
            let is_unknown = status == StatusCode::NOT_FOUND && (40400..40500).contains(&code);
            let message = problem.map(|problem| capped(problem.message)).unwrap_or_default();
            return Err(refused(Answer { status, message, is_unknown, retry_after }));
        }
        let mut whole = http::Response::builder().status(status);
        if let Some(kind) = response.headers().get(CONTENT_TYPE) {
            whole = whole.header(CONTENT_TYPE, kind);
        }
        let whole = whole.body(Body::from(body)).map_err(refused)?;
        Ok(Response::from(whole))
    }
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> reqwest_middleware::Error {
    reqwest_middleware::Error::Middleware(anyhow::Error::new(error))
}

#[derive(Debug, thiserror::Error)]
#[error("the schema registry's answer is larger than 16 MiB")]
struct TooLarge;

/// How a registry says what is wrong.
#[derive(serde::Deserialize)]
struct Problem {
    error_code: u32,
    #[serde(default)]
    message: String,
}

impl From<SRCError> for LookupError {
    fn from(error: SRCError) -> Self {
        let answer = causes(&error).find_map(answer_in);
        match answer {
            Some(answer) if answer.is_unknown => Self::Unknown("the registry does not know it".into()),
            Some(answer) => {
                Self::Outage { retry_after: answer.retry_after, source: answer.to_string().into() }
            }
            None => Self::Outage { retry_after: None, source: describe(&error).into() },
        }
    }
}

fn answer_in<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Answer> {
    match error.downcast_ref()? {
        reqwest_middleware::Error::Middleware(error) => error.downcast_ref(),
        reqwest_middleware::Error::Reqwest(_) => None,
    }
}

fn causes<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// The innermost cause says most; the crate's own text repeats it with its cache's state.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let texts: Vec<_> = causes(error).skip(1).map(ToString::to_string).collect();
    let text = if texts.is_empty() { error.to_string() } else { texts.join(": ") };
    #[cfg(feature = "schemas-tls")]
    if let Some(note) = causes(error).find_map(super::tls::note) {
        return format!("{text} ({note})");
    }
    text
}

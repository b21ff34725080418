//! What a registry's answers mean. `schema_registry_converter` tells no status apart from another.

use super::client::LookupError;
use crate::error::text::capped;
use reqwest_middleware::reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest_middleware::reqwest::{Body, Request, Response, StatusCode};
use reqwest_middleware::{Middleware, Next};
use schema_registry_converter::error::SRCError;
use std::time::Duration;

/// An answer that is not what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the schema registry answered {status}{}", note(*.status))]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// What it says itself.
    pub(super) message: String,
    /// By the registry's own error code: a proxy's 404 has none.
    pub(super) is_unknown: bool,
    retry_after: Option<Duration>,
}

impl Answer {
    /// Whether it is not a registry's own, or one that does not know the address.
    pub(super) fn is_no_address(&self) -> bool {
        matches!(
            self.status,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST
        ) && !self.is_unknown
    }
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

/// Refuses every answer but the one that was asked for, and says what it means.
pub(super) struct Answers;

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

pub(super) fn answer_in<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e Answer> {
    match error.downcast_ref()? {
        reqwest_middleware::Error::Middleware(error) => error.downcast_ref(),
        reqwest_middleware::Error::Reqwest(_) => None,
    }
}

pub(super) fn causes<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// The innermost cause says most; the crate's own text repeats it with its cache's state.
pub(super) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let texts: Vec<_> = causes(error).skip(1).map(ToString::to_string).collect();
    let text = if texts.is_empty() { error.to_string() } else { texts.join(": ") };
    #[cfg(feature = "schemas-tls")]
    if let Some(note) = causes(error).find_map(super::tls::note) {
        return format!("{text} ({note})");
    }
    text
}

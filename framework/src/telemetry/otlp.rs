//! Sends spans to an OpenTelemetry collector.
//!
//! Needs the feature `otlp`. It takes one line of `main`:
//!
//! ```no_run
//! use onceward::prelude::*;
//!
//! #[handler(topic = "flights", group = "log")]
//! async fn on_flight(Key(tailnum): Key<String>) -> HandlerResult {
//!     println!("{tailnum}");
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), onceward::Error> {
//!     let _otlp = onceward::otlp::start("flight-log")?;
//!     App::from_env()?.handler(on_flight {}).run().await
//! }
//! ```

use crate::Error;
use opentelemetry::global;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::fmt;
use tokio::runtime::{Builder, Runtime};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const ENDPOINT_OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

/// Sends the spans of this process until it is dropped. Dropping it sends the last ones.
///
/// Dropping it waits for the collector, at most 5 s, and logs a failure;
/// [`shutdown`](Self::shutdown) returns the error.
#[must_use = "spans are sent until it is dropped"]
pub struct Otlp {
    provider: SdkTracerProvider,
    _runtime: Background,
}

/// Installs a global tracer provider that sends spans over gRPC, in batches, to the
/// collector at `OTEL_EXPORTER_OTLP_ENDPOINT`, by default `http://127.0.0.1:4317`.
///
/// `service` is the service's name in the spans; `OTEL_SERVICE_NAME` overrides it. The SDK's
/// other variables are read too, for example `OTEL_TRACES_SAMPLER`. There is no TLS: the
/// endpoint is `http`, of a collector on this host or in this network.
///
/// If the collector is down, spans are lost and nothing else. Call this before the application
/// runs.
///
/// # Errors
/// If the endpoint is not a valid address.
pub fn start(service: impl Into<String>) -> Result<Otlp, Error> {
    start_to(service, "http://127.0.0.1:4317")
}

/// As [`start`], with another default endpoint.
///
/// # Errors
/// As [`start`].
pub fn start_to(service: impl Into<String>, endpoint: impl Into<String>) -> Result<Otlp, Error> {
    let runtime = Background::start()?;
    let mut from_env = None;
    for name in [ENDPOINT, ENDPOINT_OF_TRACES] {
        from_env = variable(name)?.map(|endpoint| (Some(name), endpoint)).or(from_env);
    }
    let (name, endpoint) = from_env.unwrap_or_else(|| (None, endpoint.into()));
    let exporter = runtime.exporter(name, endpoint)?;
    let service = variable("OTEL_SERVICE_NAME")?.unwrap_or_else(|| service.into());
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name(service).build())
        .with_batch_exporter(exporter)
        .build();
    global::set_tracer_provider(provider.clone());
    Ok(Otlp { provider, _runtime: runtime })
}

fn variable(name: &'static str) -> Result<Option<String>, Error> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    let text = value.map(|value| value.into_string().map_err(|_| Error::config(name, "is not UTF-8")));
    text.transpose()
}

impl Otlp {
    /// Sends the last spans, and no more after that.
    ///
    /// # Errors
    /// If the collector did not take them.
    pub fn shutdown(self) -> Result<(), Error> {
        self.provider.shutdown().map_err(|source| Error::Internal {
            what: format!("sending the last spans (setting `{ENDPOINT}`)"),
            source: source.into(),
        })
    }
}

impl Drop for Otlp {
    fn drop(&mut self) {
        match self.provider.shutdown() {
            Ok(()) | Err(OTelSdkError::AlreadyShutdown) => {}
            Err(error) => tracing::warn!(%error, "the last spans could not be sent"),
        }
    }
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Otlp")
    }
}

/// A thread for the connection to the collector. The last spans are waited for while the
/// application's own runtime is blocked, or gone.
struct Background(Option<Runtime>);

impl Background {
    fn start() -> Result<Self, Error> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("onceward-otlp").enable_all().build();
        runtime.map(|runtime| Self(Some(runtime))).map_err(|source| Error::Internal {
            what: "starting the thread that sends spans".into(),
            source: source.into(),
        })
    }

    /// `variable` is where the endpoint was given, if it was not in code.
    fn exporter(&self, variable: Option<&'static str>, endpoint: String) -> Result<SpanExporter, Error> {
        let _inside = self.0.as_ref().map(Runtime::enter);
        let refused = |hint: &str| {
            let problem = format!("is not `http://host:port` of a collector{hint}");
            Error::config(variable.unwrap_or("otlp::start_to"), problem)
        };
        // What cannot be reached later is named in logs.
        if endpoint.contains('@') {
            return Err(refused("; a login goes into `OTEL_EXPORTER_OTLP_HEADERS`"));
        }
        let hint = match endpoint.trim().get(..6).map(str::to_ascii_lowercase).as_deref() {
            Some("https:") => "; there is no TLS to it",
            _ => "",
        };
        // Its own error may quote the endpoint.
        let builder = SpanExporter::builder().with_tonic().with_endpoint(endpoint);
        builder.build().map_err(|_| refused(hint))
    }
}

/// A runtime must not be dropped within another, where a `main` is likely to be.
impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_endpoint_that_cannot_be_is_refused_by_its_setting() {
        for endpoint in ["https://hunter2:4317", "hunter2:4317", "http://", "http://u:hunter2@:x"] {
            for variable in [ENDPOINT, ENDPOINT_OF_TRACES] {
                let runtime = Background::start().unwrap();
                let error = runtime.exporter(Some(variable), endpoint.to_owned()).unwrap_err().to_string();
                assert!(
                    error.contains(&format!("`{variable}`")) && error.contains("`http://host:port`"),
                    "{error}"
                );
                assert!(!error.contains("hunter2"), "{error}");
            }
        }
    }
}

//! Spans around the handling of records, and the trace context that comes and goes in
//! headers.

mod context;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod spans;
#[cfg(all(test, feature = "otel"))]
mod tests;

pub(crate) use context::TraceContext;
#[cfg(not(feature = "otel"))]
use off as spans;
pub(crate) use spans::{SendSpan, Spans};

use crate::Record;
use serde::Deserialize;

/// How the span of a handler's call relates to the producer's span, if the record names one
/// (`traceparent`).
///
/// Spans need the feature `otel`; see [`middleware::Trace`](crate::middleware::Trace).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TraceMode {
    /// It begins a new trace, with a link to the producer's span. The default, because a
    /// producer's trace ends when it has produced, however late its records are handled.
    #[default]
    Link,
    /// It is a child of the producer's span, in its trace. A call with several records has
    /// links instead, because a span has only one parent.
    Parent,
    /// There is no span.
    Off,
}

/// The headers with which what is published while `record` is handled continues its
/// trace: those of the current span, else the record's own, else none.
pub(crate) fn outgoing(record: Record<'_>) -> Vec<(&'static str, String)> {
    let as_it_came = || TraceContext::of(record).map(|context| context.headers()).unwrap_or_default();
    spans::current_headers().unwrap_or_else(as_it_came)
}

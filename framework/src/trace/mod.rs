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

/// How the span of a call of the handler stands to the producer's span, where the record
/// carries one (`traceparent`).
///
/// Spans need the feature `otel`; see [`middleware::Trace`](crate::middleware::Trace).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TraceMode {
    /// It begins a trace of its own, with a link to the producer's span. The default: a
    /// producer's trace ends when it has produced, however late its records are handled.
    #[default]
    Link,
    /// It is a child of the producer's span, in its trace. A call with several records
    /// has links all the same, since a span has one parent.
    Parent,
    /// There is none.
    Off,
}

/// The headers with which what is published while `record` is handled continues its
/// trace: those of the current span, else the record's own, else none; and the record's baggage.
pub(crate) fn outgoing(record: Record<'_>) -> Vec<(&'static str, String)> {
    let came = TraceContext::of(record);
    match spans::current_headers() {
        Some(mut headers) => {
            headers.extend(came.and_then(|came| came.baggage()).map(|baggage| ("baggage", baggage)));
            headers
        }
        None => came.map(|came| came.headers()).unwrap_or_default(),
    }
}

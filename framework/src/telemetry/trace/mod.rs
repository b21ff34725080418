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
pub(crate) use spans::Spans;

use crate::Record;

/// The headers with which a record published while `record` is handled continues its trace: those of
/// the current span, else the record's own, else none; and the record's baggage.
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

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

/// The headers with which what is published while `record` is handled continues its
/// trace: those of the current span, else the record's own, else none.
pub(crate) fn outgoing(record: Record<'_>) -> Vec<(&'static str, String)> {
    let as_it_came = || TraceContext::of(record).map(|context| context.headers()).unwrap_or_default();
    spans::current_headers().unwrap_or_else(as_it_came)
}

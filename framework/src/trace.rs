//! The trace that a record belongs to (W3C Trace Context).

use crate::Record;

/// The headers by which what is published because of a record continues its trace.
pub(crate) fn outgoing(record: Record<'_>) -> Vec<(&'static str, String)> {
    let of = |name| Some((name, record.headers().get_str(name)?.to_owned()));
    ["traceparent", "tracestate"].into_iter().filter_map(of).collect()
}

//! Puts a span around each call of the handler.

use super::{Delivery, Next, RecordMiddleware};
use crate::error::ErrorKind;
use crate::{HandlerResult, Outcome};
use futures_util::future::Either;

/// Puts a span of OpenTelemetry around each call of the handler, `process {topic}`.
///
/// It needs the feature `otel`, and a tracer provider that is installed when the
/// application starts (`onceward::otlp` does that); without either it does nothing. A
/// record that is tried again has a span for each attempt, and a batch handler's call has
/// one with a link for each record.
///
/// [`App::trace`](crate::App::trace) says how it stands to the producer's span, which the
/// record's headers `traceparent` and `tracestate` name. Where that says that the
/// producer's trace is not recorded there is no span. A record without `traceparent` begins
/// a trace of its own, if the provider's sampler takes it.
///
/// The span is the current one while the handler is polled. A failure leaves its kind in
/// `error.type`, and nothing of its text, in which data may stand. A batch handler that says
/// for itself which records failed leaves nothing of that.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trace;

impl RecordMiddleware for Trace {
    #[inline(always)]
    fn call<'a, N: Next<'a>>(
        &'a self,
        delivery: Delivery<'a>,
        next: N,
    ) -> impl Future<Output = HandlerResult<Outcome>> + Send + 'a {
        let Some(span) = delivery.spans().process_span(delivery.run()) else {
            return Either::Left(next.run(delivery));
        };
        // Boxed, so that calls without a span are small.
        Either::Right(Box::pin(async move {
            let result = span.current_in(next.run(delivery)).await;
            span.end(result.as_ref().err().map(|error| kind(error.kind())));
            result
        }))
    }
}

fn kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Returned => "returned",
        ErrorKind::Panicked => "panicked",
        ErrorKind::TimedOut => "timed_out",
        ErrorKind::Rejected => "rejected",
    }
}

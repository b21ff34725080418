//! Puts a span around each call of the handler.

use super::{Delivery, Next, RecordMiddleware};
use crate::error::ErrorKind;
use crate::{HandlerResult, Outcome};
use futures_util::future::Either;

/// Puts an OpenTelemetry span `process {topic}` around each call of the handler.
///
/// It needs the feature `otel`, and a tracer provider that is installed before the application
/// starts (`onceward::otlp` does that); without either it does nothing. A retried record has a
/// span for each attempt. A batch handler's call has one span, with a link for each record.
///
/// [`App::trace`](crate::App::trace) sets how it relates to the producer's span, which the
/// record's headers `traceparent` and `tracestate` name. If the producer's trace is not
/// recorded, there is no span. A record without `traceparent` begins a new trace, if the
/// provider's sampler takes it.
///
/// The span is current while the handler is polled. A failure sets its kind in `error.type`,
/// but not its text, which may contain data. If a batch handler returns one result per record,
/// their failures are not in the span.
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

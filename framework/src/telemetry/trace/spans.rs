//! The spans that an application gives to OpenTelemetry.

use super::TraceContext;
use crate::config::TraceMode;
use crate::record::cloud_event;
use crate::{Record, Run};
use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::trace::{
    FutureExt, Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState, Tracer, WithContext,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use std::fmt;
use std::sync::Arc;

/// Names of attributes, as OpenTelemetry's conventions for messaging have them; those
/// that they lack are ours. Its crate of names hides these behind an unstable feature.
mod name {
    pub(super) const SYSTEM: &str = "messaging.system";
    pub(super) const OPERATION: &str = "messaging.operation.name";
    pub(super) const OPERATION_TYPE: &str = "messaging.operation.type";
    pub(super) const TOPIC: &str = "messaging.destination.name";
    pub(super) const PARTITION: &str = "messaging.destination.partition.id";
    pub(super) const GROUP: &str = "messaging.consumer.group.name";
    pub(super) const OFFSET: &str = "messaging.kafka.offset";
    pub(super) const TOMBSTONE: &str = "messaging.kafka.message.tombstone";
    pub(super) const MESSAGE_ID: &str = "messaging.message.id";
    pub(super) const CONVERSATION_ID: &str = "messaging.message.conversation_id";
    pub(super) const MESSAGE_COUNT: &str = "messaging.batch.message_count";
    pub(super) const ERROR: &str = "error.type";
    pub(super) const HANDLER: &str = "onceward.handler";
    pub(super) const ATTEMPT: &str = "onceward.attempt";
}

/// Makes the spans of an application; none, where nobody would get them.
#[derive(Clone, Default)]
pub(crate) struct Spans {
    tracing: Option<Arc<Tracing>>,
    handler: Option<Arc<str>>,
}

struct Tracing {
    tracer: BoxedTracer,
    mode: TraceMode,
}

impl Spans {
    /// Makes spans of the global tracer provider, where one is installed by now.
    pub(crate) fn new(mode: TraceMode) -> Self {
        if mode == TraceMode::Off {
            return Self::default();
        }
        let scope = InstrumentationScope::builder("onceward").with_version(env!("CARGO_PKG_VERSION")).build();
        let tracer = global::tracer_with_scope(scope);
        if makes_spans(&tracer) { Self::of(tracer, mode) } else { Self::default() }
    }

    pub(super) fn of(tracer: BoxedTracer, mode: TraceMode) -> Self {
        Self { tracing: Some(Arc::new(Tracing { tracer, mode })), handler: None }
    }

    /// The same for calls of this handler.
    pub(crate) fn of_handler(&self, name: &str) -> Self {
        Self { tracing: self.tracing.clone(), handler: Some(name.into()) }
    }

    /// Starts the span of a call of the handler. There is none where the producer says of
    /// each record that its trace is not recorded.
    pub(crate) fn process_span(&self, run: Run<'_>) -> Option<Span> {
        let tracing = self.tracing.as_deref()?;
        let (origin, mut attributes) = match run.records() {
            [record] => (tracing.origin(*record)?, of_record(*record)),
            records => (Origin::of_batch(records)?, of_batch(records)),
        };
        attributes.push(KeyValue::new(name::PARTITION, run.source().partition().to_string()));
        attributes.push(KeyValue::new(name::GROUP, run.assigned().group.clone()));
        attributes.extend(self.handler.clone().map(|handler| KeyValue::new(name::HANDLER, handler)));
        Some(tracing.start("process", SpanKind::Consumer, run.source().topic(), origin, attributes))
    }

    /// Starts the span of a send to `topic` while `record` is handled, or copied. It is a
    /// child of the current span, if there is one.
    pub(crate) fn send_span(&self, topic: &str, record: Record<'_>) -> SendSpan {
        let start = |tracing: &Tracing| {
            let origin = match current_is_sampled() {
                Some(true) => Origin::default(),
                Some(false) => return None,
                None => tracing.origin(record)?,
            };
            Some(tracing.start("send", SpanKind::Producer, topic, origin, Vec::new()))
        };
        SendSpan(self.tracing.as_deref().and_then(start))
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spans({:?})", self.tracing.as_ref().map_or(TraceMode::Off, |tracing| tracing.mode))
    }
}

/// Whether a tracer provider is installed: without one, a span is its parent once more.
/// Telemetry is suppressed meanwhile, so that nobody gets the span of this question.
pub(super) fn makes_spans(tracer: &BoxedTracer) -> bool {
    let parent =
        SpanContext::new(TraceId::from(1), SpanId::from(1), TraceFlags::default(), true, TraceState::NONE);
    let context = Context::new().with_remote_span_context(parent.clone()).with_telemetry_suppressed();
    *tracer.start_with_context("onceward", &context).span_context() != parent
}

impl Tracing {
    /// Where the span of a record belongs; `None` where there is to be none.
    fn origin(&self, record: Record<'_>) -> Option<Origin> {
        match TraceContext::of(record) {
            None => Some(Origin::default()),
            Some(producer) if !producer.is_sampled() => None,
            Some(producer) if self.mode == TraceMode::Parent => Some(Origin::below(producer)),
            Some(producer) => Some(Origin { links: vec![link(producer)], ..Origin::default() }),
        }
    }

    fn start(
        &self,
        operation: &'static str,
        kind: SpanKind,
        topic: &str,
        origin: Origin,
        mut attributes: Vec<KeyValue>,
    ) -> Span {
        attributes.push(KeyValue::new(name::SYSTEM, "kafka"));
        attributes.push(KeyValue::new(name::OPERATION, operation));
        attributes.push(KeyValue::new(name::OPERATION_TYPE, operation));
        attributes.push(KeyValue::new(name::TOPIC, topic.to_owned()));
        let builder = self
            .tracer
            .span_builder(format!("{operation} {topic}"))
            .with_kind(kind)
            .with_links(origin.links)
            .with_attributes(attributes);
        let span = self.tracer.build_with_context(builder, &origin.parent);
        Span { context: origin.parent.with_span(span), error: Some("abandoned") }
    }
}

/// Where a span belongs: below its parent, if that has a span, and beside others.
struct Origin {
    parent: Context,
    links: Vec<Link>,
}

/// Below the current span, or a root where there is none.
impl Default for Origin {
    fn default() -> Self {
        Self { parent: Context::current(), links: Vec::new() }
    }
}

impl Origin {
    fn below(producer: TraceContext<'_>) -> Self {
        Self {
            parent: Context::current().with_remote_span_context(span_context(producer)),
            links: Vec::new(),
        }
    }

    fn of_batch(records: &[Record<'_>]) -> Option<Self> {
        let mut links = Vec::new();
        let mut is_recorded = false;
        for record in records {
            let producer = TraceContext::of(*record);
            is_recorded |= producer.is_none();
            links.extend(producer.filter(TraceContext::is_sampled).map(link));
        }
        (is_recorded || !links.is_empty()).then(|| Self { links, ..Self::default() })
    }
}

/// Whether the current span is recorded; `None` where there is no current span.
fn current_is_sampled() -> Option<bool> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| span.is_sampled())
    })
}

fn link(producer: TraceContext<'_>) -> Link {
    Link::with_context(span_context(producer))
}

fn span_context(producer: TraceContext<'_>) -> SpanContext {
    let state = producer.state().and_then(|state| state.parse().ok()).unwrap_or(TraceState::NONE);
    SpanContext::new(
        TraceId::from_hex(producer.trace_id()).unwrap_or(TraceId::INVALID),
        SpanId::from_hex(producer.span_id()).unwrap_or(SpanId::INVALID),
        TraceFlags::new(producer.flags()),
        true,
        state,
    )
}

fn of_record(record: Record<'_>) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(14);
    attributes.push(KeyValue::new(name::OFFSET, record.offset()));
    attributes.push(KeyValue::new(name::ATTEMPT, i64::from(record.attempt())));
    if record.payload().is_none() {
        attributes.push(KeyValue::new(name::TOMBSTONE, true));
    }
    let id = cloud_event::source_and_id(record).map(|[_, id]| String::from_utf8_lossy(&id).into_owned());
    attributes.extend(id.map(|id| KeyValue::new(name::MESSAGE_ID, id)));
    let conversation = record.headers().get_str("ce_correlationid").map(str::to_owned);
    attributes.extend(conversation.map(|id| KeyValue::new(name::CONVERSATION_ID, id)));
    attributes
}

fn of_batch(records: &[Record<'_>]) -> Vec<KeyValue> {
    let count = i64::try_from(records.len()).unwrap_or(i64::MAX);
    vec![KeyValue::new(name::MESSAGE_COUNT, count)]
}

/// A span that has begun. It ends when it is dropped, as failed unless
/// [`end`](Self::end) said otherwise.
#[derive(Debug)]
pub(crate) struct Span {
    context: Context,
    /// The kind of its failure. What is dropped in the middle was abandoned.
    error: Option<&'static str>,
}

impl Span {
    /// Makes it the current span while `work` is polled.
    pub(crate) fn current_in<F: Future>(&self, work: F) -> WithContext<F> {
        work.with_context(self.context.clone())
    }

    /// Ends it, with the kind of the failure if there was one.
    pub(crate) fn end(mut self, error: Option<&'static str>) {
        self.error = error;
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let span = self.context.span();
        if let Some(error) = self.error {
            span.set_attribute(KeyValue::new(name::ERROR, error));
            span.set_status(Status::error(error));
        }
        span.end();
    }
}

/// The span of a send, or none.
#[derive(Debug)]
pub(crate) struct SendSpan(Option<Span>);

impl SendSpan {
    /// The headers with which what is sent continues the trace; see
    /// [`outgoing`](super::outgoing).
    pub(crate) fn outgoing(&self, record: Record<'_>) -> Vec<(&'static str, String)> {
        let headers = self.0.as_ref().and_then(|span| headers_of(&span.context));
        headers.unwrap_or_else(|| super::outgoing(record))
    }

    /// Ends it.
    pub(crate) fn end<T, E>(self, sent: &Result<T, E>) {
        if let Some(span) = self.0 {
            // The conventions' word for an error without a kind.
            span.end(sent.is_err().then_some("_OTHER"));
        }
    }
}

/// The headers that carry the current span's context, where there is a current span.
pub(super) fn current_headers() -> Option<Vec<(&'static str, String)>> {
    Context::map_current(headers_of)
}

fn headers_of(context: &Context) -> Option<Vec<(&'static str, String)>> {
    let span = context.span();
    let span = span.span_context();
    if !span.is_valid() {
        return None;
    }
    let (trace_id, span_id, flags) =
        (span.trace_id(), span.span_id(), span.trace_flags() & TraceFlags::SAMPLED);
    let mut headers = vec![("traceparent", format!("00-{trace_id}-{span_id}-{flags:02x}"))];
    let state = span.trace_state().header();
    if !state.is_empty() {
        headers.push(("tracestate", state));
    }
    Some(headers)
}

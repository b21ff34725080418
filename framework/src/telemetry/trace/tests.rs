//! What an exporter gets of calls and sends.
#![allow(clippy::unwrap_used)] // In tests a panic is the report.

use super::spans::makes_spans;
use super::{Spans, outgoing};
use crate::config::TraceMode;
use crate::handler::delivery::{Call, Delivery};
use crate::kafka::message::{Message, OwnedMessage};
use crate::middleware::{Next, RecordMiddleware, Trace};
use crate::record::run::RunClock;
use crate::record::source::Source;
use crate::{HandlerError, HandlerResult, Outcome, Record, Run, TopicPartition};
use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::noop::NoopTracer;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId, Tracer, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn producer() -> (TraceId, SpanId) {
    (TraceId::from(0x0af7651916cd43dd8448eb211c80319c), SpanId::from(0xb7ad6b7169203331))
}

/// An application's spans, and what became of them.
struct Traced {
    spans: Spans,
    provider: SdkTracerProvider,
    exporter: InMemorySpanExporter,
}

impl Traced {
    fn new(mode: TraceMode) -> Self {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let tracer = BoxedTracer::new(Box::new(provider.tracer("onceward")));
        Self { spans: Spans::of(tracer, mode).of_handler("on_flight"), provider, exporter }
    }

    /// Calls a handler once, with a record for each list of headers.
    async fn call(
        &self,
        headers: &[&[(&str, &str)]],
        handler: impl for<'a> Next<'a>,
    ) -> HandlerResult<Outcome> {
        self.call_again(1, headers, handler).await
    }

    async fn call_again(
        &self,
        attempt: u32,
        headers: &[&[(&str, &str)]],
        handler: impl for<'a> Next<'a>,
    ) -> HandlerResult<Outcome> {
        let source = Source::new(TopicPartition::new("t", 3), "g".into());
        let clock = RunClock::start(Duration::from_secs(60), Arc::default());
        let messages: Vec<Message> = headers.iter().map(|headers| message(headers)).collect();
        let records: Vec<_> = messages.iter().map(|message| Record::new(message, &source, attempt)).collect();
        let run = Run::new(&records, &source, &clock);
        let call = Call { run, timeout: None, spans: &self.spans };
        Trace.call(Delivery::new(&call, None), handler).await
    }

    fn ended(&self) -> Vec<SpanData> {
        self.exporter.get_finished_spans().unwrap()
    }

    fn only(&self) -> SpanData {
        let [span] = self.ended().try_into().unwrap();
        span
    }
}

fn message(headers: &[(&str, &str)]) -> Message {
    Message::Owned(Box::new(OwnedMessage {
        offset: 7,
        payload: Some(b"hunter2".to_vec()),
        headers: headers.iter().map(|(name, value)| ((*name).into(), Some((*value).into()))).collect(),
        ..Default::default()
    }))
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name)?;
    Some(found.value.to_string())
}

/// A handler that does this.
struct Does<F>(F);

impl<'a, F: Fn(Record<'_>) -> HandlerResult<Outcome> + Send + Sync + 'static> Next<'a> for Does<F> {
    async fn run(self, delivery: Delivery<'a>) -> HandlerResult<Outcome> {
        tokio::task::yield_now().await;
        (self.0)(delivery.record())
    }
}

fn ok(_: Record<'_>) -> HandlerResult<Outcome> {
    Ok(Outcome::Completed)
}

#[tokio::test]
async fn a_call_begins_a_trace_that_links_to_the_producers() {
    let traced = Traced::new(TraceMode::Link);
    let headers = [
        ("traceparent", SAMPLED),
        ("tracestate", "a=1"),
        ("ce_source", "/a"),
        ("ce_id", "1"),
        ("ce_correlationid", "2"),
    ];
    traced.call(&[&headers], Does(ok)).await.unwrap();
    let span = traced.only();
    assert_eq!(
        (&*span.name, &span.span_kind, &span.status),
        ("process t", &SpanKind::Consumer, &Status::Unset)
    );
    assert_eq!(span.parent_span_id, SpanId::INVALID);
    assert_ne!(span.span_context.trace_id(), producer().0);
    let [link] = &span.links.links[..] else { panic!("{:?}", span.links) };
    assert_eq!((link.span_context.trace_id(), link.span_context.span_id()), producer());
    assert_eq!(link.span_context.trace_state().header(), "a=1");
    let expected = [
        ("messaging.system", "kafka"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "t"),
        ("messaging.destination.partition.id", "3"),
        ("messaging.consumer.group.name", "g"),
        ("messaging.kafka.offset", "7"),
        ("messaging.message.id", "1"),
        ("messaging.message.conversation_id", "2"),
        ("onceward.handler", "on_flight"),
        ("onceward.attempt", "1"),
    ];
    for (name, value) in expected {
        assert_eq!(attribute(&span, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(span.attributes.len(), expected.len());
}

#[tokio::test]
async fn in_parent_mode_a_call_continues_the_producers_trace() {
    let traced = Traced::new(TraceMode::Parent);
    traced.call(&[&[("traceparent", SAMPLED)]], Does(ok)).await.unwrap();
    let span = traced.only();
    assert_eq!((span.span_context.trace_id(), span.parent_span_id), producer());
    assert!(span.parent_span_is_remote && span.links.links.is_empty());
}

#[tokio::test]
async fn a_record_whose_trace_is_not_recorded_has_no_span_and_carries_it_on() {
    for mode in [TraceMode::Link, TraceMode::Parent] {
        let traced = Traced::new(mode);
        let spans = traced.spans.clone();
        let carries_on = Does(move |record: Record<'_>| {
            let as_it_came = [("traceparent", UNSAMPLED.to_owned()), ("tracestate", "a=1".to_owned())];
            assert_eq!(outgoing(record), as_it_came);
            assert_eq!(spans.send_span("u", record).outgoing(record), as_it_came);
            Ok(Outcome::Completed)
        });
        let headers = [("traceparent", UNSAMPLED), ("tracestate", "a=1")];
        traced.call(&[&headers], carries_on).await.unwrap();
        assert_eq!(traced.ended(), []);
    }
}

#[tokio::test]
async fn a_record_without_a_trace_begins_one() {
    for headers in [&[][..], &[("traceparent", "?")]] {
        let traced = Traced::new(TraceMode::Parent);
        traced.call(&[headers], Does(ok)).await.unwrap();
        let span = traced.only();
        assert_eq!((span.parent_span_id, span.links.links.len()), (SpanId::INVALID, 0));
    }
}

#[tokio::test]
async fn a_batch_links_to_each_producer_whose_trace_is_recorded() {
    for mode in [TraceMode::Link, TraceMode::Parent] {
        let traced = Traced::new(mode);
        let other = SAMPLED.replace("b7ad6b7169203331", "2222222222222222");
        let (first, second) = ([("traceparent", SAMPLED)], [("traceparent", &*other)]);
        let records: [&[_]; 4] = [&first, &[("traceparent", UNSAMPLED)], &[], &second];
        traced.call(&records, Does(ok)).await.unwrap();
        let span = traced.only();
        let linked: Vec<_> = span.links.links.iter().map(|link| link.span_context.span_id()).collect();
        assert_eq!(linked, [producer().1, SpanId::from_hex("2222222222222222").unwrap()]);
        assert_eq!(attribute(&span, "messaging.batch.message_count").as_deref(), Some("4"));
        assert_eq!(
            (span.parent_span_id, attribute(&span, "messaging.kafka.offset")),
            (SpanId::INVALID, None)
        );
    }
}

#[tokio::test]
async fn a_batch_of_which_no_trace_is_recorded_has_no_span() {
    let traced = Traced::new(TraceMode::Link);
    let unsampled = [("traceparent", UNSAMPLED)];
    traced.call(&[&unsampled, &unsampled], Does(ok)).await.unwrap();
    assert_eq!(traced.ended(), []);
}

#[tokio::test]
async fn each_attempt_has_a_span_and_a_failure_shows_its_kind_only() {
    let traced = Traced::new(TraceMode::Link);
    let fails = Does(|record: Record<'_>| {
        let payload = String::from_utf8_lossy(record.payload().unwrap()).into_owned();
        Err(HandlerError::new(payload))
    });
    traced.call_again(1, &[&[]], fails).await.unwrap_err();
    traced.call_again(2, &[&[]], Does(ok)).await.unwrap();
    let [failed, completed] = traced.ended().try_into().unwrap();
    assert_eq!(attribute(&failed, "onceward.attempt").as_deref(), Some("1"));
    assert_eq!(attribute(&failed, "error.type").as_deref(), Some("returned"));
    assert_eq!(failed.status, Status::error("returned"));
    assert!(!format!("{failed:?}").contains("hunter2"));
    assert_eq!(attribute(&completed, "onceward.attempt").as_deref(), Some("2"));
    assert_eq!((completed.status, attribute(&failed, "error.type").is_some()), (Status::Unset, true));
}

#[tokio::test]
async fn a_call_that_is_dropped_was_abandoned() {
    struct Hangs;
    impl<'a> Next<'a> for Hangs {
        async fn run(self, _: Delivery<'a>) -> HandlerResult<Outcome> {
            std::future::pending().await
        }
    }
    let traced = Traced::new(TraceMode::Link);
    tokio::select! {
        biased;
        _ = traced.call(&[&[]], Hangs) => unreachable!("it hangs"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(attribute(&traced.only(), "error.type").as_deref(), Some("abandoned"));
}

#[tokio::test]
async fn the_handlers_own_spans_and_what_it_publishes_continue_the_trace() {
    let traced = Traced::new(TraceMode::Parent);
    let published: Arc<Mutex<Vec<_>>> = Arc::default();
    let (provider, spans, log) = (traced.provider.clone(), traced.spans.clone(), published.clone());
    let works = Does(move |record: Record<'_>| {
        drop(provider.tracer("its own").start("look up"));
        log.lock().unwrap().extend(outgoing(record));
        let sending = spans.send_span("u", record);
        log.lock().unwrap().extend(sending.outgoing(record));
        sending.end(&Err::<(), _>("no such topic"));
        Ok(Outcome::Completed)
    });
    let headers = [("traceparent", SAMPLED), ("tracestate", "a=1")];
    traced.call(&[&headers], works).await.unwrap();
    let [own, send, process] = traced.ended().try_into().unwrap();
    assert_eq!(
        (own.parent_span_id, send.parent_span_id),
        (process.span_context.span_id(), process.span_context.span_id())
    );
    assert_eq!((&*send.name, &send.span_kind), ("send u", &SpanKind::Producer));
    assert_eq!(attribute(&send, "messaging.operation.type").as_deref(), Some("send"));
    assert_eq!(
        (send.status.clone(), attribute(&send, "error.type").as_deref()),
        (Status::error("_OTHER"), Some("_OTHER"))
    );
    let header = |span: &SpanData| format!("00-{}-{}-01", producer().0, span.span_context.span_id());
    let state = ("tracestate", "a=1".to_owned());
    assert_eq!(
        *published.lock().unwrap(),
        [("traceparent", header(&process)), state.clone(), ("traceparent", header(&send)), state]
    );
}

#[test]
fn a_send_outside_of_a_call_stands_to_the_producers_span_as_a_call_does() {
    let source = Source::new(TopicPartition::new("t", 0), "g".into());
    let message = message(&[("traceparent", SAMPLED)]);
    let record = Record::new(&message, &source, 1);
    let send = |mode| {
        let traced = Traced::new(mode);
        traced.spans.send_span("u", record).end(&Ok::<_, ()>(()));
        traced.only()
    };
    let (linked, child) = (send(TraceMode::Link), send(TraceMode::Parent));
    assert_eq!((linked.links.links.len(), linked.parent_span_id), (1, SpanId::INVALID));
    assert_eq!((child.span_context.trace_id(), child.parent_span_id), producer());
    assert_eq!(child.status, Status::Unset);
}

#[test]
fn without_a_tracer_provider_there_are_no_spans_and_asking_makes_none() {
    assert!(!makes_spans(&BoxedTracer::new(Box::new(NoopTracer::new()))));
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_sampler(opentelemetry_sdk::trace::Sampler::AlwaysOn)
        .with_simple_exporter(exporter.clone())
        .build();
    assert!(makes_spans(&BoxedTracer::new(Box::new(provider.tracer("onceward")))));
    assert_eq!(exporter.get_finished_spans().unwrap(), []);
}

#[tokio::test]
async fn an_application_that_is_not_traced_hands_on_what_came() {
    let traced = Traced { spans: Spans::new(TraceMode::Off), ..Traced::new(TraceMode::Link) };
    let carries_on = Does(|record: Record<'_>| {
        assert_eq!(outgoing(record), [("traceparent", SAMPLED.to_owned())]);
        Ok(Outcome::Completed)
    });
    traced.call(&[&[("traceparent", SAMPLED)]], carries_on).await.unwrap();
    assert_eq!(traced.ended(), []);
}

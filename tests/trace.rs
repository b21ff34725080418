//! The spans of an application reach a collector, in the trace that they belong to.
#![allow(clippy::unwrap_used)] // In tests a panic is the report.

#[path = "trace/collector.rs"]
mod collector;

use collector::Collector;
use onceward::TraceMode;
use onceward::prelude::*;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use support::{Running, Stack, produce_one, stack_or_leave_out, unique};
use tokio::sync::Mutex;

const TRACE_ID: u128 = 0x0af7651916cd43dd8448eb211c80319c;
const SPAN_ID: u64 = 0xb7ad6b7169203331;

/// A process has one tracer provider.
static TURN: Mutex<()> = Mutex::const_new(());

#[handler(topic = "overridden")]
async fn at_second_attempt(Attempt(attempt): Attempt) -> HandlerResult {
    if attempt == 1 {
        return Err("not yet".into());
    }
    Ok(())
}

/// The spans of what goes on in `work`, by time.
async fn spans_of(work: impl Future<Output = ()>) -> Vec<Span> {
    let _turn = TURN.lock().await;
    let collector = tokio::task::spawn_blocking(Collector::start).await.unwrap();
    let otlp = onceward::otlp::start_to("flight-log", &collector.endpoint).unwrap();
    work.await;
    otlp.shutdown().unwrap();
    let mut spans = collector.spans_of("flight-log");
    spans.sort_by_key(|span| span.start_time_unix_nano);
    spans
}

/// The spans of an application that handles one record with these headers.
async fn spans(stack: &Stack, mode: TraceMode, headers: &[(&str, &str)]) -> Vec<Span> {
    let (topic, group) = (stack.topic("trace", 1).await, unique("group"));
    let spans = spans_of(async {
        produce_one(&stack.producer(), &topic, 0, Some("1"), headers).await;
        let route = at_second_attempt {}.route().topic(&topic).group(&group);
        let running = Running::start(stack.app().trace(mode).handler(route));
        stack.caught_up(&group, &topic, 1).await;
        running.stop().await.unwrap();
    })
    .await;
    assert!(spans.iter().all(|span| span.name == format!("process {topic}")));
    assert!(spans.iter().all(|span| span.kind() == SpanKind::Consumer));
    spans
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE_ID:032x}-{SPAN_ID:016x}-{flags}")
}

fn has_failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

#[tokio::test(flavor = "multi_thread")]
async fn in_parent_mode_each_attempt_arrives_in_the_producers_trace() {
    let stack = stack_or_leave_out!();
    let spans = spans(&stack, TraceMode::Parent, &[("traceparent", &traceparent("01"))]).await;
    assert_eq!(spans.iter().map(has_failed).collect::<Vec<_>>(), [true, false]);
    for span in &spans {
        assert_eq!(span.trace_id, TRACE_ID.to_be_bytes());
        assert_eq!(span.parent_span_id, SPAN_ID.to_be_bytes());
    }
    assert_ne!(spans[0].span_id, spans[1].span_id);
}

/// In a runtime of one thread, which also waits for the last spans.
#[tokio::test]
async fn in_link_mode_each_attempt_arrives_with_a_link_to_the_producer() {
    let stack = stack_or_leave_out!();
    let spans = spans(&stack, TraceMode::Link, &[("traceparent", &traceparent("01"))]).await;
    assert_eq!(spans.iter().map(has_failed).collect::<Vec<_>>(), [true, false]);
    for span in &spans {
        assert_ne!(span.trace_id, TRACE_ID.to_be_bytes());
        assert!(span.parent_span_id.is_empty());
        assert_eq!(span.links[0].trace_id, TRACE_ID.to_be_bytes());
        assert_eq!(span.links[0].span_id, SPAN_ID.to_be_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_is_not_recorded_is_not_sent() {
    let stack = stack_or_leave_out!();
    assert_eq!(spans(&stack, TraceMode::Parent, &[("traceparent", &traceparent("00"))]).await, []);
    assert_eq!(spans(&stack, TraceMode::Off, &[("traceparent", &traceparent("01"))]).await, []);
}

#[derive(Clone)]
struct Target(String);

#[handler(topic = "overridden")]
async fn forward(payload: &[u8], target: State<Target>) -> HandlerResult<ProducerRecord> {
    Ok(ProducerRecord::to(&target.0.0).payload(payload.to_vec()))
}

#[handler(topic = "overridden", max_attempts = 2)]
async fn give_up(_record: Record<'_>) -> HandlerResult {
    Err(HandlerError::new("never"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_goes_from_the_producer_through_two_services_and_a_retry_to_the_dead_letter() {
    let stack = stack_or_leave_out!();
    let (source, target) = (stack.topic("source", 1).await, stack.topic("target", 1).await);
    let letters = format!("{target}.dlq");
    stack.topic_named(&letters, 1, &[]).await;
    let (first, second) = (unique("first"), unique("second"));
    let spans = spans_of(async {
        let app = stack
            .app()
            .trace(TraceMode::Parent)
            .state(Target(target.clone()))
            .handler(forward {}.route().topic(&source).group(&first))
            .handler(give_up {}.route().topic(&target).group(&second));
        let running = Running::start(app);
        produce_one(&stack.producer(), &source, 0, Some("1"), &[("traceparent", &traceparent("01"))]).await;
        stack.caught_up(&first, &source, 1).await;
        stack.caught_up(&second, &target, 1).await;
        running.stop().await.unwrap();
    })
    .await;
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    let expected = [
        format!("process {source}"),
        format!("send {target}"),
        format!("process {target}"),
        format!("process {target}"),
        format!("send {letters}"),
    ];
    assert_eq!(names, expected);
    assert!(spans.iter().all(|span| span.trace_id == TRACE_ID.to_be_bytes()));
    let sent = &spans[1].span_id;
    let parents: Vec<&[u8]> = spans.iter().map(|span| &*span.parent_span_id).collect();
    assert_eq!(parents, [&SPAN_ID.to_be_bytes()[..], &spans[0].span_id, sent, sent, sent]);
    assert_eq!(spans.iter().map(has_failed).collect::<Vec<_>>(), [false, false, true, true, false]);
}

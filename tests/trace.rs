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

/// The spans of an application that handles one record with these headers, by time.
async fn spans(stack: &Stack, mode: TraceMode, headers: &[(&str, &str)]) -> Vec<Span> {
    let _turn = TURN.lock().await;
    let collector = tokio::task::spawn_blocking(Collector::start).await.unwrap();
    let otlp = onceward::otlp::start_to("flight-log", &collector.endpoint).unwrap();
    let (topic, group) = (stack.topic("trace", 1).await, unique("group"));
    produce_one(&stack.producer(), &topic, 0, Some("1"), headers).await;
    let route = at_second_attempt {}.route().topic(&topic).group(&group);
    let running = Running::start(stack.app().trace(mode).handler(route));
    stack.caught_up(&group, &topic, 1).await;
    running.stop().await.unwrap();
    otlp.shutdown().unwrap();
    let mut spans = collector.spans_of("flight-log");
    spans.sort_by_key(|span| span.start_time_unix_nano);
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
async fn what_is_not_to_be_recorded_is_not_sent() {
    let stack = stack_or_leave_out!();
    assert_eq!(spans(&stack, TraceMode::Parent, &[("traceparent", &traceparent("00"))]).await, []);
    assert_eq!(spans(&stack, TraceMode::Off, &[("traceparent", &traceparent("01"))]).await, []);
}

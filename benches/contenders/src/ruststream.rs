//! ruststream with its Kafka crate: commits are tracked, and the handler takes the bytes.

use crate::{arguments, handle};
use ruststream_rdkafka::prelude::*;

#[derive(Deserialized)]
struct Payload<'a>(&'a [u8]);

#[subscriber(
    KafkaTopic::new(&arguments().topic)
        .group(&arguments().group)
        .start(StartOffset::Earliest)
        .assignment(Assignment::CooperativeSticky)
        .commit(Commit::Tracked)
)]
async fn noop(payload: &Payload<'_>) -> HandlerOutcome {
    handle(payload.0);
    HandlerOutcome::ack()
}

pub fn run() {
    let mut broker = KafkaBroker::new([arguments().brokers.clone()]);
    for (property, value) in &arguments().properties {
        broker = broker.config(property, value);
    }
    let app = RustStream::new(AppInfo::new("bench", "0.1.0")).with_broker(broker, |broker| {
        broker.include(noop);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(app.run()).expect("it runs until the last record");
}

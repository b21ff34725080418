//! sentry_arroyo: a task for each record, and offsets that are committed once a second.

use crate::{arguments, handle};
use sentry_arroyo::backends::kafka::InitialOffset;
use sentry_arroyo::backends::kafka::config::KafkaConfig;
use sentry_arroyo::backends::kafka::types::KafkaPayload;
use sentry_arroyo::processing::StreamProcessor;
use sentry_arroyo::processing::strategies::commit_offsets::CommitOffsets;
use sentry_arroyo::processing::strategies::run_task::RunTask;
use sentry_arroyo::processing::strategies::{ProcessingStrategy, ProcessingStrategyFactory, SubmitError};
use sentry_arroyo::types::{Message, Topic};
use std::time::Duration;

struct Noop;

impl ProcessingStrategyFactory<KafkaPayload> for Noop {
    fn create(&self) -> Box<dyn ProcessingStrategy<KafkaPayload>> {
        Box::new(RunTask::new(noop, CommitOffsets::new(Duration::from_secs(1))))
    }
}

fn noop(message: Message<KafkaPayload>) -> Result<Message<KafkaPayload>, SubmitError<KafkaPayload>> {
    handle(message.payload().payload().expect("a payload"));
    Ok(message)
}

pub fn run() {
    let config = KafkaConfig::new_consumer_config(
        vec![arguments().brokers.clone()],
        arguments().group.clone(),
        InitialOffset::Earliest,
        false,
        300_000,
        Some(arguments().properties.clone()),
    );
    let processor = StreamProcessor::with_kafka(config, Noop, Topic::new(&arguments().topic), None);
    processor.run().expect("it runs until the last record");
}

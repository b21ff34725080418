//! When a handler fails: what is tried again, what is given up, where it goes, and what it costs the others.
#![allow(clippy::unwrap_used)] // In tests a panic is the report.

#[path = "failures/dead_letters.rs"]
mod dead_letters;
#[path = "failures/flights.rs"]
mod flights;
#[path = "failures/hostile.rs"]
mod hostile;
#[path = "failures/killers.rs"]
mod killers;
#[path = "failures/letter_topics.rs"]
mod letter_topics;
#[path = "failures/publishing.rs"]
mod publishing;
#[path = "failures/readers.rs"]
mod readers;
#[path = "failures/refusals.rs"]
mod refusals;
#[path = "failures/retries.rs"]
mod retries;
#[path = "failures/waiting.rs"]
mod waiting;

use onceward::prelude::*;
use onceward::{Config, DedupeKind};
use rdkafka::Message;
use rdkafka::message::OwnedMessage;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Stack, fill, read_all, unique};

/// A topic with numbered records, a group, and the topic for its dead letters.
struct World {
    stack: Stack,
    topic: String,
    letters: String,
    group: String,
}

impl World {
    /// Partitions with so many records each.
    async fn new(stack: Stack, partitions: i32, records: usize) -> Self {
        let (topic, group) = (stack.topic("failures", partitions).await, unique("group"));
        for partition in 0..partitions {
            fill(&stack, &topic, partition, records).await;
        }
        let letters = format!("{topic}.dlq");
        Self { stack, topic, letters, group }
    }

    fn app(&self, route: impl onceward::IntoRoute, calls: &Calls) -> App {
        let mut config = Config::default();
        config.commit_interval = Some(Duration::from_millis(100));
        self.stack.app().config(config).dedupe(DedupeKind::Memory).state(calls.clone()).handler(route)
    }

    fn route<H: Handler>(&self, handler: H) -> onceward::Route<H> {
        handler.route().topic(&self.topic).group(&self.group)
    }

    async fn caught_up(&self, partitions: i32) {
        self.stack.caught_up(&self.group, &self.topic, partitions).await;
    }

    async fn letters(&self) -> Vec<OwnedMessage> {
        read_all(&self.stack, &self.letters, 0).await
    }
}

/// A record's number, which is its payload.
fn number(payload: &[u8]) -> HandlerResult<u32> {
    Ok(std::str::from_utf8(payload)?.parse()?)
}

fn numbers(letters: &[OwnedMessage]) -> Vec<u32> {
    letters.iter().map(|letter| number(letter.payload().unwrap()).unwrap()).collect()
}

/// The calls of a handler, in order: number and attempt.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<(u32, u32)>>>);

impl Calls {
    fn note(&self, number: u32, attempt: u32) {
        self.0.lock().unwrap().push((number, attempt));
    }

    fn all(&self) -> Vec<(u32, u32)> {
        self.0.lock().unwrap().clone()
    }

    fn of(&self, number: u32) -> usize {
        self.all().iter().filter(|(of, _)| *of == number).count()
    }

    /// The numbers in the order of their last calls, each once.
    fn done(&self) -> Vec<u32> {
        let calls = self.all();
        let is_last = |place: usize| !calls[place + 1..].iter().any(|(later, _)| *later == calls[place].0);
        (0..calls.len()).filter(|&place| is_last(place)).map(|place| calls[place].0).collect()
    }
}

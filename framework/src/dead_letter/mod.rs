//! Gets records that were given up, gives acknowledged copies of them in the
//! dead-letter topic.

mod headers;
mod topic;
mod written;

pub(crate) use topic::{check_circle, check_topics};
pub(crate) use written::Written;

use crate::config::{DeadLetterConfig, DeadLetterPartition};
use crate::failure::{Reason, capped};
use crate::identity::{Identity, IdentitySource};
use crate::producer::{ProduceError, Producer};
use crate::trials::Trial;
use crate::{Record, Run};
use rdkafka::producer::FutureRecord;
use std::fmt;
use std::sync::Arc;
use written::Found;

/// What a copy says of its original.
pub(crate) struct Letter<'l> {
    pub(crate) record: Record<'l>,
    pub(crate) group: &'l str,
    pub(crate) handler: &'l str,
    pub(crate) reason: Reason,
    pub(crate) class: &'l str,
    pub(crate) message: String,
    pub(crate) attempts: u32,
    /// Milliseconds since the epoch.
    pub(crate) first_failure: u128,
    pub(crate) identity: Identity,
}

/// Publishes copies, for all routes of the application.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    producer: Arc<Producer>,
    config: Arc<DeadLetterConfig>,
}

impl DeadLetters {
    pub(crate) fn new(producer: Arc<Producer>, config: DeadLetterConfig) -> Self {
        Self { producer, config: Arc::new(config) }
    }

    /// For the records of one route, or of one topic that no route takes.
    pub(crate) fn to(&self, topic: Option<String>, rejected: Option<String>) -> RouteLetters {
        RouteLetters { letters: self.clone(), topic, rejected }
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeadLetters")
    }
}

/// Publishes copies of the records of one route.
#[derive(Debug, Clone)]
pub(crate) struct RouteLetters {
    letters: DeadLetters,
    /// Where not `<topic>.dlq`.
    topic: Option<String>,
    /// Where those go that do not decode, if not to the same topic.
    rejected: Option<String>,
}

impl RouteLetters {
    /// The topic for a record that was given up for this reason.
    pub(crate) fn topic_for(&self, source: &str, reason: Reason) -> String {
        let rejected = self.rejected.as_ref().filter(|_| reason == Reason::Rejected);
        rejected.or(self.topic.as_ref()).cloned().unwrap_or_else(|| topic_of(source))
    }

    /// Publishes a copy and waits until all in-sync replicas have it.
    pub(crate) async fn put(&self, letter: &Letter<'_>) -> Result<(), ProduceError> {
        let topic = self.topic_for(letter.record.topic(), letter.reason);
        let config = self.letters.producer.config();
        let found = letter.record.source().written.find(config, &topic, letter).await;
        match found.map_err(|error| ProduceError::new(&topic, error))? {
            Found::Copy => return Ok(()),
            Found::NoTopic if self.letters.config.create() => {
                topic::create(config, letter.record.topic(), &topic).await?;
            }
            Found::NoTopic | Found::NoCopy => {}
        }
        match self.send(&topic, letter, headers::Extent::All).await {
            Err(error) if error.is_too_large() => {
                self.send(&topic, letter, headers::Extent::NeededForRepair).await
            }
            sent => sent,
        }
    }

    async fn send(
        &self,
        topic: &str,
        letter: &Letter<'_>,
        extent: headers::Extent,
    ) -> Result<(), ProduceError> {
        let config = &self.letters.config;
        let mut copy = FutureRecord::<[u8], [u8]>::to(topic).headers(headers::of(letter, config, extent));
        copy.key = letter.record.key();
        copy.payload = letter.record.payload();
        if config.partition() == DeadLetterPartition::Source {
            copy.partition = Some(letter.record.partition());
        }
        let span = self.letters.producer.span(topic, letter.record);
        let sent = self.letters.producer.send(copy).await;
        span.end(&sent);
        sent.map(|_| ())
    }
}

/// The dead-letter topic of a topic, unless another is set.
pub(crate) fn topic_of(topic: &str) -> String {
    format!("{topic}.dlq")
}

/// What the copy of a record says that no handler takes.
pub(crate) fn unmatched<'l>(record: Record<'l>, run: Run<'l>, event: &str) -> Letter<'l> {
    Letter {
        record,
        group: &run.assigned().group,
        handler: "",
        reason: Reason::Unmatched,
        class: "onceward::Unmatched",
        message: capped(format!("no handler takes event type {event}")),
        attempts: 0,
        first_failure: Trial::of(0).first_failure,
        identity: IdentitySource::default().of(record),
    }
}

//! Gets records that were given up, gives acknowledged copies of them in the
//! dead-letter topic.

mod headers;
#[cfg(test)]
mod tests;
mod topic;
mod written;

pub(crate) use topic::{check_circle, check_topics};
pub(crate) use written::Written;

use crate::config::{DeadLetterConfig, DeadLetterPartition, Resolved};
use crate::error::Error;
use crate::failure::{Reason, capped};
use crate::identity::{Identity, IdentitySource};
use crate::producer::{ProduceError, Producer};
use crate::trace::Spans;
use crate::trials::Trial;
use crate::trouble::Cause;
use crate::{HandlerError, HandlerResult, Record, Run};
use rdkafka::error::KafkaError;
use rdkafka::producer::FutureRecord;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::RwLock;
use written::Found;

/// What a copy says of its original.
pub(crate) struct Letter<'l> {
    pub(crate) record: Record<'l>,
    pub(crate) group: &'l str,
    pub(crate) handler: &'l str,
    pub(crate) reason: Reason,
    pub(crate) class: &'l str,
    pub(crate) message: String,
    /// By which it does not decode.
    pub(crate) schema: Option<(String, Option<Arc<str>>)>,
    pub(crate) attempts: u32,
    /// Milliseconds since the epoch.
    pub(crate) first_failure: u128,
    pub(crate) identity: Identity,
}

/// How long a copy waits for its acknowledgement before it is looked for and sent
/// again. Less than a session: a member that is cut off has no copy in its queue any
/// more when another one gets the record.
const COPIED_WITHIN: Duration = Duration::from_secs(4);

/// Publishes copies, for all routes of the application.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    producer: Arc<Producer>,
    config: Arc<DeadLetterConfig>,
    /// Read by each send until it is over, also where nobody waits for it any more.
    under_way: Arc<RwLock<()>>,
}

impl DeadLetters {
    pub(crate) fn new(config: &Resolved, spans: &Spans) -> Result<Self, Error> {
        let within = (config.session_timeout()? / 2).min(COPIED_WITHIN);
        let producer = Producer::new(config.clone(), spans.clone(), within)?;
        let config = Arc::new(config.dead_letter.clone());
        Ok(Self { producer: Arc::new(producer), config, under_way: Arc::default() })
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
        let found =
            letter.record.source().written.find(config, &topic, letter, &self.letters.under_way).await;
        match found.map_err(|error| ProduceError::new(&topic, error))? {
            Found::Copy => return Ok(()),
            Found::NoTopic if self.letters.config.create() => {
                topic::create(config, letter.record.topic(), &topic).await?;
            }
            Found::NoTopic | Found::NoCopy => {}
        }
        let sent = match self.send(&topic, letter, headers::Extent::All).await {
            Err(error) if error.is_too_large() => {
                self.send(&topic, letter, headers::Extent::NeededForRepair).await
            }
            sent => sent,
        };
        if sent.is_err() {
            // The broker may have it, and only its answer is missing.
            letter.record.source().written.forget(&topic).await;
        }
        sent
    }

    async fn send(
        &self,
        topic: &str,
        letter: &Letter<'_>,
        extent: headers::Extent,
    ) -> Result<(), ProduceError> {
        let DeadLetters { producer, config, under_way } = &self.letters;
        let headers = headers::of(letter, config, extent);
        let (key, payload) =
            (letter.record.key().map(<[u8]>::to_vec), letter.record.payload().map(<[u8]>::to_vec));
        let partition =
            (config.partition() == DeadLetterPartition::Source).then(|| letter.record.partition());
        let span = producer.span(topic, letter.record);
        let is_under_way = under_way.clone().read_owned().await;
        // It goes on where this is dropped: the producer sends it all the same.
        let (producer, to) = (producer.clone(), topic.to_owned());
        let sending = tokio::spawn(async move {
            let mut copy = FutureRecord::<[u8], [u8]>::to(&to).headers(headers);
            (copy.key, copy.payload, copy.partition) = (key.as_deref(), payload.as_deref(), partition);
            let sent = producer.send(copy).await;
            span.end(&sent);
            drop(is_under_way);
            sent.map(|_| ())
        });
        sending.await.unwrap_or_else(|_| Err(ProduceError::new(topic, KafkaError::Canceled)))
    }
}

/// Publishes a copy, once. Nobody waits in here for what keeps it from that.
///
/// # Errors
/// What holds the record, and for how long if that is known.
pub(crate) async fn put(run: Run<'_>, letter: &Letter<'_>, letters: &RouteLetters) -> HandlerResult<()> {
    if let Some(time) = run.assigned().written.unsettled_for() {
        let problem = "the owner before this one may still write dead letters of the partition";
        return Err(HandlerError::held(Cause::Passing, problem).retry_after(time));
    }
    letters.put(letter).await.map_err(|error| {
        let cause = if error.is_outage() { Cause::Outage } else { Cause::Setup };
        let problem = HandlerError::new(error);
        HandlerError::held(cause, format!("no copy of a record in the dead-letter topic: {problem}"))
    })
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
        schema: None,
        attempts: 0,
        first_failure: Trial::of(0).first_failure,
        identity: IdentitySource::default().of(record),
    }
}

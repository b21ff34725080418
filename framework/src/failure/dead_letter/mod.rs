//! Gets records that failed for good, gives acknowledged copies of them in the dead-letter
//! topic.

mod headers;
mod make;
mod refusal;
#[cfg(test)]
mod tests;
mod topic;
mod written;

use crate::kafka::client_config::ClientSettings as _;
use crate::record::source::Source;
pub(crate) use topic::{check_circle, check_topics};
pub(crate) use written::after_another;

use crate::base::sync::lock;
use crate::config::{DeadLetterConfig, DeadLetterPartition, Resolved};
use crate::error::Error;
use crate::error::reason::Reason;
use crate::error::text::capped;
use crate::error::trouble::{Cause, Rarely};
use crate::failure::trials::Trial;
use crate::kafka::client::{FutureRecord, KafkaError};
use crate::kafka::producer::{ProduceError, Producer, Sends};
use crate::record::identity::{Identity, IdentitySource};
use crate::record::written::Written;
use crate::telemetry::trace::Spans;
use crate::{HandlerError, HandlerResult, Header, Record, Run};
use headers::Extent;
use std::fmt;
use std::sync::{Arc, Mutex};
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

/// How soon to look again whether a note beside the committed offset is overwritten.
const OVERWRITTEN_SOON: Duration = Duration::from_millis(50);

/// Publishes copies, for all routes of the application.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    producer: Arc<Producer>,
    spans: Spans,
    config: Arc<DeadLetterConfig>,
    /// Read by each send until it is over, also where nobody waits for it any more.
    under_way: Arc<RwLock<()>>,
    /// Copies that went to another partition than `dead_letter.partition` asks for.
    elsewhere: Arc<Mutex<Rarely>>,
}

impl DeadLetters {
    pub(crate) fn new(config: &Resolved, spans: &Spans) -> Result<Self, Error> {
        let within = (config.session_timeout()? / 2).min(COPIED_WITHIN);
        let producer = Producer::new(config.clone(), Sends::Copies, within)?;
        let config = Arc::new(config.dead_letter.clone());
        Ok(Self {
            producer: Arc::new(producer),
            spans: spans.clone(),
            config,
            under_way: Arc::default(),
            elsewhere: Arc::default(),
        })
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
    ///
    /// # Errors
    /// Where there is none yet. [`ProduceError::cause`] says whose fault that is; it is worth
    /// trying again, and for [`Cause::Passing`](crate::error::trouble::Cause::Passing) at once.
    pub(crate) async fn put(&self, letter: &Letter<'_>, source: &Source) -> Result<(), ProduceError> {
        let topic = self.topic_for(letter.record.topic(), letter.reason);
        let config = self.letters.producer.config();
        match written::find(config, &topic, letter, source, &self.letters.under_way).await? {
            Found::Copy => return Ok(()),
            Found::NoTopic if self.letters.config.creates() => {
                make::create(config, letter.record.topic(), &topic).await?;
            }
            Found::NoTopic => return Err(refusal::is_missing(&topic)),
            Found::NoCopy => {}
        }
        let sent = self.send_until_it_fits(&topic, letter, &source.written).await;
        if sent.is_err() {
            // The broker may have it, and only its answer is missing.
            written::forget(&source.written, &topic).await;
        }
        sent.map_err(|error| refusal::not_taken(&topic, error, size_of(letter)))
    }

    async fn send_until_it_fits(
        &self,
        topic: &str,
        letter: &Letter<'_>,
        written: &Written,
    ) -> Result<(), ProduceError> {
        let to_source = self.letters.config.partitioning() == DeadLetterPartition::Source;
        let (mut extent, mut partition) = (Extent::All, to_source.then(|| letter.record.partition()));
        loop {
            match self.send(topic, letter, extent, partition, written).await {
                Err(error) if error.is_too_large() && extent == Extent::All => {
                    extent = Extent::NeededForRepair
                }
                Err(error) if error.is_unknown_partition() && partition.is_some() => {
                    let copies = lock(&self.letters.elsewhere).count();
                    if let Some(copies) = copies {
                        tracing::warn!(
                            topic,
                            partition,
                            copies,
                            "the dead-letter topic lacks the partition that `dead_letter.partition` = `source` asks for; \
                             the copy goes to that of its key"
                        );
                    }
                    partition = None;
                }
                sent => return sent,
            }
        }
    }

    async fn send(
        &self,
        topic: &str,
        letter: &Letter<'_>,
        extent: Extent,
        partition: Option<i32>,
        written: &Written,
    ) -> Result<(), ProduceError> {
        let DeadLetters { producer, spans, config, under_way, .. } = &self.letters;
        let headers = headers::of(letter, config, extent);
        let (key, payload) =
            (letter.record.key().map(<[u8]>::to_vec), letter.record.payload().map(<[u8]>::to_vec));
        let span = spans.send_span(topic, letter.record);
        let is_under_way = under_way.clone().read_owned().await;
        let sending = written.sending();
        // It goes on where this is dropped: the producer sends it all the same.
        let (producer, to) = (producer.clone(), topic.to_owned());
        let sent = tokio::spawn(async move {
            let mut copy = FutureRecord::<[u8], [u8]>::to(&to).headers(headers);
            (copy.key, copy.payload, copy.partition) = (key.as_deref(), payload.as_deref(), partition);
            let sent = producer.send(copy).await;
            span.end(&sent);
            if sent.is_ok() {
                sending.acknowledged();
            }
            drop(is_under_way);
            sent.map(|_| ())
        });
        sent.await.unwrap_or_else(|_| Err(ProduceError::new(topic, KafkaError::Canceled)))
    }
}

/// Bytes of key, value and headers, as they came.
fn size_of(letter: &Letter<'_>) -> usize {
    let record = letter.record;
    let header = |header: Header<'_>| header.name_bytes().len() + header.value().map_or(0, <[u8]>::len);
    record.key().map_or(0, <[u8]>::len)
        + record.payload().map_or(0, <[u8]>::len)
        + record.headers().iter().map(header).sum::<usize>()
}

/// Publishes a copy, once. Nobody waits in here for what keeps it from that.
///
/// # Errors
/// What holds the record, and for how long if that is known.
pub(crate) async fn put(run: Run<'_>, letter: &Letter<'_>, letters: &RouteLetters) -> HandlerResult<()> {
    let source = run.assigned();
    if let Some(time) = source.written.unsettled_for() {
        if source.written.is_first_to_wait() {
            tracing::info!(
                partition = %source.partition,
                wait = ?time,
                "the first dead letter of the partition waits: the owner before did not say that it has left, and may \
                 still write one"
            );
        }
        let problem = "the owner before this one may still write dead letters of the partition";
        return Err(HandlerError::held(Cause::Passing, problem).retry_after(time));
    }
    if source.notes.has_left() {
        let problem = "that the owner before has left still stands beside the committed offset";
        return Err(HandlerError::held(Cause::Passing, problem).retry_after(OVERWRITTEN_SOON));
    }
    letters.put(letter, source).await.map_err(|error| {
        let cause = error.cause();
        let problem = HandlerError::new(error);
        let held =
            HandlerError::held(cause, format!("no copy of a record in the dead-letter topic: {problem}"));
        // The look for copies that are there already goes on where it was.
        if cause == Cause::Passing { held.retry_after(Duration::ZERO) } else { held }
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

//! Sends records: the dead letters of the application, and what its handlers
//! publish.

use crate::Record;
use crate::config::Resolved;
use crate::error::{BoxError, Error};
use crate::fault;
use crate::outage::{self, Unpublished};
use crate::topics::{self, REQUEST};
use crate::trace::{SendSpan, Spans};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a record waits for room in the producer's queue.
const ROOM_WITHIN: Duration = Duration::from_secs(5);

/// Sends records and waits for their acknowledgement by all in-sync replicas.
///
/// The client is made when it is first needed, and made anew after an error that
/// ends it.
pub(crate) struct Producer {
    config: Resolved,
    spans: Spans,
    /// How long a record waits for its acknowledgement.
    within: Duration,
    client: Mutex<Option<FutureProducer>>,
}

/// Why a record was not sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot publish to topic `{topic}`")]
pub(crate) struct ProduceError {
    pub(crate) topic: String,
    pub(crate) source: BoxError,
    code: Option<RDKafkaErrorCode>,
    meaning: Unpublished,
}

impl ProduceError {
    pub(crate) fn new(topic: &str, error: KafkaError) -> Self {
        let code = error.rdkafka_error_code();
        let meaning = outage::of_publish(&error);
        Self { topic: topic.to_owned(), source: error.into(), code, meaning }
    }

    pub(crate) fn is_too_large(&self) -> bool {
        matches!(
            self.code,
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize)
        )
    }

    /// Whose fault it is.
    pub(crate) fn meaning(&self) -> Unpublished {
        self.meaning
    }
}

impl Producer {
    /// Checks the settings; nothing is connected yet.
    pub(crate) fn new(config: Resolved, spans: Spans, within: Duration) -> Result<Self, Error> {
        client(&config, within).create_native_config().map_err(|source| Error::Kafka {
            action: "create the producer (setting `kafka`)".into(),
            brokers: config.brokers.clone(),
            source,
        })?;
        Ok(Self { config, spans, within, client: Mutex::default() })
    }

    pub(crate) fn config(&self) -> &Resolved {
        &self.config
    }

    /// Starts the span of a send because of a record.
    pub(crate) fn span(&self, topic: &str, cause: Record<'_>) -> SendSpan {
        self.spans.send_span(topic, cause)
    }

    /// Sends a record; gives its partition and offset when all in-sync replicas
    /// have it.
    pub(crate) async fn send(
        &self,
        record: FutureRecord<'_, [u8], [u8]>,
    ) -> Result<(i32, i64), ProduceError> {
        let topic = record.topic;
        let client = self.client().map_err(|error| ProduceError::new(topic, error))?;
        let sending = fault::point_once_sent("before_acknowledgement", client.send(record, ROOM_WITHIN));
        match sending.await {
            Ok(delivery) => Ok((delivery.partition, delivery.offset)),
            Err((error, _)) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
                    self.lock().take();
                }
                Err(ProduceError::new(topic, error))
            }
        }
    }

    /// Asks the broker about a topic that was missing or forbidden. The client goes by what it knows of
    /// a topic for minutes otherwise.
    pub(crate) async fn look_again(&self, topic: &str) {
        let (Ok(client), topic) = (self.client(), topic.to_owned()) else { return };
        // What comes of it the next try tells.
        let looked =
            topics::blocking(move || client.client().fetch_metadata(Some(&topic), REQUEST).map(drop));
        drop(looked.await);
    }

    fn client(&self) -> Result<FutureProducer, KafkaError> {
        let mut made = self.lock();
        match &*made {
            Some(client) => Ok(client.clone()),
            None => Ok(made.insert(client(&self.config, self.within).create()?).clone()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<FutureProducer>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client(config: &Resolved, within: Duration) -> ClientConfig {
    let mut client = config.client();
    if client.get("partitioner").is_none() {
        // What Java producers use: a key finds its partition from any client.
        client.set("partitioner", "murmur2_random");
    }
    if client.get("linger.ms").is_none() {
        // Most wait for one acknowledgement at a time.
        client.set("linger.ms", "1");
    }
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", within.as_millis().to_string())
        // The topic's own limit counts, not the client's.
        .set("message.max.bytes", "1000000000")
        .set("topic.metadata.propagation.max.ms", "2000");
    client
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Producer")
    }
}

//! Sends records: the dead letters of the application, and what its handlers
//! publish.

use super::client_config::ClientSettings as _;
use crate::base::fault;
use crate::base::sync::lock;
use crate::config::Resolved;
use crate::error::trouble::Cause;
use crate::error::{BoxError, Error};
use crate::kafka::outage::{self, Unpublished};
use crate::kafka::topics::{self, REQUEST};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, FutureProducer, FutureRecord, Producer as _};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

/// How long a record waits for room in the producer's queue.
const ROOM_WITHIN: Duration = Duration::from_secs(5);

/// Sends records and waits for their acknowledgement by all in-sync replicas.
///
/// The client is made when it is first needed, and made anew after an error that
/// ends it.
pub(crate) struct Producer {
    config: Resolved,
    /// How long a record waits for its acknowledgement.
    within: Duration,
    sends: Sends,
    client: Mutex<Option<FutureProducer>>,
    /// For records that were too large together with others, or without compression.
    alone: Mutex<Option<FutureProducer>>,
}

/// What a producer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sends {
    /// Records that handlers make.
    Records,
    /// Copies of records, which their own producers may have compressed to fit their topic.
    Copies,
}

/// Why a record was not sent, or why there is no copy of it yet.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(crate) struct ProduceError {
    pub(crate) topic: String,
    /// One sentence, with the setting and what to do where somebody has to.
    problem: String,
    pub(crate) source: BoxError,
    code: Option<RDKafkaErrorCode>,
    cause: Cause,
    meaning: Unpublished,
}

impl ProduceError {
    pub(crate) fn new(topic: &str, error: KafkaError) -> Self {
        let code = error.rdkafka_error_code();
        let meaning = outage::of_publish(&error);
        let cause = match meaning {
            Unpublished::Held(cause, _) => cause,
            Unpublished::Record => Cause::Setup,
        };
        let problem = format!("cannot publish to topic `{topic}`");
        Self { topic: topic.to_owned(), problem, source: error.into(), code, cause, meaning }
    }

    /// Says in other words what is wrong, and whose fault it is.
    pub(crate) fn explained(self, cause: Cause, problem: impl Into<String>) -> Self {
        Self { cause, problem: problem.into(), ..self }
    }

    /// Without an error of the client.
    pub(crate) fn of(topic: &str, cause: Cause, problem: String, source: impl Into<BoxError>) -> Self {
        let meaning = Unpublished::Record;
        Self { topic: topic.to_owned(), problem, source: source.into(), code: None, cause, meaning }
    }

    pub(crate) fn is_too_large(&self) -> bool {
        matches!(
            self.code,
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize)
        )
    }

    /// Whether the topic lacks the partition that was asked for.
    pub(crate) fn is_unknown_partition(&self) -> bool {
        self.code == Some(RDKafkaErrorCode::UnknownPartition)
    }

    pub(crate) fn code(&self) -> Option<RDKafkaErrorCode> {
        self.code
    }

    /// Whose fault it is that there is no copy yet.
    pub(crate) fn cause(&self) -> Cause {
        self.cause
    }

    /// Whether the broker could not be reached or could not work.
    pub(crate) fn is_outage(&self) -> bool {
        self.cause == Cause::Outage
    }

    /// Whose fault it is that a record of a handler's is not published.
    pub(crate) fn meaning(&self) -> Unpublished {
        self.meaning
    }
}

impl Producer {
    /// Checks the settings; nothing is connected yet.
    pub(crate) fn new(config: Resolved, sends: Sends, within: Duration) -> Result<Self, Error> {
        config.check_client::<BaseProducer>(client(&config, sends, within))?;
        Ok(Self { config, within, sends, client: Mutex::default(), alone: Mutex::default() })
    }

    pub(crate) fn config(&self) -> &Resolved {
        &self.config
    }

    /// Sends a record; gives its partition and offset when all in-sync replicas
    /// have it.
    pub(crate) async fn send(
        &self,
        record: FutureRecord<'_, [u8], [u8]>,
    ) -> Result<(i32, i64), ProduceError> {
        let mut again = FutureRecord::<[u8], [u8]>::to(record.topic);
        (again.key, again.payload) = (record.key, record.payload);
        (again.partition, again.timestamp) = (record.partition, record.timestamp);
        match self.send_once(record, Company::Others).await {
            // The broker measures the whole batch that it stood in. It was not written.
            Err((error, headers)) if error.is_too_large() => {
                again.headers = headers;
                self.send_once(again, Company::Alone).await.map_err(|(error, _)| error)
            }
            sent => sent.map_err(|(error, _)| error),
        }
    }

    /// Sends a record; gives its headers back with an error.
    async fn send_once(
        &self,
        record: FutureRecord<'_, [u8], [u8]>,
        company: Company,
    ) -> Result<(i32, i64), (ProduceError, Option<OwnedHeaders>)> {
        let topic = record.topic;
        let client = self.client(company).map_err(|error| (ProduceError::new(topic, error), None))?;
        let sending = fault::point_once_sent("before_acknowledgement", client.send(record, ROOM_WITHIN));
        match sending.await {
            Ok(delivery) => Ok((delivery.partition, delivery.offset)),
            Err((error, unsent)) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
                    lock(self.slot(company)).take();
                }
                Err((ProduceError::new(topic, error), unsent.headers().cloned()))
            }
        }
    }

    /// Asks the broker about a topic that was missing or forbidden. The client goes by what it knows of
    /// a topic for minutes otherwise.
    pub(crate) async fn look_again(&self, topic: &str) {
        let (Ok(client), topic) = (self.client(Company::Others), topic.to_owned()) else { return };
        // What comes of it the next try tells.
        let looked =
            topics::blocking(move || client.client().fetch_metadata(Some(&topic), REQUEST).map(drop));
        drop(looked.await);
    }

    fn slot(&self, company: Company) -> &Mutex<Option<FutureProducer>> {
        match company {
            Company::Others => &self.client,
            Company::Alone => &self.alone,
        }
    }

    fn client(&self, company: Company) -> Result<FutureProducer, KafkaError> {
        let mut made = lock(self.slot(company));
        if let Some(client) = &*made {
            return Ok(client.clone());
        }
        let mut config = client(&self.config, self.sends, self.within);
        if company == Company::Alone {
            config.set("batch.num.messages", "1");
            if self.sends == Sends::Copies {
                // The strongest that is always built in.
                config.remove("compression.type").set("compression.codec", "gzip");
            }
        }
        Ok(made.insert(config.create()?).clone())
    }
}

/// Whether other records may share a record's batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Company {
    Others,
    Alone,
}

fn client(config: &Resolved, sends: Sends, within: Duration) -> ClientConfig {
    let mut client = config.client();
    if client.get("partitioner").is_none() {
        // What Java producers use: a key finds its partition from any client.
        client.set("partitioner", "murmur2_random");
    }
    if client.get("linger.ms").is_none() {
        // Most wait for one acknowledgement at a time.
        client.set("linger.ms", "1");
    }
    let is_compression_set =
        ["compression.type", "compression.codec"].iter().any(|name| client.get(name).is_some());
    if sends == Sends::Copies && !is_compression_set {
        // A topic's limit counts after compression, and the original may have been compressed.
        client.set("compression.codec", "lz4");
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

//! Gets records that nobody can handle, gives acknowledged copies of them in the
//! dead-letter topic.

use crate::error::{BoxError, Error};
use crate::{HandlerError, Outcome, Outcomes, Record, Run};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::fmt;
use std::time::Duration;

/// The dead-letter topic of a topic.
pub(crate) fn topic_of(topic: &str) -> String {
    format!("{topic}.dlq")
}

/// Publishes copies to the dead-letter topics of a group's topics.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    producer: FutureProducer,
}

impl DeadLetters {
    pub(crate) fn new(client: &ClientConfig) -> Result<Self, rdkafka::error::KafkaError> {
        let mut config = client.clone();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // What Java producers use: a key finds its partition from any client.
            .set("partitioner", "murmur2_random")
            .set("topic.metadata.propagation.max.ms", "5000");
        Ok(Self { producer: config.create()? })
    }

    /// Copies each record, and finishes those whose copy all in-sync replicas have.
    pub(crate) async fn publish(
        &self,
        run: Run<'_>,
        group: &str,
        reason: impl Fn(Record<'_>) -> String,
    ) -> Outcomes {
        let mut outcomes = Vec::with_capacity(run.len());
        for record in run.iter() {
            match self.copy(record, group, &reason(record)).await {
                Ok(()) => outcomes.push(Outcome::DeadLettered),
                Err(error) => {
                    outcomes.push(Outcome::Failed(HandlerError::new(error)));
                    break;
                }
            }
        }
        outcomes.resize_with(run.len(), || Outcome::NotReached);
        Outcomes::new(outcomes)
    }

    async fn copy(&self, record: Record<'_>, group: &str, reason: &str) -> Result<(), BoxError> {
        let mut headers = OwnedHeaders::new();
        for header in record.headers().iter() {
            let name = header.name().ok_or("a header name is not UTF-8, so no exact copy can be made")?;
            headers = headers.insert(Header { key: name, value: header.value() });
        }
        let (partition, offset) = (record.partition().to_string(), record.offset().to_string());
        let ours = [
            ("onceward.dlq.topic", record.topic()),
            ("onceward.dlq.partition", &partition),
            ("onceward.dlq.offset", &offset),
            ("onceward.dlq.group", group),
            ("onceward.dlq.reason", reason),
        ];
        for (key, value) in ours {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let topic = topic_of(record.topic());
        let mut copy = FutureRecord::<[u8], [u8]>::to(&topic).headers(headers);
        copy.key = record.key();
        copy.payload = record.payload();
        self.producer
            .send(copy, Duration::from_secs(5))
            .await
            .map(|_| ())
            .map_err(|(error, _)| format!("no copy in the dead-letter topic `{topic}`: {error}").into())
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeadLetters")
    }
}

/// A dead-letter topic must not be one that is read, else records go in a circle.
pub(crate) fn check(topics: &[String]) -> Result<(), Error> {
    match topics.iter().find(|topic| topics.contains(&topic_of(topic))) {
        None => Ok(()),
        Some(topic) => Err(Error::Topic {
            topic: topic_of(topic),
            problem: format!(
                "it is the dead-letter topic of `{topic}` and read by the same group, so dead letters would go \
                 in a circle; read it in another group"
            ),
        }),
    }
}

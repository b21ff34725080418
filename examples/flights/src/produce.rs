//! `flights produce`: one record per row.

use crate::Result;
use crate::args::{Args, Options};
use crate::avro::Encoders;
use crate::copies::Copies;
use crate::flight::Row;
use crate::selection::Selection;
use crate::settings::{self, DATA};
use md5::{Digest, Md5};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, ClientContext};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(crate) const OPTIONS: Options = Options {
    operand: Some("FILE"),
    flags: &["--forwarded"],
    values: &["--from", "--to", "--sample", "--seed", "--duplicates", "--format", "--rate"],
};

/// The headers that a forwarder copies from a record that Onceward wrote to every record of its own.
const FORWARDED: [(&str, &str); 5] = [
    ("onceward.identity", "0123456789abcdef0123456789abcdef@~1700000000000"),
    ("onceward.hops", "1"),
    ("onceward.redriven", "1"),
    ("onceward.dlq.topic", "flights"),
    ("onceward.dlq.offset", "7"),
];

const TICK: Duration = Duration::from_millis(10);

/// Produces the selected rows and their copies, and waits until Kafka has them.
pub(crate) async fn produce(args: &Args) -> Result<()> {
    let (selection, mut copies) = (Selection::from_args(args)?, Copies::from_args(args)?);
    let rate = args.number("--rate", 1)?;
    let avro = if args.is_avro()? { Some(Encoders::new()?) } else { None };
    let (brokers, topic) = (settings::brokers()?, settings::topic());
    create_topic(&brokers, &topic, settings::partitions()?).await?;
    let mut sender = Sender::connect(&brokers, topic.clone(), rate)?;
    sender.forwarded = args.has("--forwarded");
    selection.each(args.operand().unwrap_or(DATA), |row| {
        let payload = match &avro {
            Some(encoders) => encoders.encode(&topic, &row)?,
            None => as_json(&row)?,
        };
        let mut event = Event::of(row, payload);
        copies.plan(&mut event);
        sender.send(&event)?;
        while let Some(copy) = copies.due() {
            sender.send(&copy)?;
        }
        Ok(())
    })?;
    for copy in copies.rest() {
        sender.send(&copy)?;
    }
    sender.finish()
}

fn as_json(row: &Row<'_>) -> Result<Vec<u8>> {
    let mut payload = Vec::with_capacity(512);
    serde_json::to_writer(&mut payload, row)
        .map_err(|error| format!("cannot write {} as JSON: {error}", row.event_id))?;
    Ok(payload)
}

async fn create_topic(brokers: &str, topic: &str, partitions: i32) -> Result<()> {
    let cannot = |error: &dyn std::fmt::Display| {
        format!("cannot create the topic `{topic}` (FLIGHTS_TOPIC) on {brokers} (KAFKA_BROKERS): {error}")
    };
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().map_err(|error| cannot(&error))?;
    let topics = [NewTopic::new(topic, partitions, TopicReplication::Fixed(1))];
    let limit = Some(Duration::from_secs(30));
    let options = AdminOptions::new().request_timeout(limit).operation_timeout(limit);
    let results = admin.create_topics(&topics, &options).await.map_err(|error| cannot(&error))?;
    match results.into_iter().next() {
        None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, error))) => Err(cannot(&error)),
    }
}

/// A record before it is produced.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) payload: Vec<u8>,
    /// In milliseconds; `None` is the time of producing.
    pub(crate) timestamp: Option<i64>,
}

impl Event {
    fn of(row: Row<'_>, payload: Vec<u8>) -> Self {
        Self { key: row.tailnum.to_owned(), id: row.event_id, payload, timestamp: None }
    }

    /// The same for each copy, the trace too.
    fn headers(&self) -> OwnedHeaders {
        let trace = u128::from_be_bytes(Md5::digest(&self.id).into());
        let traceparent = format!("00-{trace:032x}-{:016x}-01", trace as u64);
        OwnedHeaders::new_with_capacity(3)
            .insert(Header { key: "ce_source", value: Some("/flights") })
            .insert(Header { key: "ce_id", value: Some(&self.id) })
            .insert(Header { key: "traceparent", value: Some(&traceparent) })
    }

    fn to_record<'a>(&'a self, topic: &'a str, forwarded: bool) -> BaseRecord<'a, String, Vec<u8>> {
        let mut headers = self.headers();
        for (key, value) in FORWARDED.iter().filter(|_| forwarded) {
            headers = headers.insert(Header { key, value: Some(*value) });
        }
        let record = BaseRecord::to(topic).key(&self.key).payload(&self.payload).headers(headers);
        match self.timestamp {
            Some(timestamp) => record.timestamp(timestamp),
            None => record,
        }
    }
}

struct Sender {
    producer: BaseProducer<Deliveries>,
    topic: String,
    rate: Option<u32>,
    /// As a forwarder sends records that copies the headers of another one.
    forwarded: bool,
    start: Instant,
    sent: u64,
}

impl Sender {
    fn connect(brokers: &str, topic: String, rate: Option<u32>) -> Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            // Acknowledged by all replicas, none twice and none overtaken by its own retry.
            .set("enable.idempotence", "true")
            // Java's partitioner: every client puts a key on the same partition.
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "20")
            // Enough for full batches; what is held for longer falls out of the processor's caches.
            .set("queue.buffering.max.messages", "20000")
            .create_with_context(Deliveries::default())
            .map_err(|error| format!("cannot make a producer for {brokers} (KAFKA_BROKERS): {error}"))?;
        Ok(Self { producer, topic, rate, forwarded: false, start: Instant::now(), sent: 0 })
    }

    fn send(&mut self, event: &Event) -> Result<()> {
        self.wait_for_turn();
        let mut record = event.to_record(&self.topic, self.forwarded);
        while let Err((error, unsent)) = self.producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(format!("cannot produce {} to the topic `{}`: {error}", event.id, self.topic));
            }
            self.producer.poll(TICK);
            self.check()?;
            record = unsent;
        }
        self.sent += 1;
        if self.sent.is_multiple_of(100) {
            self.producer.poll(Duration::ZERO);
        }
        Ok(())
    }

    /// Waits as the rate asks for, but not for each of many records: a poll
    /// cannot sleep for less than a millisecond.
    fn wait_for_turn(&self) {
        let Some(rate) = self.rate else { return };
        let turn = Duration::from_secs_f64(self.sent as f64 / f64::from(rate));
        match turn.checked_sub(self.start.elapsed()) {
            Some(wait) if wait >= TICK => self.producer.poll(wait),
            _ => (),
        }
    }

    /// Waits until every record is acknowledged or given up.
    fn finish(self) -> Result<()> {
        self.producer
            .flush(Timeout::Never)
            .map_err(|error| format!("cannot produce to the topic `{}`: {error}", self.topic))?;
        self.check()?;
        let acknowledged = self.producer.context().acknowledged.load(Ordering::Relaxed);
        if acknowledged != self.sent {
            return Err(format!(
                "{} of {} records have no delivery report",
                self.sent - acknowledged,
                self.sent
            ));
        }
        let seconds = self.start.elapsed().as_secs_f64();
        eprintln!("{seconds:.2} s, {:.0} records/s", self.sent as f64 / seconds);
        println!("produced: {}", self.sent);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        match self.producer.context().failure.get() {
            None => Ok(()),
            Some(failure) => Err(format!(
                "a record was not acknowledged, so the topic `{}` lacks at least that one: {failure}; \
                 delete the topic and produce again",
                self.topic
            )),
        }
    }
}

/// The results of the delivery reports.
#[derive(Default)]
struct Deliveries {
    acknowledged: AtomicU64,
    failure: OnceLock<KafkaError>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.failure.get_or_init(|| error.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::message::Headers;

    #[test]
    fn an_event_carries_its_identity_and_a_trace() {
        let event = Event { id: "a/1".into(), key: "k".into(), payload: Vec::new(), timestamp: None };
        let headers: Vec<_> =
            event.headers().iter().map(|header| (header.key.to_owned(), text(header))).collect();
        let trace = "00-32a390517fcc6e43df5fc5f2c94699e1-df5fc5f2c94699e1-01";
        assert_eq!(
            headers,
            [("ce_source", "/flights"), ("ce_id", "a/1"), ("traceparent", trace)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    fn text(header: Header<'_, &[u8]>) -> String {
        String::from_utf8(header.value.unwrap().to_vec()).unwrap()
    }
}

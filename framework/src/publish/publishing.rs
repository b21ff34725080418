//! Gets what handlers publish because of a record, gives it to the producer, with the headers that say so.

use super::{HOPS_HEADER, ProducerRecord, Published};
use crate::Record;
use crate::base::sync::lock;
use crate::config::Resolved;
use crate::error::panic::without_panic;
use crate::error::reason::Reason;
use crate::error::trouble::Cause;
use crate::error::{Error, ErrorKind, HandlerError, HandlerResult};
use crate::kafka::client::{FutureRecord, Header, OwnedHeaders};
use crate::kafka::outage::Unpublished;
use crate::kafka::producer::{ProduceError, Producer, Sends};
use crate::record::identity::{IDENTITY_HEADER, Identity, IdentitySource, Origin, is_blank, is_nil};
use crate::telemetry::trace::Spans;
use std::collections::HashMap;
use std::fmt;
use std::num::IntErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a record waits for its acknowledgement; the handler is called again then.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);
const CORRELATION: &str = "ce_correlationid";
const CAUSATION: &str = "ce_causationid";

/// Publishes for one handler. All of the application's share a producer.
pub(crate) struct Publishing {
    producer: Arc<Producer>,
    spans: Spans,
    max_hops: u32,
    handler: Arc<str>,
    identity: IdentitySource,
}

/// Counts the records that one call publishes in one way and that are equal.
pub(super) struct Equals {
    way: &'static str,
    counts: Mutex<HashMap<u128, i64>>,
}

impl Equals {
    pub(super) fn of(way: &'static str) -> Self {
        Self { way, counts: Mutex::default() }
    }

    fn next(&self, base: u128) -> Origin {
        let mut counts = lock(&self.counts);
        let count = counts.entry(base).or_default();
        let number = *count;
        *count += 1;
        Origin { base, number, time: 0 }
    }

    /// The last one was not published: if the call tries once more, that is the same event.
    fn give_back(&self, origin: Origin) {
        if let Some(count) = lock(&self.counts).get_mut(&origin.base)
            && *count == origin.number + 1
        {
            *count = origin.number;
        }
    }
}

impl Publishing {
    pub(crate) fn new(config: &Resolved, spans: &Spans) -> Result<Self, Error> {
        let producer = Arc::new(Producer::new(config.clone(), Sends::Records, ACKNOWLEDGED_WITHIN)?);
        let (handler, identity) = ("".into(), IdentitySource::default());
        Ok(Self { producer, spans: spans.clone(), max_hops: config.max_hops, handler, identity })
    }

    pub(crate) fn of_handler(&self, handler: Arc<str>, identity: IdentitySource) -> Self {
        Self {
            producer: self.producer.clone(),
            spans: self.spans.clone(),
            max_hops: self.max_hops,
            handler,
            identity,
        }
    }

    /// Publishes what a call returned, in order.
    pub(crate) async fn publish_all(
        &self,
        records: Vec<ProducerRecord>,
        cause: Record<'_>,
        of_one: bool,
    ) -> HandlerResult<()> {
        let equals = of_one.then(|| Equals::of("returned"));
        for record in records {
            self.publish(record, cause, equals.as_ref()).await?;
        }
        Ok(())
    }

    pub(super) async fn publish(
        &self,
        mut record: ProducerRecord,
        cause: Record<'_>,
        equals: Option<&Equals>,
    ) -> HandlerResult<Published> {
        if !is_topic_name(&record.topic) {
            let problem = format!("cannot publish to topic `{}`: no topic can have this name", record.topic);
            return Err(HandlerError::new(problem).permanent());
        }
        let origin = self.complete(&mut record, cause, equals)?;
        let span = self.spans.send_span(&record.topic, cause);
        for (name, value) in span.outgoing(cause) {
            record.add(name, &value);
        }
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        let headers = record
            .headers
            .iter()
            .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let mut sent = FutureRecord::<[u8], [u8]>::to(&record.topic).headers(headers);
        (sent.key, sent.payload) = (record.key.as_deref(), record.payload.as_deref());
        (sent.partition, sent.timestamp) = (record.partition, record.timestamp);
        let sent = self.producer.send(sent).await;
        span.end(&sent);
        match sent {
            Ok((partition, offset)) => Ok(Published { partition, offset }),
            Err(error) => {
                if let (Some(equals), Some(origin)) = (equals, origin) {
                    equals.give_back(origin);
                }
                Err(self.failed(error).await)
            }
        }
    }

    /// What it means for the record that caused it. A topic that is missing may be a mistake in the handler;
    /// no dead letter would mend that.
    async fn failed(&self, error: ProduceError) -> HandlerError {
        match error.meaning() {
            Unpublished::Record if error.is_too_large() => HandlerError::new(error).permanent(),
            Unpublished::Record => HandlerError::new(error),
            Unpublished::Held(cause, what) => {
                if cause == Cause::Setup {
                    self.producer.look_again(&error.topic).await;
                }
                HandlerError::held(cause, NotPublished { what, source: error })
            }
        }
    }

    /// Adds Onceward's headers. Gives what its identity is made of, if it gets one.
    fn complete(
        &self,
        record: &mut ProducerRecord,
        cause: Record<'_>,
        equals: Option<&Equals>,
    ) -> HandlerResult<Option<Origin>> {
        let hops = hops(cause).saturating_add(1);
        if hops > self.max_hops {
            let problem = format!(
                "its header `{HOPS_HEADER}` says that what it publishes has come through {hops} handlers, and \
                 `max_hops` is {}: either they publish in a circle, or a producer wrote that header",
                self.max_hops
            );
            return Err(HandlerError::of_kind(ErrorKind::Returned, problem).because(Reason::MaxHops));
        }
        record.replace(HOPS_HEADER, Some(&hops.to_string()));
        let identity = self.identity_of(cause);
        self.correlate(record, cause, identity);
        let carried = record.get(IDENTITY_HEADER);
        if carried.is_some_and(|carried| Identity::carried(carried, record.content()).is_some()) {
            return Ok(None);
        }
        let origin = equals.filter(|_| !record.is_declared()).map(|equals| {
            equals.next(record.told_apart_by(equals.way, &self.handler, cause.group(), identity))
        });
        let of_origin = |origin| Identity::of_published(origin, record.content());
        let header = origin.map(|origin| of_origin(origin).to_header(record.content()));
        record.replace(IDENTITY_HEADER, header.as_deref());
        Ok(origin)
    }

    fn correlate(&self, record: &mut ProducerRecord, cause: Record<'_>, identity: Identity) {
        let headers = cause.headers();
        let id = crate::record::cloud_event::source_and_id(cause)
            .and_then(|[_, id]| String::from_utf8(id.into_owned()).ok())
            .or_else(|| headers.get_str("ce_id").map(str::to_owned))
            .filter(|id| !is_blank(id.as_bytes()) && !is_nil(id.as_bytes()))
            .unwrap_or_else(|| format!("{:032x}", identity.key));
        let correlation = headers.get_str(CORRELATION).unwrap_or(&id).to_owned();
        record.add(CORRELATION, &correlation);
        record.add(CAUSATION, &id);
    }

    fn identity_of(&self, cause: Record<'_>) -> Identity {
        without_panic("the identity's function", || self.identity.of(cause))
            .unwrap_or_else(|_| IdentitySource::Position.of(cause))
    }
}

/// Through how many handlers a record says that it has come. A number that is too large counts as the
/// largest, so that a circle ends; anything else that is no number counts as none.
fn hops(record: Record<'_>) -> u32 {
    match record.headers().get_str(HOPS_HEADER).map(str::parse::<u32>) {
        Some(Ok(hops)) => hops,
        Some(Err(error)) if *error.kind() == IntErrorKind::PosOverflow => u32::MAX,
        Some(Err(_)) | None => 0,
    }
}

/// Why a partition waits to publish.
#[derive(Debug, thiserror::Error)]
#[error("{source}: {what}")]
struct NotPublished {
    what: &'static str,
    source: ProduceError,
}

/// Whether Kafka can have a topic of this name.
fn is_topic_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(is_allowed)
}

impl fmt::Debug for Publishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publishing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::message::{Message, OwnedMessage};
    use crate::record::source::Source;
    use crate::{Config, TopicPartition};

    fn publishing(max_hops: u32) -> Publishing {
        let config =
            Config { brokers: Some("localhost:9".into()), max_hops: Some(max_hops), ..Config::default() };
        let config = config.resolve().unwrap();
        let publishing = Publishing::new(&config, &Spans::new(config.trace)).unwrap();
        publishing.of_handler("h".into(), IdentitySource::default())
    }

    /// What one call publishes because of a record.
    fn call(
        publishing: &Publishing,
        group: &str,
        headers: &[(&str, &str)],
        records: impl IntoIterator<Item = ProducerRecord>,
    ) -> HandlerResult<Vec<ProducerRecord>> {
        let message = Message::Owned(Box::new(OwnedMessage {
            payload: Some(b"cause".to_vec()),
            headers: headers.iter().map(|(name, value)| ((*name).into(), Some((*value).into()))).collect(),
            ..Default::default()
        }));
        let source = Source::new(TopicPartition::new("t", 0), group.into());
        let (cause, equals) = (Record::new(&message, &source, 1), Equals::of("published"));
        let complete = |mut record: ProducerRecord| {
            publishing.complete(&mut record, cause, Some(&equals)).map(|_| record)
        };
        records.into_iter().map(complete).collect()
    }

    fn header<'r>(record: &'r ProducerRecord, name: &str) -> &'r str {
        std::str::from_utf8(record.get(name).unwrap()).unwrap()
    }

    fn identities(records: impl IntoIterator<Item = ProducerRecord>) -> Vec<String> {
        let published = call(&publishing(9), "g", &[], records).unwrap();
        published.iter().map(|record| header(record, IDENTITY_HEADER).to_owned()).collect()
    }

    fn one() -> ProducerRecord {
        ProducerRecord::to("out").key("k").payload("rejected").header("type", "order")
    }

    #[test]
    fn what_is_published_again_is_the_same_event_whatever_stands_around_it() {
        let other = || ProducerRecord::to("out").payload("else");
        let first = identities([one()]);
        assert_eq!(identities([other(), one(), other()])[1..2], first);
        assert_eq!(
            identities([one().timestamp(5).header("traceparent", "00-1").header("baggage", "a=1")]),
            first
        );
        // Equal ones are as many events as they are.
        let three = identities([one(), one(), other(), one()]);
        assert_eq!(three[..1], first);
        assert!(three[0] != three[1] && three[1] != three[3] && three[0] != three[3]);
        assert_eq!(identities([other(), one(), one(), one()])[1..], [&three[..2], &three[3..]].concat());
    }

    #[test]
    fn what_is_published_instead_is_another_event() {
        let bare = || ProducerRecord::to("out");
        let all = [
            one(),
            one().payload("accepted"),
            one().payload(""),
            one().key("other"),
            one().partition(0),
            one().partition(1),
            one().header("type", "order"),
            one().header("typ", "eorder"),
            ProducerRecord::to("elsewhere").key("k").payload("rejected").header("type", "order"),
            bare(),
            bare().key(""),
            bare().payload(""),
            bare().key("a").payload("b"),
            bare().key("ab").payload(""),
        ];
        // Each in a call of its own, as the first that it publishes.
        let mut seen: Vec<String> = all.iter().flat_map(|record| identities([record.clone()])).collect();
        let of = |publishing: &Publishing, group| {
            let published = call(publishing, group, &[], [one()]).unwrap();
            header(&published[0], IDENTITY_HEADER).to_owned()
        };
        let other_handler = publishing(9).of_handler("i".into(), IdentitySource::default());
        seen.extend([of(&publishing(9), "other group"), of(&other_handler, "g")]);
        let distinct: std::collections::HashSet<&String> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
    }

    #[test]
    fn what_was_not_published_is_the_same_event_when_the_call_tries_it_again() {
        let equals = Equals::of("published");
        let first = equals.next(7);
        equals.give_back(first);
        assert_eq!(equals.next(7), first);
        let second = equals.next(7);
        // Another one went out meanwhile.
        equals.give_back(first);
        assert_ne!(equals.next(7), second);
    }

    /// The declared identity of the record that caused it counts as its handler sees it.
    #[test]
    fn because_of_two_copies_of_one_event_the_same_is_published() {
        let by_header = publishing(9).of_handler("h".into(), IdentitySource::header("id"));
        let of = |publishing: &Publishing, headers: &[(&str, &str)]| {
            header(&call(publishing, "g", headers, [one()]).unwrap()[0], IDENTITY_HEADER).to_owned()
        };
        let copies = [[("id", "1"), ("n", "1")], [("id", "1"), ("n", "2")], [("id", "2"), ("n", "1")]];
        let [first, copy, other] = copies.map(|headers| of(&by_header, &headers));
        assert_eq!(first, copy);
        assert_ne!(first, other);
        let panics =
            publishing(9).of_handler("h".into(), IdentitySource::function(|_| panic!("in a function")));
        assert_eq!(of(&panics, &[]), of(&publishing(9), &[]), "its position counts");
    }

    #[test]
    fn hops_are_counted_whatever_a_header_says() {
        let hops = |given: &[(&str, &str)]| {
            let published =
                call(&publishing(u32::MAX), "g", given, [one().header(HOPS_HEADER, "1")]).unwrap();
            assert_eq!(published[0].headers.iter().filter(|(name, _)| name == HOPS_HEADER).count(), 1);
            header(&published[0], HOPS_HEADER).to_owned()
        };
        let largest = u32::MAX.to_string();
        for (given, counted) in [
            ("3", "4"),
            ("4294967294", &*largest),
            ("4294967295", &*largest),
            ("99999999999999999999999", &*largest),
            ("-1", "1"),
            ("-99999999999999999999999", "1"),
            ("", "1"),
            (" 3", "1"),
            ("3.5", "1"),
            ("x", "1"),
        ] {
            assert_eq!(hops(&[(HOPS_HEADER, given)]), counted, "{given:?}");
        }
        assert_eq!(hops(&[]), "1");
        assert_eq!(hops(&[(HOPS_HEADER, "7"), (HOPS_HEADER, "2")]), "3", "the last counts");
    }

    #[test]
    fn a_record_of_too_many_hops_says_where_they_come_from() {
        for hops in ["5", "4294967295", "99999999999"] {
            let error = call(&publishing(5), "g", &[(HOPS_HEADER, hops)], [one()]).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("onceward.hops") && text.contains("`max_hops` is 5"), "{text}");
        }
        assert!(call(&publishing(5), "g", &[(HOPS_HEADER, "4")], [one()]).is_ok());
    }

    #[test]
    fn a_header_of_ours_that_a_handler_hands_on_counts_only_on_the_record_that_it_was_written_for() {
        let good = identities([one()]).remove(0);
        let handed_on = |value: &str| one().header(IDENTITY_HEADER, value);
        assert_eq!(
            identities([handed_on(&good), handed_on(&good)]),
            [good.clone(), good.clone()],
            "a redrive"
        );
        let own = identities([one().payload("a"), one().payload("b")]);
        let copied = [handed_on(&good).payload("a"), handed_on("forged").payload("b")];
        let copied = call(&publishing(9), "g", &[], copied).unwrap();
        for (record, own) in copied.iter().zip(own) {
            assert_eq!(header(record, IDENTITY_HEADER), own);
            assert_eq!(record.headers.iter().filter(|(name, _)| name == IDENTITY_HEADER).count(), 1);
        }
    }

    #[test]
    fn what_declares_its_identity_carries_none_and_what_declares_nothing_does() {
        let ce = |source, id| one().header("ce_source", source).header("ce_id", id);
        const NIL: &str = "00000000-0000-0000-0000-000000000000";
        let records = [ce("/s", "1"), ce("/s", ""), ce(" ", "1"), ce("/s", NIL)];
        let published = call(&publishing(9), "g", &[], records).unwrap();
        let carries: Vec<bool> =
            published.iter().map(|record| record.get(IDENTITY_HEADER).is_some()).collect();
        assert_eq!(carries, [false, true, true, true]);
    }
}

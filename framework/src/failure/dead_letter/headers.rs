//! The headers of a copy: those of the original as they are, then what happened to it.
//!
//! A letter that was sent back may die again. Its first place stays as it is, and its last one is
//! told beside it; the latest failure replaces the one before, so that copies do not grow.

use super::Letter;
use crate::config::{DeadLetterConfig, HeaderFamily};
use crate::kafka::client::OwnedHeaders;
use crate::kafka::message;
use crate::record::TimestampKind;
use crate::record::identity::Content;
use crate::{IDENTITY_HEADER, REDRIVEN_HEADER};
use std::borrow::Cow;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    All,
    /// In a copy that would be too large otherwise.
    NeededForRepair,
}

/// A header's name and value.
type Named<'l> = (&'static str, Cow<'l, [u8]>);

pub(super) fn of(letter: &Letter<'_>, config: &DeadLetterConfig, extent: Extent) -> OwnedHeaders {
    let original = Original { letter, dropped: &config.drop_headers };
    let families = config.header_families().iter().map(|family| match family {
        HeaderFamily::Spring => spring(letter),
        HeaderFamily::Connect => connect(letter),
        HeaderFamily::Streams => streams(letter),
    });
    let families: Vec<Family<'_>> = families.collect();
    let mut ours = place(&original);
    if extent == Extent::All {
        ours.extend(failure(&original));
        for family in &families {
            // The first place stays, as the family's own tools keep it.
            ours.extend(family.origin.iter().filter(|(name, _)| original.first(name).is_none()).cloned());
            ours.extend(family.failure.iter().cloned());
        }
    }
    let is_replaced = |name: &[u8]| {
        let of_families = families.iter().flat_map(|family| &family.failure).map(|(name, _)| *name);
        let names = ours.iter().map(|(name, _)| *name).chain(REPLACED).chain(of_families);
        names.into_iter().any(|ours| ours.as_bytes() == name)
    };
    let theirs = letter
        .record
        .headers()
        .iter()
        .filter(|header| !original.drops(header.name_bytes()) && !is_replaced(header.name_bytes()));
    let theirs = theirs.map(|header| (header.name_bytes(), header.value()));
    message::headers_of(theirs.chain(ours.iter().map(|(name, value)| (name.as_bytes(), Some(&**value)))))
}

pub(super) const TOPIC: &str = "onceward.dlq.topic";
pub(super) const PARTITION: &str = "onceward.dlq.partition";
pub(super) const OFFSET: &str = "onceward.dlq.offset";
pub(super) const GROUP: &str = "onceward.dlq.group";
pub(super) const HANDLER: &str = "onceward.dlq.handler";
pub(super) const TIMESTAMP: &str = "onceward.dlq.timestamp";

/// The same of the place where a letter died that had died before.
pub(super) const LAST_TOPIC: &str = "onceward.dlq.last-topic";
pub(super) const LAST_PARTITION: &str = "onceward.dlq.last-partition";
pub(super) const LAST_OFFSET: &str = "onceward.dlq.last-offset";
pub(super) const LAST_GROUP: &str = "onceward.dlq.last-group";
pub(super) const LAST_HANDLER: &str = "onceward.dlq.last-handler";
pub(super) const LAST_TIMESTAMP: &str = "onceward.dlq.last-timestamp";

const TIMES: &str = "onceward.dlq.times";
const REASON: &str = "onceward.dlq.reason";
const FIRST_REASON: &str = "onceward.dlq.first-reason";
const ATTEMPTS: &str = "onceward.dlq.attempts";
const FIRST_FAILURE: &str = "onceward.dlq.first-failure";
const CLASS: &str = "onceward.dlq.class";
const MESSAGE: &str = "onceward.dlq.message";
const SCHEMA: &str = "onceward.dlq.schema";
const SCHEMA_SUBJECT: &str = "onceward.dlq.schema-subject";

/// What a copy never takes over from a letter that died before. It was sent back, and its copy was not.
const REPLACED: [&str; 14] = [
    LAST_TOPIC,
    LAST_PARTITION,
    LAST_OFFSET,
    LAST_GROUP,
    LAST_HANDLER,
    LAST_TIMESTAMP,
    TIMES,
    REASON,
    ATTEMPTS,
    CLASS,
    MESSAGE,
    SCHEMA,
    SCHEMA_SUBJECT,
    REDRIVEN_HEADER,
];

/// The record that is copied, with what its copy leaves out.
struct Original<'l> {
    letter: &'l Letter<'l>,
    dropped: &'l [String],
}

impl<'l> Original<'l> {
    fn drops(&self, name: &[u8]) -> bool {
        self.dropped.iter().any(|dropped| name.eq_ignore_ascii_case(dropped.as_bytes()))
    }

    /// The first value under a name: of failures that piled up, the oldest.
    fn first(&self, name: &str) -> Option<&'l [u8]> {
        let mut named = self.letter.record.headers().iter().filter(|header| header.name() == Some(name));
        named.find(|header| !self.drops(header.name_bytes()))?.value()
    }

    fn died_before(&self) -> bool {
        self.first(TOPIC).is_some()
    }

    /// How often it was dead-lettered, this time included.
    fn times(&self) -> u32 {
        let before = self.letter.record.headers().get_str(TIMES).and_then(|times| times.parse::<u32>().ok());
        if self.died_before() { before.unwrap_or(1).saturating_add(1) } else { 1 }
    }
}

/// Without these a copy could not be sent back, or not be found again.
fn place<'l>(original: &Original<'l>) -> Vec<Named<'l>> {
    let (letter, record) = (original.letter, original.letter.record);
    let [topic, partition, offset, group, handler, timestamp] = match original.died_before() {
        false => [TOPIC, PARTITION, OFFSET, GROUP, HANDLER, TIMESTAMP],
        true => [LAST_TOPIC, LAST_PARTITION, LAST_OFFSET, LAST_GROUP, LAST_HANDLER, LAST_TIMESTAMP],
    };
    let mut headers = vec![
        (topic, Cow::Borrowed(record.topic().as_bytes())),
        (partition, text(record.partition())),
        (offset, text(record.offset())),
        (group, text(letter.group)),
        (handler, text(letter.handler)),
    ];
    headers.extend(record.timestamp().map(|time| (timestamp, text(time))));
    headers.push((TIMES, text(original.times())));
    // Always: the last value of a name counts, and a record may have a forged one behind.
    headers.push((IDENTITY_HEADER, text(letter.identity.to_header(Content::of(record)))));
    headers
}

fn failure<'l>(original: &Original<'l>) -> Vec<Named<'l>> {
    let letter = original.letter;
    let mut headers = vec![
        (REASON, text(letter.reason.as_str())),
        (ATTEMPTS, text(letter.attempts)),
        (CLASS, text(letter.class)),
        (MESSAGE, text(&letter.message)),
    ];
    if !original.died_before() || original.first(FIRST_FAILURE).is_none() {
        headers.push((FIRST_FAILURE, text(letter.first_failure)));
    }
    if original.died_before() && original.first(FIRST_REASON).is_none() {
        headers.extend(original.first(REASON).map(|reason| (FIRST_REASON, Cow::Borrowed(reason))));
    }
    if let Some((id, subject)) = &letter.schema {
        headers.push((SCHEMA, text(id)));
        headers.extend(subject.as_ref().map(|subject| (SCHEMA_SUBJECT, text(subject))));
    }
    headers
}

/// What other tools call a dead letter's headers.
struct Family<'l> {
    /// Where it died first.
    origin: Vec<Named<'l>>,
    /// Why it died last.
    failure: Vec<Named<'l>>,
}

/// As `org.springframework.kafka.support.KafkaHeaders` names and
/// `DeadLetterPublishingRecoverer` encodes them: numbers in big-endian bytes.
fn spring<'l>(letter: &Letter<'l>) -> Family<'l> {
    let record = letter.record;
    let mut origin = vec![
        ("kafka_dlt-original-topic", Cow::Borrowed(record.topic().as_bytes())),
        ("kafka_dlt-original-partition", Cow::Owned(record.partition().to_be_bytes().to_vec())),
        ("kafka_dlt-original-offset", Cow::Owned(record.offset().to_be_bytes().to_vec())),
        ("kafka_dlt-original-consumer-group", text(letter.group)),
    ];
    if let Some(timestamp) = record.timestamp() {
        let kind = match record.timestamp_kind() {
            TimestampKind::Created => "CreateTime",
            TimestampKind::Appended => "LogAppendTime",
        };
        origin.push(("kafka_dlt-original-timestamp", Cow::Owned(timestamp.to_be_bytes().to_vec())));
        origin.push(("kafka_dlt-original-timestamp-type", text(kind)));
    }
    let failure = vec![
        ("kafka_dlt-exception-fqcn", text(letter.class)),
        ("kafka_dlt-exception-message", text(&letter.message)),
    ];
    Family { origin, failure }
}

/// As Kafka Connect's `DeadLetterQueueReporter` writes them.
fn connect<'l>(letter: &Letter<'l>) -> Family<'l> {
    let origin = vec![
        ("__connect.errors.topic", Cow::Borrowed(letter.record.topic().as_bytes())),
        ("__connect.errors.partition", text(letter.record.partition())),
        ("__connect.errors.offset", text(letter.record.offset())),
    ];
    let failure = vec![
        ("__connect.errors.connector.name", text(letter.group)),
        ("__connect.errors.task.id", text(0)),
        ("__connect.errors.stage", text(letter.handler)),
        ("__connect.errors.class.name", text(letter.handler)),
        ("__connect.errors.exception.class.name", text(letter.class)),
        ("__connect.errors.exception.message", text(&letter.message)),
    ];
    Family { origin, failure }
}

/// As Kafka Streams writes them from 4.2 on (KIP-1034).
fn streams<'l>(letter: &Letter<'l>) -> Family<'l> {
    let origin = vec![
        ("__streams.errors.topic", Cow::Borrowed(letter.record.topic().as_bytes())),
        ("__streams.errors.partition", text(letter.record.partition())),
        ("__streams.errors.offset", text(letter.record.offset())),
    ];
    let failure = vec![
        ("__streams.errors.exception", text(letter.class)),
        ("__streams.errors.message", text(&letter.message)),
    ];
    Family { origin, failure }
}

fn text<'l>(value: impl ToString) -> Cow<'l, [u8]> {
    Cow::Owned(value.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::tests::letter;
    use super::*;
    use crate::Record;
    use crate::kafka::message::{Message, OwnedMessage};
    use crate::record::TopicPartition;
    use crate::record::source::Source;

    type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;

    fn config(families: &[HeaderFamily], dropped: &[&str]) -> DeadLetterConfig {
        DeadLetterConfig {
            headers: Some(families.to_vec()),
            drop_headers: dropped.iter().map(ToString::to_string).collect(),
            ..DeadLetterConfig::default()
        }
    }

    /// The headers of the copy of a record that dies in the group `group-{offset}`.
    fn copy(headers: Headers, offset: i64, config: &DeadLetterConfig, extent: Extent) -> Headers {
        let message = OwnedMessage { offset, timestamp: Some(5), headers, ..Default::default() };
        let (message, group) = (Message::Owned(Box::new(message)), format!("group-{offset}"));
        let source = Source::new(TopicPartition::new("t", 3), group.as_str().into());
        let mut letter = letter(Record::new(&message, &source, 1));
        (letter.group, letter.message) = (&group, format!("failure {offset}"));
        let copy = of(&letter, config, extent);
        (0..)
            .map_while(|index| message::header_of(copy.as_borrowed(), index))
            .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
            .collect()
    }

    fn values<'h>(headers: &'h Headers, name: &str) -> Vec<&'h str> {
        let named = headers.iter().filter(|(header, _)| header == name.as_bytes());
        named.map(|(_, value)| std::str::from_utf8(value.as_ref().unwrap()).unwrap()).collect()
    }

    const ALL: [HeaderFamily; 3] = [HeaderFamily::Spring, HeaderFamily::Connect, HeaderFamily::Streams];

    #[test]
    fn headers_of_a_copy_keep_order_duplicates_null_and_what_is_no_utf_8() {
        let originals: Headers = vec![
            (b"\xff".to_vec(), Some(b"bytes".to_vec())),
            (b"a".to_vec(), Some(b"1".to_vec())),
            (b"Drop".to_vec(), Some(b"x".to_vec())),
            (b"a".to_vec(), Some(vec![])),
            (b"a".to_vec(), None),
        ];
        let mut kept = originals.clone();
        kept.remove(2);
        assert_eq!(copy(originals, 1, &config(&ALL, &["drop"]), Extent::All)[..4], kept);
    }

    #[test]
    fn a_letter_that_dies_five_times_says_where_it_died_first_and_last_and_does_not_grow() {
        let config = config(&ALL, &[]);
        let mut headers: Headers = vec![(b"theirs".to_vec(), Some(b"1".to_vec()))];
        let mut sizes = Vec::new();
        for round in 1..=5 {
            headers = copy(headers, round, &config, Extent::All);
            sizes.push(headers.len());
            assert_eq!(values(&headers, TIMES), [round.to_string()]);
            assert_eq!(values(&headers, GROUP), ["group-1"], "who gave it up first");
            assert_eq!(values(&headers, OFFSET), ["1"]);
            for latest in [
                MESSAGE,
                "kafka_dlt-exception-message",
                "__connect.errors.exception.message",
                "__streams.errors.message",
            ] {
                assert_eq!(values(&headers, latest), [format!("failure {round}")], "{latest}");
            }
            for first in ["__connect.errors.offset", "__streams.errors.offset"] {
                assert_eq!(values(&headers, first), ["1"], "{first}");
            }
            let last: &[String] = if round == 1 { &[] } else { &[format!("group-{round}")] };
            assert_eq!(values(&headers, LAST_GROUP), last);
            // As it is sent back.
            headers.push((REDRIVEN_HEADER.as_bytes().to_vec(), Some(b"now".to_vec())));
        }
        assert_eq!(sizes[1..], [sizes[1]; 4]);
        let mut names: Vec<_> = headers.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), headers.len(), "each name once");
        assert_eq!(values(&headers, "theirs"), ["1"]);
    }

    #[test]
    fn failures_that_have_piled_up_are_replaced_by_the_latest() {
        let header = |name: &str, value: &str| (name.as_bytes().to_vec(), Some(value.as_bytes().to_vec()));
        let piled = vec![
            header(TOPIC, "first"),
            header(REASON, "rejected"),
            header(REASON, "max_attempts"),
            header(FIRST_FAILURE, "7"),
            header(SCHEMA, "3"),
            header("kafka_dlt-exception-message", "old"),
        ];
        for extent in [Extent::All, Extent::NeededForRepair] {
            let copy = copy(piled.clone(), 9, &config(&ALL, &[]), extent);
            let says = |name| values(&copy, name);
            assert_eq!((says(TOPIC), says(LAST_TOPIC), says(TIMES)), (vec!["first"], vec!["t"], vec!["2"]));
            let (latest, first) = match extent {
                Extent::All => (vec!["permanent"], vec!["rejected"]),
                Extent::NeededForRepair => (vec![], vec![]),
            };
            assert_eq!((says(REASON), says(FIRST_REASON)), (latest, first));
            assert_eq!((says(FIRST_FAILURE), says(SCHEMA)), (vec!["7"], vec![]));
            assert!(!says("kafka_dlt-exception-message").contains(&"old"));
        }
    }

    #[test]
    fn a_copy_carries_the_identity_that_counts_and_no_other() {
        let other = (IDENTITY_HEADER.as_bytes().to_vec(), Some(b"anything".to_vec()));
        let copied = copy(vec![other], 1, &config(&[], &[]), Extent::NeededForRepair);
        let carried = values(&copied, IDENTITY_HEADER);
        assert!(carried.len() == 1 && carried[0] != "anything", "{carried:?}");
        assert_eq!(
            values(&copy(copied.clone(), 2, &config(&[], &[]), Extent::All), IDENTITY_HEADER),
            carried
        );
    }
}

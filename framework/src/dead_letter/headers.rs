//! The headers of a copy: those of the original as they are, then what happened to it.

use super::Letter;
use crate::IDENTITY_HEADER;
use crate::config::{DeadLetterConfig, HeaderFamily};
use crate::identity::Content;
use crate::record::TimestampKind;
use rdkafka::message::{Header, OwnedHeaders};
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
    // It may carry an identity that is not its own.
    let left_out = [&config.drop_headers[..], &[IDENTITY_HEADER.to_owned()]].concat();
    let mut headers = letter.record.headers().to_owned_without(&left_out);
    let mut add = |(name, value): &Named<'_>| {
        let headers_so_far = std::mem::take(&mut headers);
        headers = headers_so_far.insert(Header { key: name, value: Some(&**value) });
    };
    // Where a dead letter dies again, what was said of its origin stays true.
    if letter.record.headers().get(TOPIC).is_none() {
        origin(letter).iter().for_each(&mut add);
    }
    add(&(IDENTITY_HEADER, text(letter.identity.to_header(Content::of(letter.record)))));
    if extent == Extent::All {
        failure(letter).iter().for_each(&mut add);
        for family in config.header_families() {
            let theirs = match family {
                HeaderFamily::Spring => spring(letter),
                HeaderFamily::Connect => connect(letter),
                HeaderFamily::Streams => streams(letter),
            };
            let is_new = |(name, _): &&Named<'_>| {
                !name.contains("original") || letter.record.headers().get(name).is_none()
            };
            theirs.iter().filter(is_new).for_each(&mut add);
        }
    }
    headers
}

pub(super) const TOPIC: &str = "onceward.dlq.topic";
pub(super) const PARTITION: &str = "onceward.dlq.partition";
pub(super) const OFFSET: &str = "onceward.dlq.offset";
pub(super) const GROUP: &str = "onceward.dlq.group";
pub(super) const HANDLER: &str = "onceward.dlq.handler";
pub(super) const TIMESTAMP: &str = "onceward.dlq.timestamp";

/// Without these a copy could not be sent back.
fn origin<'l>(letter: &Letter<'l>) -> Vec<Named<'l>> {
    let record = letter.record;
    let mut headers = vec![
        (TOPIC, Cow::Borrowed(record.topic().as_bytes())),
        (PARTITION, text(record.partition())),
        (OFFSET, text(record.offset())),
        (GROUP, text(letter.group)),
        (HANDLER, text(letter.handler)),
    ];
    headers.extend(record.timestamp().map(|timestamp| (TIMESTAMP, text(timestamp))));
    headers
}

fn failure<'l>(letter: &Letter<'l>) -> Vec<Named<'l>> {
    let mut headers = vec![
        ("onceward.dlq.reason", text(letter.reason.as_str())),
        ("onceward.dlq.attempts", text(letter.attempts)),
        ("onceward.dlq.first-failure", text(letter.first_failure)),
        ("onceward.dlq.class", text(letter.class)),
        ("onceward.dlq.message", text(&letter.message)),
    ];
    if let Some((id, subject)) = &letter.schema {
        headers.push(("onceward.dlq.schema", text(id)));
        headers.extend(subject.as_ref().map(|subject| ("onceward.dlq.schema-subject", text(subject))));
    }
    headers
}

/// As `org.springframework.kafka.support.KafkaHeaders` names and
/// `DeadLetterPublishingRecoverer` encodes them: numbers in big-endian bytes.
fn spring<'l>(letter: &Letter<'l>) -> Vec<Named<'l>> {
    let record = letter.record;
    let mut headers = vec![
        ("kafka_dlt-original-topic", Cow::Borrowed(record.topic().as_bytes())),
        ("kafka_dlt-original-partition", Cow::Owned(record.partition().to_be_bytes().to_vec())),
        ("kafka_dlt-original-offset", Cow::Owned(record.offset().to_be_bytes().to_vec())),
        ("kafka_dlt-original-consumer-group", text(letter.group)),
        ("kafka_dlt-exception-fqcn", text(letter.class)),
        ("kafka_dlt-exception-message", text(&letter.message)),
    ];
    if let Some(timestamp) = record.timestamp() {
        let kind = match record.timestamp_kind() {
            TimestampKind::Created => "CreateTime",
            TimestampKind::Appended => "LogAppendTime",
        };
        headers.push(("kafka_dlt-original-timestamp", Cow::Owned(timestamp.to_be_bytes().to_vec())));
        headers.push(("kafka_dlt-original-timestamp-type", text(kind)));
    }
    headers
}

/// As Kafka Connect's `DeadLetterQueueReporter` writes them.
fn connect<'l>(letter: &Letter<'l>) -> Vec<Named<'l>> {
    vec![
        ("__connect.errors.topic", Cow::Borrowed(letter.record.topic().as_bytes())),
        ("__connect.errors.partition", text(letter.record.partition())),
        ("__connect.errors.offset", text(letter.record.offset())),
        ("__connect.errors.connector.name", text(letter.group)),
        ("__connect.errors.task.id", text(0)),
        ("__connect.errors.stage", text(letter.handler)),
        ("__connect.errors.class.name", text(letter.handler)),
        ("__connect.errors.exception.class.name", text(letter.class)),
        ("__connect.errors.exception.message", text(&letter.message)),
    ]
}

/// As Kafka Streams writes them from 4.2 on (KIP-1034).
fn streams<'l>(letter: &Letter<'l>) -> Vec<Named<'l>> {
    vec![
        ("__streams.errors.topic", Cow::Borrowed(letter.record.topic().as_bytes())),
        ("__streams.errors.partition", text(letter.record.partition())),
        ("__streams.errors.offset", text(letter.record.offset())),
        ("__streams.errors.exception", text(letter.class)),
        ("__streams.errors.message", text(&letter.message)),
    ]
}

fn text<'l>(value: impl ToString) -> Cow<'l, [u8]> {
    Cow::Owned(value.to_string().into_bytes())
}

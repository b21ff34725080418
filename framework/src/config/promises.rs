//! Refuses properties of librdkafka by which a promise would no longer hold.

use super::properties::canonical;
use crate::error::Error;
use std::collections::BTreeMap;

/// librdkafka properties that we set, because a promise rests on them.
pub(super) const OURS: [(&str, &str); 13] = [
    ("bootstrap.servers", "set `brokers`"),
    ("group.id", "set `group` of the handler"),
    ("group.protocol", "set `group_protocol`"),
    ("group.instance.id", "set `instance_id`"),
    ("enable.auto.commit", "offsets are committed when the work is durable, and by nothing else"),
    ("enable.auto.offset.store", "offsets are committed when the work is durable, and by nothing else"),
    (
        "auto.offset.reset",
        "set `start` (no committed offset) and `out_of_range` (the broker no longer has it)",
    ),
    ("enable.partition.eof", "with it, a rebalance could skip a record (librdkafka #4844)"),
    ("allow.auto.create.topics", "a consumer never makes the topics it reads"),
    ("acks", "a published record counts when all in-sync replicas have it"),
    ("delivery.report.only.error", "a published record counts when its acknowledgement is reported"),
    ("transactional.id", "records are published without Kafka's transactions, and would all fail"),
    ("enable.idempotence", "a published record must not be written twice by a retry of the client"),
];

/// Refuses a property by which a promise would no longer hold.
pub(super) fn check(kafka: &BTreeMap<String, String>) -> Result<(), Error> {
    for (name, value) in kafka {
        let setting = || format!("kafka.{name}");
        let property = canonical(name);
        if let Some((_, instead)) = OURS.iter().find(|(ours, _)| *ours == property) {
            let is = if property == name { "it".to_owned() } else { format!("it is `{property}`, which") };
            return Err(Error::config(setting(), format!("{is} would undo a promise; {instead}")));
        }
        if property == "enable.ssl.certificate.verification" && is_false(value) {
            return Err(Error::config(
                setting(),
                "is false, which lets anyone pose as the broker; give the CA with `kafka.ssl.ca.location`",
            ));
        }
    }
    Ok(())
}

/// Whether librdkafka reads a boolean as false.
pub(super) fn is_false(value: &str) -> bool {
    value.eq_ignore_ascii_case("false") || value.eq_ignore_ascii_case("f") || value == "0"
}

//! Finds the attributes of a CloudEvent in a record.
//!
//! Kafka's binding of CloudEvents 1.0.2 knows two modes. In binary mode the attributes
//! are headers, `ce_id` and so on, and the data is the payload. In structured mode the
//! payload is a JSON object with both, and the header `content-type` says so.

use crate::Record;
use crate::record::identity::is_blank;
use std::borrow::Cow;

/// How a record carries its event.
#[cfg(feature = "json")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// In headers and payload; also where it is no CloudEvent at all.
    Binary,
    /// As JSON in the payload.
    Structured,
    /// With others in one payload, which the binding does not have.
    Batched,
    /// In the payload, in a format that is not JSON.
    OtherFormat,
}

#[cfg(feature = "json")]
impl Mode {
    pub(crate) fn of(record: Record<'_>) -> Self {
        let Some(content_type) = record.headers().get_in_any_case("content-type") else {
            return Self::Binary;
        };
        let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is = |name: &str| media_type.eq_ignore_ascii_case(name.as_bytes());
        let prefix = b"application/cloudevents";
        match media_type.get(..prefix.len()) {
            Some(start) if start.eq_ignore_ascii_case(prefix) => {}
            _ => return Self::Binary,
        }
        // Without a suffix it is the format that has no other name.
        if is("application/cloudevents+json") || is("application/cloudevents") {
            Self::Structured
        } else if is("application/cloudevents-batch+json") {
            Self::Batched
        } else {
            Self::OtherFormat
        }
    }
}

/// The event's attribute `type`.
pub(crate) fn event_type(record: Record<'_>) -> Option<Cow<'_, str>> {
    let in_payload = || {
        let [event_type] = in_payload(record, ["type"])?;
        event_type
    };
    let header = record.headers().get_in_any_case("ce_type");
    header.and_then(|value| std::str::from_utf8(value).ok()).map(Cow::Borrowed).or_else(in_payload)
}

/// The attributes that together tell the event from all others, `source` and `id`;
/// `None` unless it has both.
pub(crate) fn source_and_id(record: Record<'_>) -> Option<[Cow<'_, [u8]>; 2]> {
    // An empty one is not allowed, and would make one event of many. A blank one is no URI, and no
    // id either.
    let header = |name| record.headers().get_in_any_case(name).filter(|value| !is_blank(value));
    if let (Some(source), Some(id)) = (header("ce_source"), header("ce_id")) {
        return Some([source.into(), id.into()]);
    }
    let [source, id] = in_payload(record, ["source", "id"])?;
    Some([into_bytes(source?)?, into_bytes(id?)?])
}

fn into_bytes(text: Cow<'_, str>) -> Option<Cow<'_, [u8]>> {
    let bytes: Cow<'_, [u8]> = match text {
        Cow::Borrowed(text) => text.as_bytes().into(),
        Cow::Owned(text) => text.into_bytes().into(),
    };
    Some(bytes).filter(|bytes| !is_blank(bytes))
}

/// Attributes of a structured event. The payload of any other record is not looked at.
#[cfg(feature = "json")]
fn in_payload<'a, const N: usize>(
    record: Record<'a>,
    attributes: [&str; N],
) -> Option<[Option<Cow<'a, str>>; N]> {
    match Mode::of(record) {
        Mode::Structured => crate::record::json_field::texts(record.payload()?, attributes),
        _ => None,
    }
}

#[cfg(not(feature = "json"))]
fn in_payload<'a, const N: usize>(_: Record<'a>, _: [&str; N]) -> Option<[Option<Cow<'a, str>>; N]> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TopicPartition;
    use crate::kafka::message::{Message, OwnedMessage};
    use crate::record::source::Source;

    const EVENT: &str =
        r#"{"specversion": "1.0", "id": "1", "source": "/a", "type": "departed", "data": {"id": "2"}}"#;

    fn with<T>(headers: &[(&str, &str)], payload: &str, check: impl FnOnce(Record<'_>) -> T) -> T {
        let message = Message::Owned(Box::new(OwnedMessage {
            payload: Some(payload.into()),
            headers: headers.iter().map(|(name, value)| ((*name).into(), Some((*value).into()))).collect(),
            ..Default::default()
        }));
        let source = Source::new(TopicPartition::new("t", 0), "g".into());
        check(Record::new(&message, &source, 1))
    }

    #[cfg(feature = "json")]
    #[test]
    fn the_content_type_says_where_the_event_is() {
        let cases = [
            ("application/json", Mode::Binary),
            ("application/cloudevents+json", Mode::Structured),
            ("Application/CloudEvents+JSON; charset=UTF-8", Mode::Structured),
            ("application/cloudevents", Mode::Structured),
            ("application/cloudevents-batch+json", Mode::Batched),
            ("application/cloudevents+avro", Mode::OtherFormat),
        ];
        for (content_type, mode) in cases {
            with(&[("content-type", content_type)], EVENT, |record| assert_eq!(Mode::of(record), mode));
        }
        with(&[], EVENT, |record| assert_eq!(Mode::of(record), Mode::Binary));
    }

    #[cfg(feature = "json")]
    #[test]
    fn both_modes_have_the_same_attributes() {
        let binary = [("ce_id", "1"), ("ce_source", "/a"), ("ce_type", "departed")];
        let other_case = [("CE_ID", "1"), ("Ce_Source", "/a"), ("ce_Type", "departed")];
        let structured = [("Content-Type", "application/cloudevents+json")];
        for headers in [&binary[..], &other_case, &structured] {
            with(headers, EVENT, |record| {
                assert_eq!(event_type(record).as_deref(), Some("departed"));
                assert_eq!(source_and_id(record), Some([b"/a"[..].into(), b"1"[..].into()]));
            });
        }
    }

    #[test]
    fn a_payload_that_is_not_announced_is_not_read() {
        with(&[("content-type", "application/json")], EVENT, |record| {
            assert_eq!(event_type(record), None);
            assert_eq!(source_and_id(record), None);
        });
    }

    #[test]
    fn an_empty_attribute_is_none() {
        with(&[("ce_id", ""), ("ce_source", "/a")], "", |record| assert_eq!(source_and_id(record), None));
        let structured = [("content-type", "application/cloudevents+json")];
        with(&structured, r#"{"id": "", "source": "/a"}"#, |record| assert_eq!(source_and_id(record), None));
    }
}

//! A CloudEvent.

use super::{Bytes, Context, Decode, Encoded, FromRecord, Part, Rejection};
use crate::Record;
use crate::record::cloud_event::Mode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A [CloudEvent](https://cloudevents.io) of version 1, with its data in any format: `Json<T>`,
/// `Avro<T>`, `Protobuf<T>`, `JsonSchema<T>`, [`Bytes`], or one of your own that implements
/// [`Decode`].
///
/// Both modes of Kafka's binding are read: binary, with the attributes in headers
/// (`ce_id` and so on) and the data as the payload, and structured, with both in a JSON
/// payload and `content-type: application/cloudevents+json`. There the data is the member `data`,
/// or in Base64 `data_base64`. A `data` that is a text, of an event whose `datacontenttype` is not
/// JSON, is that text. Header names count in any case. Extension attributes are
/// left out; in binary mode [`Headers`](super::Headers) has them.
///
/// An event without data decodes where the format is in an `Option` (`CloudEvent<Option<Json<T>>>`),
/// and is rejected else.
///
/// # Example
///
/// ```
/// use onceward::prelude::*;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Flight {
///     tailnum: String,
/// }
///
/// #[handler(topic = "flights", group = "log", event = "flight.departed")]
/// async fn on_departure(event: CloudEvent<Json<Flight>>) -> HandlerResult {
///     println!("{} of {}: {}", event.id, event.source, event.data.tailnum);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudEvent<F> {
    /// The attribute `id`, unique within its source.
    pub id: String,
    /// The attribute `source`: where it happened, a URI reference.
    pub source: String,
    /// The attribute `type`: what happened.
    pub event_type: String,
    /// The attribute `subject`: what it happened to, within the source.
    pub subject: Option<String>,
    /// The attribute `time`: when it happened, in the form of RFC 3339: `2018-04-05T17:31:00Z`.
    pub time: Option<String>,
    /// The attribute `dataschema`: the URI of its data's schema.
    pub data_schema: Option<String>,
    /// The data.
    pub data: F,
}

/// A type that a CloudEvent's data can be taken as: any format, [`Bytes`], or an `Option` of these.
#[diagnostic::on_unimplemented(
    message = "the data of a CloudEvent cannot be taken as `{Self}`",
    label = "not a format",
    note = "take `CloudEvent<Json<T>>`, `CloudEvent<Avro<T>>` and the like, with a `T` that owns what it holds, or `CloudEvent<Bytes>`"
)]
pub trait EventData: Sized + Send {
    /// Decodes it; there may be none.
    ///
    /// # Errors
    /// As [`Decode::decode`].
    fn decode(data: Encoded<'_>, context: &Context) -> Result<Self, Rejection>;

    /// Says at startup what is missing for it.
    ///
    /// # Errors
    /// One sentence with the fix.
    fn check(context: &Context) -> Result<(), String> {
        let _ = context;
        Ok(())
    }
}

impl<F: for<'a> Decode<'a>> EventData for F {
    fn decode(data: Encoded<'_>, context: &Context) -> Result<Self, Rejection> {
        // A format may have a null of its own.
        let has_none = data.bytes().is_none();
        F::decode(data, context).map_err(|rejection| if has_none { no_data() } else { rejection })
    }

    fn check(context: &Context) -> Result<(), String> {
        F::check(Part::Value, context)
    }
}

impl<F: for<'a> Decode<'a>> EventData for Option<F> {
    fn decode(data: Encoded<'_>, context: &Context) -> Result<Self, Rejection> {
        data.bytes().map(|_| F::decode(data, context)).transpose()
    }

    fn check(context: &Context) -> Result<(), String> {
        F::check(Part::Value, context)
    }
}

impl EventData for Bytes {
    fn decode(data: Encoded<'_>, _: &Context) -> Result<Self, Rejection> {
        data.bytes().map(Bytes::copy_from_slice).ok_or_else(no_data)
    }
}

impl EventData for Option<Bytes> {
    fn decode(data: Encoded<'_>, _: &Context) -> Result<Self, Rejection> {
        Ok(data.bytes().map(Bytes::copy_from_slice))
    }
}

fn no_data() -> Rejection {
    Rejection::new("the CloudEvent has no data; take `CloudEvent<Option<..>>`")
}

impl<'a, F: EventData> FromRecord<'a> for CloudEvent<F> {
    fn from_record(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        match Mode::of(record) {
            Mode::Binary => {
                let data = Encoded::new(Part::Value, record);
                Envelope::of_headers(record).open(|_| F::decode(data, context))
            }
            Mode::Structured => structured(record, context),
            Mode::Batched => Err(Rejection::new(
                "the record is a batch of CloudEvents, which Kafka's binding does not have; \
                 produce each event as a record of its own",
            )),
            Mode::OtherFormat => Err(Rejection::new(
                "the record is a CloudEvent in a format that is not JSON; \
                 its `content-type` would have to be `application/cloudevents+json`",
            )),
        }
    }

    fn check(context: &Context) -> Result<(), String> {
        F::check(context)
    }
}

fn structured<F: EventData>(record: Record<'_>, context: &Context) -> Result<CloudEvent<F>, Rejection> {
    let payload = record.payload().ok_or_else(|| {
        Rejection::new(
            "the value is null (a tombstone), and the record's `content-type` promises a CloudEvent",
        )
    })?;
    let not_json = |error| Rejection::new(super::json::not_json("the value", &error));
    let envelope: Envelope<'_> = serde_json::from_slice(payload).map_err(not_json)?;
    envelope.open(|envelope| {
        let decode = |data: Option<&[u8]>| F::decode(Encoded::of_bytes(record, data), context);
        match (&envelope.data_base64, envelope.data) {
            (Some(text), None) => match STANDARD.decode(text) {
                Ok(data) => decode(Some(&data)),
                Err(_) => Err(Rejection::new("the CloudEvent's `data_base64` is not Base64")),
            },
            (Some(_), Some(_)) => Err(Rejection::new("the CloudEvent has both `data` and `data_base64`")),
            (None, Some(data)) => match envelope.text_in(data) {
                Some(text) => decode(Some(text.as_bytes())),
                None => decode(Some(data.get().as_bytes())),
            },
            (None, None) => decode(None),
        }
    })
}

/// An event that was not looked at yet, as structured mode has it.
#[derive(Deserialize)]
struct Envelope<'a> {
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    subject: Option<String>,
    time: Option<String>,
    #[serde(rename = "dataschema")]
    data_schema: Option<String>,
    #[serde(rename = "datacontenttype")]
    content_type: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
}

impl Envelope<'_> {
    fn of_headers(record: Record<'_>) -> Self {
        let header = |name| {
            let value = record.headers().get_in_any_case(name);
            value.and_then(|value| std::str::from_utf8(value).ok()).map(str::to_owned)
        };
        Self {
            specversion: header("ce_specversion"),
            id: header("ce_id"),
            source: header("ce_source"),
            event_type: header("ce_type"),
            subject: header("ce_subject"),
            time: header("ce_time"),
            data_schema: header("ce_dataschema"),
            content_type: None,
            data: None,
            data_base64: None,
        }
    }

    /// The data, where it is a text that stands for itself.
    fn text_in(&self, data: &RawValue) -> Option<String> {
        let content_type = self.content_type.as_deref()?.split(';').next()?.trim().to_ascii_lowercase();
        let is_json = content_type.ends_with("/json") || content_type.ends_with("+json");
        if is_json { None } else { serde_json::from_str(data.get()).ok() }
    }

    /// Checks the attributes, then makes the data of what is in it.
    fn open<F>(self, data: impl FnOnce(&Self) -> Result<F, Rejection>) -> Result<CloudEvent<F>, Rejection> {
        if !required("specversion", self.specversion.clone())?.starts_with("1.") {
            return Err(Rejection::new("the CloudEvent's attribute `specversion` is not 1.x"));
        }
        Ok(CloudEvent {
            id: required("id", self.id.clone())?,
            source: required("source", self.source.clone())?,
            event_type: required("type", self.event_type.clone())?,
            data: data(&self)?,
            subject: self.subject,
            time: self.time,
            data_schema: self.data_schema,
        })
    }
}

fn required(name: &str, value: Option<String>) -> Result<String, Rejection> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| {
        Rejection::new(format!(
            "the record is no CloudEvent: it lacks the attribute `{name}` (header `ce_{name}`)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::{Batch, Json};
    use crate::kafka::message::{Message, OwnedMessage};
    use crate::record::run::RunClock;
    use crate::record::source::Source;
    use crate::{HandlerError, Run, TopicPartition};
    use std::time::Duration;

    const ATTRIBUTES: [(&str, &str); 7] = [
        ("specversion", "1.0"),
        ("id", "1"),
        ("source", "/a"),
        ("type", "departed"),
        ("subject", "N14228"),
        ("time", "2018-04-05T17:31:00Z"),
        ("dataschema", "/schema"),
    ];
    const SECRET: &str = "hunter2";

    fn message(headers: &[(String, &str)], payload: Option<&str>) -> Message {
        Message::Owned(Box::new(OwnedMessage {
            payload: payload.map(Into::into),
            headers: headers
                .iter()
                .map(|(name, value)| (name.clone().into(), Some((*value).into())))
                .collect(),
            ..Default::default()
        }))
    }

    fn binary(attributes: &[(&str, &'static str)], data: Option<&str>) -> Message {
        let headers: Vec<_> = attributes.iter().map(|(name, value)| (format!("ce_{name}"), *value)).collect();
        message(&headers, data)
    }

    fn structured(attributes: &[(&str, &str)], data: Option<&str>) -> Message {
        let mut members: Vec<_> =
            attributes.iter().map(|(name, value)| format!("\"{name}\": \"{value}\"")).collect();
        members.extend(data.map(|data| format!("\"data\": {data}")));
        let payload = format!("{{{}}}", members.join(", "));
        message(&[("content-type".to_owned(), "application/cloudevents+json")], Some(&payload))
    }

    fn extract<T: for<'a> Deserialize<'a> + Send>(message: &Message) -> Result<CloudEvent<Json<T>>, String> {
        take(message)
    }

    fn take<F: EventData>(message: &Message) -> Result<CloudEvent<F>, String> {
        let source = Source::new(TopicPartition::new("t", 0), "g".into());
        let event = CloudEvent::from_record(Record::new(message, &source, 1), &Context::default());
        event.map_err(|rejection| {
            let text = HandlerError::from(rejection).to_string();
            assert!(!text.contains(SECRET), "{text}");
            text
        })
    }

    fn rejected<T: for<'a> Deserialize<'a> + Send + std::fmt::Debug>(message: &Message) -> String {
        extract::<T>(message).unwrap_err()
    }

    #[test]
    fn both_modes_give_the_same_event() {
        let event = extract::<Vec<i32>>(&binary(&ATTRIBUTES, Some("[1, 2]"))).unwrap();
        assert_eq!(extract(&structured(&ATTRIBUTES, Some("[1, 2]"))).unwrap(), event);
        assert_eq!((&*event.id, &*event.source, &*event.event_type), ("1", "/a", "departed"));
        assert_eq!(event.subject.as_deref(), Some("N14228"));
        assert_eq!(event.time.as_deref(), Some("2018-04-05T17:31:00Z"));
        assert_eq!(event.data_schema.as_deref(), Some("/schema"));
        assert_eq!(event.data.0, [1, 2]);
    }

    #[test]
    fn what_is_optional_may_be_missing_or_null() {
        let event = extract::<i32>(&binary(&ATTRIBUTES[..4], Some("5"))).unwrap();
        assert_eq!((event.subject, event.time, event.data_schema), (None, None, None));
        let payload =
            r#"{"specversion": "1.0", "id": "1", "source": "/a", "type": "t", "subject": null, "data": 5}"#;
        let headers = [("content-type".to_owned(), "application/cloudevents+json; charset=utf-8")];
        assert_eq!(extract::<i32>(&message(&headers, Some(payload))).unwrap().subject, None);
    }

    #[test]
    fn a_rejection_names_the_attribute() {
        for missing in 0..4 {
            let mut attributes = ATTRIBUTES.to_vec();
            let (name, _) = attributes.remove(missing);
            for message in [binary(&attributes, Some("5")), structured(&attributes, Some("5"))] {
                assert!(rejected::<i32>(&message).contains(&format!("`{name}`")));
            }
        }
        let mut old = ATTRIBUTES;
        old[0].1 = "0.3";
        assert!(rejected::<i32>(&binary(&old, Some("5"))).contains("`specversion` is not 1.x"));
    }

    #[test]
    fn no_data_is_none_and_nothing_else() {
        for message in [binary(&ATTRIBUTES, None), structured(&ATTRIBUTES, None)] {
            assert_eq!(extract::<Option<i32>>(&message).unwrap().data, Json(None));
            assert_eq!(take::<Option<Json<i32>>>(&message).unwrap().data, None);
            assert_eq!(take::<Option<Bytes>>(&message).unwrap().data, None);
            assert!(take::<Bytes>(&message).unwrap_err().contains("has no data"));
            assert!(rejected::<i32>(&message).contains("has no data"));
        }
        let null = structured(&ATTRIBUTES, Some("null"));
        assert_eq!(extract::<Option<i32>>(&null).unwrap().data, Json(None));
        // The binding has no other word for none.
        assert_eq!(take::<Option<Json<i32>>>(&null).unwrap().data, None);
    }

    #[test]
    fn data_of_another_kind_is_rejected_without_quoting_it() {
        let data = format!("\"{SECRET}\"");
        for message in [binary(&ATTRIBUTES, Some(&data)), structured(&ATTRIBUTES, Some(&data))] {
            assert!(rejected::<i32>(&message).contains("not of the handler's type"));
        }
        let mut attributes = ATTRIBUTES.to_vec();
        attributes.push(("data_base64", SECRET));
        assert!(rejected::<Option<i32>>(&structured(&attributes, None)).contains("`data_base64`"));
    }

    #[test]
    fn data_in_base64_is_what_it_stands_for_in_any_format() {
        let with = |data| [&ATTRIBUTES[..], &[("data_base64", data)]].concat();
        let json = structured(&with("WzEsIDJd"), None);
        assert_eq!(extract::<Vec<i32>>(&json).unwrap().data.0, [1, 2]);
        assert_eq!(take::<Bytes>(&json).unwrap().data, "[1, 2]");
        assert_eq!(take::<Bytes>(&structured(&with("AP8="), None)).unwrap().data, &[0, 255][..]);
        assert_eq!(take::<Bytes>(&structured(&with(""), None)).unwrap().data, "");
        let both = take::<Bytes>(&structured(&with("AP8="), Some("1"))).unwrap_err();
        assert!(both.contains("both `data` and `data_base64`"), "{both}");
    }

    #[test]
    fn data_that_is_a_text_of_another_type_is_that_text() {
        let with = |content_type| [&ATTRIBUTES[..], &[("datacontenttype", content_type)]].concat();
        let data = |content_type| {
            take::<Bytes>(&structured(&with(content_type), Some(r#""<a>\u00e4""#))).unwrap().data
        };
        assert_eq!(data("text/xml"), "<a>ä");
        assert_eq!(data("Text/Plain; charset=UTF-8"), "<a>ä");
        for json in ["application/json", "application/vnd.a+json; charset=utf-8"] {
            assert_eq!(data(json), r#""<a>\u00e4""#);
        }
        let none = take::<Bytes>(&structured(&ATTRIBUTES, Some("{\"a\": 12345678901234567890123}")));
        assert_eq!(none.unwrap().data, "{\"a\": 12345678901234567890123}");
    }

    #[test]
    fn attributes_count_in_any_case_of_their_headers_and_the_data_is_in_any_format() {
        let headers: Vec<_> =
            ATTRIBUTES.iter().map(|(name, value)| (format!("CE_{}", name.to_uppercase()), *value)).collect();
        let event = take::<Bytes>(&message(&headers, Some("plain"))).unwrap();
        assert_eq!((&*event.id, &*event.data), ("1", &b"plain"[..]));
    }

    #[test]
    fn a_batch_of_events_and_other_formats_are_rejected() {
        let of = |content_type| message(&[("content-type".to_owned(), content_type)], Some("[]"));
        assert!(rejected::<i32>(&of("application/cloudevents-batch+json")).contains("batch"));
        assert!(rejected::<i32>(&of("application/cloudevents+avro")).contains("not JSON"));
    }

    #[test]
    fn a_batch_handler_takes_one_of_each_record_and_hears_which_is_none() {
        let source = Source::new(TopicPartition::new("t", 0), "g".into());
        let clock = RunClock::start(Duration::from_secs(60), std::sync::Arc::default());
        let messages =
            [binary(&ATTRIBUTES, Some("5")), structured(&ATTRIBUTES, Some("6")), message(&[], Some("7"))];
        let records: Vec<_> = messages.iter().map(|message| Record::new(message, &source, 1)).collect();
        let context = Context::default();
        let batch = |count: usize| {
            Batch::<CloudEvent<Json<i32>>>::from_run(Run::new(&records[..count], &source, &clock), &context)
        };
        assert_eq!(batch(2).unwrap().iter().map(|event| event.data.0).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(batch(3).unwrap_err().index, 2);
    }
}

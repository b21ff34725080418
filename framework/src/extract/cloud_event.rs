//! A CloudEvent.

use super::{Context, FromRecord, Rejection};
use crate::Record;
use crate::record::cloud_event::Mode;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A [CloudEvent](https://cloudevents.io) of version 1, with its data decoded from JSON.
///
/// Both modes of Kafka's binding are read: binary, with the attributes in headers
/// (`ce_id` and so on) and the data as the payload, and structured, with both in a JSON
/// payload and `content-type: application/cloudevents+json`. Extension attributes are
/// left out; in binary mode [`Headers`](super::Headers) has them.
///
/// An event without data decodes if `T` is an `Option`; else it is rejected. `T` may borrow
/// from the record.
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
/// async fn on_departure(event: CloudEvent<Flight>) -> HandlerResult {
///     println!("{} of {}: {}", event.id, event.source, event.data.tailnum);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudEvent<T> {
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
    pub data: T,
}

impl<'a, T: Deserialize<'a> + Send> FromRecord<'a> for CloudEvent<T> {
    fn from_record(record: Record<'a>, _: &'a Context) -> Result<Self, Rejection> {
        match Mode::of(record) {
            Mode::Binary => binary(record),
            Mode::Structured => structured(record),
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
}

fn not_json(error: serde_json::Error) -> Rejection {
    Rejection::new(super::json::not_json("the value", &error))
}

fn binary<'a, T: Deserialize<'a>>(record: Record<'a>) -> Result<CloudEvent<T>, Rejection> {
    let header = |name| record.headers().get_str(name).map(str::to_owned);
    let envelope = Envelope::<()> {
        specversion: header("ce_specversion"),
        id: header("ce_id"),
        source: header("ce_source"),
        event_type: header("ce_type"),
        subject: header("ce_subject"),
        time: header("ce_time"),
        data_schema: header("ce_dataschema"),
        data: None,
        data_base64: None,
    };
    envelope.open(|_| match record.payload() {
        Some(payload) => serde_json::from_slice(payload).map_err(not_json),
        None => no_data(),
    })
}

fn structured<'a, T: Deserialize<'a>>(record: Record<'a>) -> Result<CloudEvent<T>, Rejection> {
    let payload = record.payload().ok_or_else(|| {
        Rejection::new(
            "the value is null (a tombstone), and the record's `content-type` promises a CloudEvent",
        )
    })?;
    let envelope: Envelope<T> = serde_json::from_slice(payload).map_err(not_json)?;
    if envelope.data_base64.is_some() {
        return Err(Rejection::new("the CloudEvent's data is binary (`data_base64`), and not JSON"));
    }
    envelope.open(|data| data.map_or_else(no_data, Ok))
}

/// `null` decodes to `None` and to nothing else.
fn no_data<'a, T: Deserialize<'a>>() -> Result<T, Rejection> {
    serde_json::from_str("null")
        .map_err(|_| Rejection::new("the CloudEvent has no data; take `CloudEvent<Option<T>>`"))
}

/// An event that was not looked at yet, as structured mode has it.
#[derive(Deserialize)]
struct Envelope<T> {
    specversion: Option<String>,
    id: Option<String>,
    source: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    subject: Option<String>,
    time: Option<String>,
    #[serde(rename = "dataschema")]
    data_schema: Option<String>,
    data: Option<T>,
    data_base64: Option<IgnoredAny>,
}

impl<T> Envelope<T> {
    /// Checks the attributes, then makes the data of what is in it.
    fn open<U>(
        self,
        data: impl FnOnce(Option<T>) -> Result<U, Rejection>,
    ) -> Result<CloudEvent<U>, Rejection> {
        if !required("specversion", self.specversion)?.starts_with("1.") {
            return Err(Rejection::new("the CloudEvent's attribute `specversion` is not 1.x"));
        }
        Ok(CloudEvent {
            id: required("id", self.id)?,
            source: required("source", self.source)?,
            event_type: required("type", self.event_type)?,
            subject: self.subject,
            time: self.time,
            data_schema: self.data_schema,
            data: data(self.data)?,
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
    use crate::extract::Batch;
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

    fn extract<T: for<'a> Deserialize<'a> + Send>(message: &Message) -> Result<CloudEvent<T>, String> {
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
        assert_eq!(event.data, [1, 2]);
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
            assert_eq!(extract::<Option<i32>>(&message).unwrap().data, None);
            assert!(rejected::<i32>(&message).contains("has no data"));
        }
        assert_eq!(extract::<Option<i32>>(&structured(&ATTRIBUTES, Some("null"))).unwrap().data, None);
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
            Batch::<CloudEvent<i32>>::from_run(Run::new(&records[..count], &source, &clock), &context)
        };
        assert_eq!(batch(2).unwrap().iter().map(|event| event.data).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(batch(3).unwrap_err().index, 2);
    }
}

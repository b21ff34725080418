//! The payload, or the key, as JSON.

use super::decode::format_of;
use super::{Context, Decode, Encoded, Rejection};
use serde::Deserialize;

/// The payload, decoded from JSON. `Key<Json<T>>` is the same for the key.
///
/// A tombstone decodes to `Json(None)` if `T` is an `Option`; else it is rejected. `T` may
/// borrow from the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

format_of!(Json, IS_JSON);

impl<'a, T: Deserialize<'a> + Send> Decode<'a> for Json<T> {
    #[inline]
    fn decode(encoded: Encoded<'a>, _: &'a Context) -> Result<Self, Rejection> {
        let Some(json) = encoded.bytes() else { return encoded.none("Json").map(Json) };
        // As `from_slice` does it. To map what that gives would copy the whole value once more.
        let mut json = serde_json::Deserializer::from_slice(json);
        match T::deserialize(&mut json) {
            Ok(value) => match json.end() {
                Ok(()) => Ok(Self(value)),
                Err(error) => Err(rejection(encoded, &error)),
            },
            Err(error) => Err(rejection(encoded, &error)),
        }
    }
}

#[cold]
fn rejection(encoded: Encoded<'_>, error: &serde_json::Error) -> Rejection {
    let problem = not_json(&format!("the {}", encoded.part().name()), error);
    match encoded.bytes().and_then(looks_like) {
        Some(other) => Rejection::new(format!("{problem}; {other}")),
        _ => Rejection::new(problem),
    }
}

/// What bytes that are no JSON are instead, by how they begin.
fn looks_like(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xef, 0xbb, 0xbf, ..] => Some("it begins with a byte order mark, which JSON does not have"),
        [0xfe, 0xff, ..] | [0xff, 0xfe, ..] | [0, b'{' | b'[', ..] | [b'{' | b'[', 0, ..] => {
            Some("it is UTF-16, and JSON is UTF-8")
        }
        [0, _, _, _, _, b'{' | b'[' | b'"', ..] => {
            Some("a schema id of Confluent's wire format stands before it; take `JsonSchema<T>`")
        }
        _ => None,
    }
}

/// serde's message quotes values of the record; those stay out of logs.
pub(super) fn not_json(what: &str, error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let problem = match error.classify() {
        Category::Data => "is JSON, but not of the handler's type",
        Category::Syntax => "is not JSON",
        Category::Eof => "is JSON that ends too early",
        Category::Io => "cannot be read",
    };
    let field = missing_field(error).map(|field| format!(": {field}")).unwrap_or_default();
    format!("{what} {problem}{field} (line {}, column {})", error.line(), error.column())
}

/// The part of serde's message that names a field of the type, which is no data.
fn missing_field(error: &serde_json::Error) -> Option<String> {
    let text = error.to_string();
    let end = text.find(" at line ").unwrap_or(text.len());
    text.starts_with("missing field").then(|| text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::FromRecord;
    use super::*;
    use crate::kafka::message::{Message, OwnedMessage};
    use crate::record::source::Source;
    use crate::{HandlerError, Record, TopicPartition};

    fn problem(payload: &[u8]) -> String {
        let message =
            Message::Owned(Box::new(OwnedMessage { payload: Some(payload.into()), ..Default::default() }));
        let source = Source::new(TopicPartition::new("t", 0), "g".into());
        let context = Context::default();
        let read = Json::<i64>::from_record(Record::new(&message, &source, 1), &context);
        HandlerError::from(read.unwrap_err()).to_string()
    }

    #[test]
    fn what_only_looks_like_json_is_told_apart() {
        for (payload, said) in [
            (&b"\xef\xbb\xbf1"[..], "a byte order mark"),
            (b"\xff\xfe{\0}\0", "it is UTF-16"),
            (b"\xfe\xff\0{\0}", "it is UTF-16"),
            (b"{\0}\0", "it is UTF-16"),
            (b"\0\0\0\0\x07{}", "take `JsonSchema<T>`"),
        ] {
            assert!(problem(payload).contains(said), "{}", problem(payload));
        }
        assert_eq!(problem(b"x"), "the value is not JSON (line 1, column 1)");
        assert!(problem(b"\"a\"").ends_with("not of the handler's type (line 1, column 3)"));
    }

    #[test]
    fn numbers_are_exact_however_long_and_a_field_stands_once() {
        #[derive(Debug, Deserialize, PartialEq)]
        struct Numbers {
            a: i64,
            b: u128,
        }
        let read = |payload: &str| {
            let message = Message::Owned(Box::new(OwnedMessage {
                payload: Some(payload.as_bytes().into()),
                ..Default::default()
            }));
            let source = Source::new(TopicPartition::new("t", 0), "g".into());
            let context = Context::default();
            let read = Json::<Numbers>::from_record(Record::new(&message, &source, 1), &context);
            read.map(|read| read.0).map_err(|rejection| HandlerError::from(rejection).to_string())
        };
        // 2^53 + 1, and 2^100 + 1.
        let numbers = Numbers { a: 9_007_199_254_740_993, b: (1 << 100) + 1 };
        let text = "{\"a\": 9007199254740993, \"b\": 1267650600228229401496703205377}";
        assert_eq!(read(text), Ok(numbers));
        // Which of two was meant nobody knows.
        assert!(read("{\"a\": 1, \"a\": 2, \"b\": 1}").is_err());
        assert!(read("{\"a\": 1.5, \"b\": 1}").is_err());
    }
}

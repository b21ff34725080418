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
    Rejection::new(not_json(&format!("the {}", encoded.part().name()), error))
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

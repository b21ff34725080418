//! The payload as JSON.

use super::{Context, FromRecord, Rejection};
use crate::Record;
use serde::Deserialize;
use std::ops::Deref;

/// The payload, decoded from JSON.
///
/// A tombstone decodes to `Json(None)` where `T` is an `Option`, and is rejected
/// else. `T` may borrow from the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<'a, T: Deserialize<'a> + Send> FromRecord<'a> for Json<T> {
    fn from_record(record: Record<'a>, _: &'a Context) -> Result<Self, Rejection> {
        match record.payload() {
            Some(payload) => serde_json::from_slice(payload).map(Json).map_err(not_json),
            // `null` decodes to `None` and to nothing else.
            None => serde_json::from_str("null").map(Json).map_err(|_| {
                Rejection::new(
                    "the value is null (a tombstone); take `Json<Option<T>>`, \
                     or set `tombstones = \"skip\"` of the handler",
                )
            }),
        }
    }
}

/// serde's message quotes values of the record; those stay out of logs.
pub(super) fn not_json(error: serde_json::Error) -> Rejection {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Data => "the value is JSON, but not of the handler's type",
        Category::Syntax => "the value is not JSON",
        Category::Eof => "the value is JSON that ends too early",
        Category::Io => "the value cannot be read",
    };
    let field = missing_field(&error).map(|field| format!(": {field}")).unwrap_or_default();
    Rejection::new(format!("{what}{field} (line {}, column {})", error.line(), error.column()))
}

/// The part of serde's message that names a field of the type, which is no data.
fn missing_field(error: &serde_json::Error) -> Option<String> {
    let text = error.to_string();
    let end = text.find(" at line ").unwrap_or(text.len());
    text.starts_with("missing field").then(|| text[..end].to_owned())
}

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

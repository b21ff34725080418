//! One text field of a JSON object, without decoding the rest.

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// The text under `name` at the top level; `None` where there is none.
pub(crate) fn text<'a>(json: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    serde_json::Deserializer::from_slice(json).deserialize_map(Field(name)).ok()?
}

struct Field<'n>(&'n str);

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            if found.is_none() && key.0 == self.0 {
                found = Some(map.next_value::<Text<'de>>()?.0);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Text, borrowed where it has no escapes.
struct Text<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrowing)
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_field_is_found_at_the_top_level_only() {
        let json = br#"{"a": {"type": "inner"}, "type": "outer", "b": [1, 2]}"#;
        assert_eq!(text(json, "type").as_deref(), Some("outer"));
        assert_eq!(text(json, "kind"), None);
        assert_eq!(text(br#"{"t\u0079pe": "\u0061"}"#, "type").as_deref(), Some("a"));
        assert_eq!(text(b"[1]", "type"), None);
        assert_eq!(text(br#"{"type": 5}"#, "type"), None);
    }
}

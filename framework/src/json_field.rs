//! Text fields of a JSON object, without decoding the rest.

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// The text under `name` at the top level; `None` where there is none.
pub(crate) fn text<'a>(json: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    let [text] = texts(json, [name])?;
    text
}

/// The texts under these names at the top level, in one reading; `None` where it is
/// no object, or has something else under one of them.
pub(crate) fn texts<'a, const N: usize>(
    json: &'a [u8],
    names: [&str; N],
) -> Option<[Option<Cow<'a, str>>; N]> {
    serde_json::Deserializer::from_slice(json).deserialize_map(Fields(names)).ok()
}

struct Fields<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for Fields<'_, N> {
    type Value = [Option<Cow<'de, str>>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [const { None }; N];
        while let Some(key) = map.next_key::<Text<'de>>()? {
            let place = self.0.iter().position(|name| key.0 == *name);
            match place.filter(|&place| found[place].is_none()) {
                Some(place) => found[place] = Some(map.next_value::<Text<'de>>()?.0),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
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
    use super::{text, texts};

    #[test]
    fn a_field_is_found_at_the_top_level_only() {
        let json = br#"{"a": {"type": "inner"}, "type": "outer", "b": [1, 2]}"#;
        assert_eq!(text(json, "type").as_deref(), Some("outer"));
        assert_eq!(text(json, "kind"), None);
        assert_eq!(text(br#"{"t\u0079pe": "\u0061"}"#, "type").as_deref(), Some("a"));
        assert_eq!(text(b"[1]", "type"), None);
        assert_eq!(text(br#"{"type": 5}"#, "type"), None);
    }

    #[test]
    fn several_fields_are_found_in_one_reading_wherever_they_stand() {
        let json = br#"{"b": "2", "c": {"a": "inner"}, "a": "1"}"#;
        assert_eq!(texts(json, ["a", "b", "d"]), Some([Some("1".into()), Some("2".into()), None]));
        assert_eq!(texts(b"\"a\"", ["a"]), None);
    }
}

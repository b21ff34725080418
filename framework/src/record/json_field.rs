//! Text fields of a JSON object, without decoding the rest.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// The text under `name` at the top level; `None` where there is none.
pub(crate) fn text<'a>(json: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    let [text] = texts(json, [name])?;
    text
}

/// The text or whole number under `name` at the top level, as text; `None` where there is none.
pub(crate) fn text_or_number<'a>(json: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    let [value] = values(json, [name])?;
    Some(match value? {
        TextOrNumber::Text(text) => text,
        TextOrNumber::Number(number) => number.to_string().into(),
    })
}

/// The texts under these names at the top level, in one reading; `None` where it is
/// no object, or has something else under one of them.
pub(crate) fn texts<'a, const N: usize>(
    json: &'a [u8],
    names: [&str; N],
) -> Option<[Option<Cow<'a, str>>; N]> {
    let texts: [Option<Text<'a>>; N] = values(json, names)?;
    Some(texts.map(|text| text.map(|text| text.0)))
}

fn values<'a, V: Deserialize<'a>, const N: usize>(
    json: &'a [u8],
    names: [&str; N],
) -> Option<[Option<V>; N]> {
    serde_json::Deserializer::from_slice(json).deserialize_map(Fields(names, PhantomData)).ok()
}

struct Fields<'n, V, const N: usize>([&'n str; N], PhantomData<V>);

impl<'de, V: Deserialize<'de>, const N: usize> Visitor<'de> for Fields<'_, V, N> {
    type Value = [Option<V>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [const { None }; N];
        while let Some(key) = map.next_key::<Text<'de>>()? {
            let place = self.0.iter().position(|name| key.0 == *name);
            match place.filter(|&place| found[place].is_none()) {
                Some(place) => found[place] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Text, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(untagged)]
enum TextOrNumber<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Number(u64),
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

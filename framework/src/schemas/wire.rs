//! How a record names its schema: Confluent's wire format, and the header of newer registries.

use super::SchemaId;
use crate::Headers;

/// The part of a record that a schema is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Key,
    Value,
}

impl Part {
    /// The header that carries the id (Confluent Platform 8).
    fn header(self) -> &'static str {
        match self {
            Self::Key => "__key_schema_id",
            Self::Value => "__value_schema_id",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Value => "value",
        }
    }
}

/// Why no schema id was found.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum WireError {
    #[error("the {0} is empty, where a magic byte 0 and a schema id of 4 bytes were expected")]
    Empty(&'static str),
    #[error(
        "the {0} does not begin with the magic byte 0 of Confluent's wire format; it was not written by a \
         serializer that uses a schema registry"
    )]
    NoMagic(&'static str),
    #[error("the {0} ends inside its schema id")]
    TooShort(&'static str),
    #[error("header `{0}` is not a schema id: 0 and 4 bytes, or 1 and 16 bytes")]
    Header(&'static str),
}

const NUMBER: u8 = 0;
const GUID: u8 = 1;

/// The schema id, and what follows it. A header comes before a prefix; of several headers
/// the last counts.
pub(crate) fn split<'a>(
    part: Part,
    bytes: &'a [u8],
    headers: Headers<'_>,
) -> Result<(SchemaId, &'a [u8]), WireError> {
    if !headers.is_empty()
        && let Some(value) = headers.get(part.header())
    {
        return id_of(value).map(|id| (id, bytes)).ok_or(WireError::Header(part.header()));
    }
    match bytes {
        [] => Err(WireError::Empty(part.name())),
        [NUMBER, a, b, c, d, datum @ ..] => {
            Ok((SchemaId::Number(u32::from_be_bytes([*a, *b, *c, *d])), datum))
        }
        [NUMBER, ..] => Err(WireError::TooShort(part.name())),
        _ => Err(WireError::NoMagic(part.name())),
    }
}

fn id_of(header: &[u8]) -> Option<SchemaId> {
    let (kind, id) = header.split_first()?;
    match *kind {
        NUMBER => Some(SchemaId::Number(u32::from_be_bytes(id.try_into().ok()?))),
        GUID => Some(SchemaId::Guid(id.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Message, OwnedMessage};

    fn split_with(headers: &[(&str, &[u8])], bytes: &[u8]) -> Result<(SchemaId, Vec<u8>), WireError> {
        let headers = headers.iter().map(|(name, value)| (name.as_bytes().into(), Some((*value).into())));
        let message =
            Message::Owned(Box::new(OwnedMessage { headers: headers.collect(), ..Default::default() }));
        split(Part::Value, bytes, Headers::of(&message)).map(|(id, datum)| (id, datum.to_vec()))
    }

    #[test]
    fn a_prefix_is_a_zero_and_four_bytes() {
        assert_eq!(split_with(&[], &[0, 0, 0, 1, 2, 7, 8]), Ok((SchemaId::Number(258), vec![7, 8])));
        assert_eq!(split_with(&[], &[0, 0, 0, 0, 5]), Ok((SchemaId::Number(5), vec![])));
        assert_eq!(split_with(&[], &[]), Err(WireError::Empty("value")));
        assert_eq!(split_with(&[], &[0, 1, 2, 3]), Err(WireError::TooShort("value")));
        assert_eq!(split_with(&[], b"{\"a\":1}"), Err(WireError::NoMagic("value")));
    }

    #[test]
    fn a_header_comes_before_a_prefix_and_the_last_one_counts() {
        let name = "__value_schema_id";
        let guid: Vec<u8> = std::iter::once(1).chain(0..16).collect();
        let bytes = [0, 0, 0, 1, 2];
        assert_eq!(
            split_with(&[(name, &[0, 0, 0, 0, 9])], &bytes),
            Ok((SchemaId::Number(9), bytes.to_vec()))
        );
        let (id, _) = split_with(&[(name, &[0, 0, 0, 0, 9]), (name, &guid)], &bytes).unwrap();
        assert_eq!(id.to_string(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(split_with(&[("__key_schema_id", &guid)], &bytes), Ok((SchemaId::Number(258), vec![])));
        for wrong in [&[][..], &[0, 1], &[1, 2, 3], &[2, 0, 0, 0, 1]] {
            assert_eq!(split_with(&[(name, wrong)], &bytes), Err(WireError::Header(name)));
        }
    }
}

//! How a record names its schema: Confluent's wire format, and the header of newer registries.

use crate::Headers;
use crate::error::lookup::{Part, SchemaId};

/// The header that carries the id (Confluent Platform 8).
fn header_of(part: Part) -> &'static str {
    match part {
        Part::Key => "__key_schema_id",
        Part::Value => "__value_schema_id",
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
    #[error("the {0} begins with a schema id of 8 bytes that is larger than any")]
    TooLarge(&'static str),
    #[error("header `{0}` is not a schema id: 0 and 4 bytes, or 1 and 16 bytes")]
    Header(&'static str),
}

/// What serializers do that are set to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Framing {
    /// A schema's id before a payload has 8 bytes.
    pub(crate) has_wide_ids: bool,
    /// The indexes of a message are written without zigzag.
    pub(crate) has_plain_indexes: bool,
}

const NUMBER: u8 = 0;
const GUID: u8 = 1;

/// What is written by a schema, with what stands beside the schema's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Framed<'a> {
    bytes: &'a [u8],
    /// What follows the id, where that is in a header.
    beside_id: Option<&'a [u8]>,
    #[cfg_attr(not(feature = "protobuf"), allow(dead_code))]
    has_plain_indexes: bool,
}

/// The schema's id, and what is written by it. A header comes before a prefix; of several
/// headers the last counts.
pub(crate) fn split<'a>(
    part: Part,
    bytes: &'a [u8],
    headers: Headers<'a>,
    framing: Framing,
) -> Result<(SchemaId, Framed<'a>), WireError> {
    let has_plain_indexes = framing.has_plain_indexes;
    let framed = |bytes, beside_id| Framed { bytes, beside_id, has_plain_indexes };
    if !headers.is_empty()
        && let Some(value) = headers.get(header_of(part))
    {
        let (id, beside_id) = id_of(value).ok_or(WireError::Header(header_of(part)))?;
        return Ok((id, framed(bytes, Some(beside_id))));
    }
    match bytes {
        [] => Err(WireError::Empty(part.name())),
        [NUMBER, rest @ ..] => {
            let (zeros, rest) = rest
                .split_at_checked(if framing.has_wide_ids { 4 } else { 0 })
                .ok_or(WireError::TooShort(part.name()))?;
            let (id, bytes) = rest.split_first_chunk().ok_or(WireError::TooShort(part.name()))?;
            if zeros.iter().any(|byte| *byte != 0) {
                return Err(WireError::TooLarge(part.name()));
            }
            Ok((SchemaId::Number(u32::from_be_bytes(*id)), framed(bytes, None)))
        }
        _ => Err(WireError::NoMagic(part.name())),
    }
}

fn id_of(header: &[u8]) -> Option<(SchemaId, &[u8])> {
    let (kind, rest) = header.split_first()?;
    match *kind {
        NUMBER => {
            rest.split_first_chunk().map(|(id, rest)| (SchemaId::Number(u32::from_be_bytes(*id)), rest))
        }
        GUID => rest.split_first_chunk().map(|(id, rest)| (SchemaId::Guid(*id), rest)),
        _ => None,
    }
}

impl<'a> Framed<'a> {
    /// The datum, of a format that puts nothing before it.
    pub(crate) fn datum(self) -> Result<&'a [u8], &'static str> {
        match self.beside_id {
            Some([_, ..]) => Err("there are bytes behind the id in the header"),
            _ => Ok(self.bytes),
        }
    }

    /// Hands the indexes that lead to a Protobuf message to `walk`, from the outermost on, and
    /// gives the datum. They stand behind the id, wherever that is.
    #[cfg(feature = "protobuf")]
    pub(crate) fn datum_of_message(
        self,
        mut walk: impl FnMut(usize) -> bool,
    ) -> Result<&'a [u8], &'static str> {
        const PROBLEM: &str = "the indexes of its message are no numbers, or too many (of an old serializer? set \
             `schema_registry.deprecated_message_indexes`)";
        const NOT_THERE: &str = "its schema has no message at the place that it names";
        let mut rest = self.beside_id.unwrap_or(self.bytes);
        let mut number = || {
            let (number, after) = varint(rest)?;
            rest = after;
            if self.has_plain_indexes { usize::try_from(number).ok() } else { place(number) }
        };
        let count = number().ok_or(PROBLEM)?;
        // 0 stands for one index, the first.
        for _ in 0..count.max(1) {
            let index = if count == 0 { 0 } else { number().ok_or(PROBLEM)? };
            if !walk(index) {
                return Err(NOT_THERE);
            }
        }
        match self.beside_id {
            Some(_) if !rest.is_empty() => Err(PROBLEM),
            Some(_) => Ok(self.bytes),
            None => Ok(rest),
        }
    }
}

/// Writes the indexes that lead to a Protobuf message.
#[cfg(feature = "protobuf")]
pub(super) fn write_way(way: &[usize], bytes: &mut Vec<u8>) {
    // 0 stands for one index, the first.
    if way == [0] {
        return bytes.push(0);
    }
    for number in std::iter::once(way.len()).chain(way.iter().copied()) {
        let mut left = number * 2;
        while left >= 0x80 {
            bytes.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
    }
}

/// The branch of a union that a datum begins with.
#[cfg(feature = "avro")]
pub(super) fn zigzag(datum: &[u8]) -> Option<usize> {
    place(varint(datum)?.0)
}

/// Zigzag; a place is never negative.
#[cfg(any(feature = "avro", feature = "protobuf"))]
fn place(number: u64) -> Option<usize> {
    if number & 1 == 0 { usize::try_from(number / 2).ok() } else { None }
}

#[cfg(any(feature = "avro", feature = "protobuf"))]
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (place, byte) in bytes.iter().take(9).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[place + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::message::{Message, OwnedMessage};

    fn split_with(headers: &[(&str, &[u8])], bytes: &[u8]) -> Result<(SchemaId, Vec<u8>), WireError> {
        let headers = headers.iter().map(|(name, value)| (name.as_bytes().into(), Some((*value).into())));
        let message =
            Message::Owned(Box::new(OwnedMessage { headers: headers.collect(), ..Default::default() }));
        let (id, framed) = split(Part::Value, bytes, Headers::of(&message), Framing::default())?;
        framed.datum().map(|datum| (id, datum.to_vec())).map_err(|_| WireError::Header("bytes behind the id"))
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
        let longer = split_with(&[(name, &[0, 0, 0, 0, 9, 7])], &bytes);
        assert_eq!(longer, Err(WireError::Header("bytes behind the id")));
    }

    #[cfg(feature = "protobuf")]
    #[test]
    fn indexes_of_a_message_stand_behind_the_id() {
        let indexes = |framed: Framed<'_>| {
            let mut found = Vec::new();
            let datum = framed.datum_of_message(|index| {
                found.push(index);
                found.len() < 10
            });
            datum.map(|datum| (found, datum.to_vec()))
        };
        let prefixed = |bytes: &[u8]| indexes(Framed { bytes, beside_id: None, has_plain_indexes: false });
        assert_eq!(prefixed(&[0, 9]), Ok((vec![0], vec![9])));
        assert_eq!(prefixed(&[2, 0, 9]), Ok((vec![0], vec![9])));
        assert_eq!(prefixed(&[4, 2, 0x80, 1, 9]), Ok((vec![1, 64], vec![9])));
        for way in [vec![0], vec![1], vec![0, 0], vec![1, 64, 9000]] {
            let mut bytes = Vec::new();
            write_way(&way, &mut bytes);
            assert!(bytes.len() > 1 || way == [0]);
            bytes.push(9);
            assert_eq!(prefixed(&bytes), Ok((way, vec![9])));
        }
        let in_header =
            |beside_id| indexes(Framed { bytes: &[9], beside_id: Some(beside_id), has_plain_indexes: false });
        assert_eq!(in_header(&[4, 2, 4]), Ok((vec![1, 2], vec![9])));
        assert!(in_header(&[4, 2, 4, 1]).is_err());
        // None, negative, cut, endless, more than there are messages in messages.
        for wrong in [
            &[][..],
            &[1],
            &[4, 2],
            &[2, 3],
            &[0xff; 12],
            &[0x80; 12],
            &[40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(prefixed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_id_of_eight_bytes_is_read_where_it_is_set() {
        let message = Message::Owned(Box::default());
        let framing = Framing { has_wide_ids: true, ..Framing::default() };
        let split = |bytes: &'static [u8]| {
            let (id, framed) = split(Part::Key, bytes, Headers::of(&message), framing)?;
            Ok((id, framed.datum().unwrap()))
        };
        assert_eq!(split(&[0, 0, 0, 0, 0, 0, 0, 1, 2, 7]), Ok((SchemaId::Number(258), &[7][..])));
        assert_eq!(split(&[0, 0, 0, 0, 1, 0, 0, 1, 2, 7]), Err(WireError::TooLarge("key")));
        for short in [&[0][..], &[0, 0, 0], &[0, 0, 0, 0, 0, 0, 0, 1]] {
            assert_eq!(split(short), Err(WireError::TooShort("key")));
        }
    }

    #[cfg(feature = "protobuf")]
    #[test]
    fn indexes_without_zigzag_are_read_where_they_are_set() {
        let indexes = |bytes: &[u8]| {
            let mut found = Vec::new();
            let framed = Framed { bytes, beside_id: None, has_plain_indexes: true };
            let datum = framed.datum_of_message(|index| {
                found.push(index);
                found.len() < 10
            });
            datum.map(|datum| (found, datum.to_vec()))
        };
        assert_eq!(indexes(&[0, 9]), Ok((vec![0], vec![9])));
        assert_eq!(indexes(&[1, 3, 9]), Ok((vec![3], vec![9])));
        assert_eq!(indexes(&[2, 1, 0x80, 1, 9]), Ok((vec![1, 128], vec![9])));
    }
}

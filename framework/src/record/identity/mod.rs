//! What tells one event from another: the identity that is compared with what
//! was done before.

#[cfg(test)]
mod tests;
mod text;

pub(crate) use text::{is_blank, is_nil};

use crate::record::cloud_event;
use crate::{Record, TopicPartition};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use text::{parse_uuid, uuid_time};

/// The header that carries an identity: of a dead letter that of its original, of what a handler
/// publishes one that is made of what caused it.
///
/// It is bound to the key and the payload of the record that it was written for, and counts with
/// these only. On any other record, as on those of a service that copies the headers of what it
/// reads, it is ignored and counted in the log.
pub const IDENTITY_HEADER: &str = "onceward.identity";

/// The header of a dead letter that was sent back to its topic: the note that it was
/// dead-lettered no longer counts, and it is handled once more.
///
/// It does nothing on a record whose identity is not noted as dead-lettered.
pub const REDRIVEN_HEADER: &str = "onceward.redriven";

/// Where a handler's records have their identity.
///
/// An identity counts within the handler: its group and its name, over all its topics. Ids that are
/// unique in each of two topics only make one event of two; such topics need a handler each, or a
/// [function](Self::Function) that puts the topic in.
///
/// A declared identity is the word of who produced the record: two records with the same one are
/// one event, whatever else they say, and only the first is handled. Records that are left out so
/// are counted in the log. Whoever may write to the topic can declare any identity.
///
/// A value that is empty, blank or the nil UUID declares nothing. A record that declares nothing
/// has its identity from its header `onceward.identity`, where that was written for these very
/// bytes (see [`IDENTITY_HEADER`]); else it is told apart by its position: topic, partition,
/// offset, timestamp, key and payload. A redelivery is found then, a second copy that a producer
/// made is not.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum IdentitySource {
    /// The CloudEvents attributes `source` and `id` where both are present: in the
    /// headers `ce_source` and `ce_id`, or in the payload of a structured event.
    #[default]
    CloudEvents,
    /// The value of this header.
    Header(Cow<'static, str>),
    /// Whatever this function makes of the record. The copy of a dead letter that is sent back has
    /// another offset and another timestamp, so the function leaves these alone.
    Function(IdentityFunction),
    /// Topic, partition, offset and timestamp.
    Position,
}

/// A function from a record to its identity; `None` where it has none.
pub type IdentityFunction = Arc<dyn Fn(Record<'_>) -> Option<String> + Send + Sync>;

/// A record's identity, and what is odd about what the record says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) identity: Identity,
    /// It declares the nil UUID.
    pub(crate) is_nil: bool,
    /// It carries an identity that was not written for it.
    pub(crate) is_foreign: bool,
}

/// What a record declares.
enum Declared {
    As(Identity),
    Nil,
    Nothing,
}

impl IdentitySource {
    /// The value of a header.
    pub fn header(name: impl Into<Cow<'static, str>>) -> Self {
        Self::Header(name.into())
    }

    /// What a function makes of the record, for example a field of its payload.
    pub fn function(function: impl Fn(Record<'_>) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::Function(Arc::new(function))
    }

    pub(crate) fn of(&self, record: Record<'_>) -> Identity {
        self.find(record).identity
    }

    pub(crate) fn find(&self, record: Record<'_>) -> Found {
        let is_nil = match self.declared(record) {
            Declared::As(identity) => return Found { identity, is_nil: false, is_foreign: false },
            Declared::Nil => true,
            Declared::Nothing => false,
        };
        let header = record.headers().get(IDENTITY_HEADER);
        let carried = header.and_then(|header| Identity::carried(header, Content::of(record)));
        Found {
            identity: carried.unwrap_or_else(|| Identity::of_position(record)),
            is_nil,
            is_foreign: header.is_some() && carried.is_none(),
        }
    }

    fn declared(&self, record: Record<'_>) -> Declared {
        let of_text = |text: &[u8]| Identity::of_text(text, record);
        match self {
            Self::CloudEvents => match cloud_event::source_and_id(record) {
                Some([source, id]) => {
                    Declared::by(&id, |id| Identity::of_event(hash(&[&source, id]), record))
                }
                None => Declared::Nothing,
            },
            Self::Header(name) => match record.headers().get(name) {
                Some(value) => Declared::by(value, of_text),
                None => Declared::Nothing,
            },
            Self::Function(function) => match function(record) {
                Some(text) => Declared::by(text.as_bytes(), of_text),
                None => Declared::Nothing,
            },
            Self::Position => Declared::Nothing,
        }
    }
}

impl Declared {
    fn by(id: &[u8], identity: impl FnOnce(&[u8]) -> Identity) -> Self {
        match id {
            id if is_blank(id) => Self::Nothing,
            id if is_nil(id) => Self::Nil,
            id => Self::As(identity(id)),
        }
    }
}

impl fmt::Debug for IdentitySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CloudEvents => f.write_str("CloudEvents' source and id"),
            Self::Header(name) => write!(f, "header `{name}`"),
            Self::Function(_) => f.write_str("a function"),
            Self::Position => f.write_str("position"),
        }
    }
}

/// The identity of an event: 128 bits, and the time by which it is filed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    /// A UUID as it is, else a hash over all parts: no personal data is kept.
    pub(crate) key: u128,
    /// Milliseconds since the epoch: the time inside the identity, else the
    /// record's. Never now, which another copy would not share.
    time: i64,
    /// Whether another copy may carry another time.
    time_may_differ: bool,
    /// `None` where it was declared.
    origin: Option<Origin>,
}

/// What an identity that nobody declared is made of, beside the time and the record's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// The place of a record's partition, or of what was published all but its number.
    pub(crate) base: u128,
    /// An offset, or which of those it is that are equal.
    pub(crate) number: i64,
}

/// The bytes that an identity is bound to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) payload: Option<&'a [u8]>,
}

impl<'a> Content<'a> {
    pub(crate) fn of(record: Record<'a>) -> Self {
        Self { key: record.key(), payload: record.payload() }
    }
}

/// How far apart in time two copies of one event may be produced and still be
/// found to be one, across the edge of a day.
const DUPLICATE_DISTANCE: i64 = 60 * 60 * 1000;
const DAY: i64 = 24 * 60 * 60 * 1000;
/// 2000-01-01 and 2100-01-01, in days since the epoch. A clock that is wrong by
/// more files under day 0, so that it cannot make partitions without end.
const PLAUSIBLE_DAYS: std::ops::Range<i64> = 10_957..47_482;

/// A version that no UUID has, in the place where a UUID has it. It stands in all identities that
/// nobody declared and in no other, so that none of these can be declared.
const OWN: u128 = 0xf << 76;

impl Identity {
    /// The days (since 1970-01-01) under which the identity is filed: two near
    /// midnight, where another copy may fall on the other side.
    pub(crate) fn days(&self) -> impl Iterator<Item = i32> {
        let day = |time: i64| {
            let day = time.div_euclid(DAY);
            if PLAUSIBLE_DAYS.contains(&day) { i32::try_from(day).unwrap_or(0) } else { 0 }
        };
        let distance = if self.time_may_differ { DUPLICATE_DISTANCE } else { 0 };
        let (first, last) =
            (day(self.time.saturating_sub(distance)), day(self.time.saturating_add(distance)));
        std::iter::once(first).chain((first != last).then_some(last))
    }

    fn of_text(text: &[u8], record: Record<'_>) -> Self {
        match parse_uuid(text) {
            Some(uuid) if uuid & OWN == OWN => Self::of_event(hash(&[b"uuid", &uuid.to_be_bytes()]), record),
            Some(uuid) => match uuid_time(uuid) {
                Some(time) => Self { key: uuid, time, time_may_differ: false, origin: None },
                None => Self::of_event(uuid, record),
            },
            None => Self::of_event(hash(&[text]), record),
        }
    }

    fn of_event(key: u128, record: Record<'_>) -> Self {
        let key = if key & OWN == OWN { key & !OWN } else { key };
        Self { key, time: record.timestamp().unwrap_or(0), time_may_differ: true, origin: None }
    }

    fn of_position(record: Record<'_>) -> Self {
        let origin = Origin { base: record.origin().place, number: record.offset() };
        // Redelivery brings the same timestamp.
        Self::bound(origin, record.timestamp().unwrap_or(0), false, Content::of(record))
    }

    /// Of what was published because of an event: the same whenever that is handled, and filed
    /// like it.
    pub(crate) fn of_published(cause: Self, origin: Origin, content: Content<'_>) -> Self {
        Self::bound(origin, cause.time, cause.time_may_differ, content)
    }

    /// No header makes another content have this identity.
    fn bound(origin: Origin, time: i64, time_may_differ: bool, content: Content<'_>) -> Self {
        let identity = Self { key: 0, time, time_may_differ, origin: Some(origin) };
        Self { key: identity.seal(origin.base, content) | OWN, ..identity }
    }

    /// A hash over what the identity is made of and the content. The one who gives its parts
    /// cannot have it be that of another content.
    fn seal(&self, base: u128, content: Content<'_>) -> u128 {
        // Lengths of the two that have one; 0 is null, which is not the same as empty.
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, |bytes| bytes.len() as u64 + 1);
        let mut head = [0; 50];
        head[..16].copy_from_slice(&base.to_be_bytes());
        head[16..24].copy_from_slice(&self.origin.map_or(0, |origin| origin.number).to_be_bytes());
        head[24..32].copy_from_slice(&self.time.to_be_bytes());
        head[32] = u8::from(self.time_may_differ);
        head[33] = u8::from(self.origin.is_some());
        head[34..42].copy_from_slice(&length(content.key).to_be_bytes());
        head[42..].copy_from_slice(&length(content.payload).to_be_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head);
        hasher.update(content.key.unwrap_or_default());
        hasher.update(content.payload.unwrap_or_default());
        first_half(&hasher)
    }

    /// The value of [`IDENTITY_HEADER`] on a record of this content.
    pub(crate) fn to_header(self, content: Content<'_>) -> String {
        let Self { key, time, .. } = self;
        let edge = if self.time_may_differ { "~" } else { "" };
        match self.origin {
            Some(Origin { base, number }) => format!("{base:032x}+{number}@{edge}{time}#{key:032x}"),
            None => format!("{key:032x}@{edge}{time}#{:032x}", self.seal(key, content)),
        }
    }

    /// The identity in a header, if that was written for a record of this content.
    pub(crate) fn carried(header: &[u8], content: Content<'_>) -> Option<Self> {
        let header = std::str::from_utf8(header).ok()?;
        let (what, rest) = header.split_once('@')?;
        let (time, _) = rest.split_once('#')?;
        let (base, number) = match what.split_once('+') {
            Some((base, number)) => (base, Some(number)),
            None => (what, None),
        };
        let base = u128::from_str_radix(base, 16).ok()?;
        let time_may_differ = time.starts_with('~');
        let time = time.strip_prefix('~').unwrap_or(time).parse().ok()?;
        let identity = match number {
            Some(number) => {
                let origin = Origin { base, number: number.parse().ok()? };
                Self::bound(origin, time, time_may_differ, content)
            }
            None if base & OWN == OWN => return None,
            None => Self { key: base, time, time_may_differ, origin: None },
        };
        (identity.to_header(content) == header).then_some(identity)
    }
}

/// The part of a position that all records of a partition share.
pub(crate) fn place(partition: &TopicPartition) -> u128 {
    hash(&[b"position", partition.topic().as_bytes(), &partition.partition().to_be_bytes()])
}

/// 128 bits of BLAKE3 over the parts and their lengths: a producer cannot make
/// two events collide on purpose.
pub(crate) fn hash(parts: &[&[u8]]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    first_half(&hasher)
}

fn first_half(hasher: &blake3::Hasher) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_be_bytes(half)
}

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
use text::parse_uuid;

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
/// An identity counts within the handler: its group and its name, over all its topics, within
/// `dedupe_window` of the copy before, whatever the timestamps say. A copy of an event in another
/// topic of the handler is a duplicate. Where ids are unique within a topic only, two events of two
/// topics have the same one; [`in_each_topic`](Self::in_each_topic) tells them apart.
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
    /// Another source, per topic: see [`in_each_topic`](Self::in_each_topic).
    InEachTopic(Box<Self>),
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

    /// Makes one identity in two topics two events. For handlers of several topics whose ids are
    /// unique only within each topic.
    #[must_use]
    pub fn in_each_topic(self) -> Self {
        Self::InEachTopic(Box::new(self))
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
        let of_text = |text: &[u8]| Identity::of_text(text);
        match self {
            Self::CloudEvents => match cloud_event::source_and_id(record) {
                Some([source, id]) => Declared::by(&id, |id| Identity::of_event(hash(&[&source, id]))),
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
            Self::InEachTopic(identity) => match identity.declared(record) {
                Declared::As(identity) => Declared::As(identity.in_topic(record.topic())),
                other => other,
            },
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
            Self::InEachTopic(identity) => write!(f, "{identity:?} in each topic"),
        }
    }
}

/// The identity of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    /// A UUID as it is, else a hash over all parts: no personal data is kept.
    pub(crate) key: u128,
    /// `None` where it was declared.
    origin: Option<Origin>,
}

/// What an identity that nobody declared is made of, beside the record's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// The place of a record's partition, or of what was published all but its number.
    pub(crate) base: u128,
    /// An offset, or which of those it is that are equal.
    pub(crate) number: i64,
    /// The record's timestamp, which a redelivery brings again and a topic that was made anew does
    /// not; 0 for what was published.
    pub(crate) time: i64,
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

/// A version that no UUID has, in the place where a UUID has it. It stands in all identities that
/// nobody declared and in no other, so that none of these can be declared.
const OWN: u128 = 0xf << 76;

impl Identity {
    /// One that is declared.
    #[cfg(all(feature = "faults", feature = "postgres"))]
    pub(crate) fn of_key(key: u128) -> Self {
        Self::of_event(key)
    }

    fn of_text(text: &[u8]) -> Self {
        match parse_uuid(text) {
            Some(uuid) if uuid & OWN == OWN => Self::of_event(hash(&[b"uuid", &uuid.to_be_bytes()])),
            Some(uuid) => Self { key: uuid, origin: None },
            None => Self::of_event(hash(&[text])),
        }
    }

    fn of_event(key: u128) -> Self {
        let key = if key & OWN == OWN { key & !OWN } else { key };
        Self { key, origin: None }
    }

    /// The identity of the same declaration within one topic.
    fn in_topic(self, topic: &str) -> Self {
        Self::of_event(hash(&[b"topic", topic.as_bytes(), &self.key.to_be_bytes()]))
    }

    fn of_position(record: Record<'_>) -> Self {
        let origin = Origin {
            base: record.origin().place,
            number: record.offset(),
            time: record.timestamp().unwrap_or(0),
        };
        Self::bound(origin, Content::of(record))
    }

    /// Of what was published because of an event: the same whenever that is handled.
    pub(crate) fn of_published(origin: Origin, content: Content<'_>) -> Self {
        Self::bound(origin, content)
    }

    /// No header makes another content have this identity.
    fn bound(origin: Origin, content: Content<'_>) -> Self {
        let identity = Self { key: 0, origin: Some(origin) };
        Self { key: identity.seal(origin.base, content) | OWN, ..identity }
    }

    /// A hash over what the identity is made of and the content. The one who gives its parts
    /// cannot have it be that of another content.
    fn seal(&self, base: u128, content: Content<'_>) -> u128 {
        // Lengths of the two that have one; 0 is null, which is not the same as empty.
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, |bytes| bytes.len() as u64 + 1);
        let (number, time) = self.origin.map_or((0, 0), |origin| (origin.number, origin.time));
        let mut head = [0; 49];
        head[..16].copy_from_slice(&base.to_be_bytes());
        head[16..24].copy_from_slice(&number.to_be_bytes());
        head[24..32].copy_from_slice(&time.to_be_bytes());
        head[32] = u8::from(self.origin.is_some());
        head[33..41].copy_from_slice(&length(content.key).to_be_bytes());
        head[41..].copy_from_slice(&length(content.payload).to_be_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head);
        hasher.update(content.key.unwrap_or_default());
        hasher.update(content.payload.unwrap_or_default());
        first_half(&hasher)
    }

    /// The value of [`IDENTITY_HEADER`] on a record of this content.
    pub(crate) fn to_header(self, content: Content<'_>) -> String {
        let key = self.key;
        match self.origin {
            Some(Origin { base, number, time }) => format!("{base:032x}+{number}@{time}#{key:032x}"),
            None => format!("{key:032x}#{:032x}", self.seal(key, content)),
        }
    }

    /// The identity in a header, if that was written for a record of this content.
    pub(crate) fn carried(header: &[u8], content: Content<'_>) -> Option<Self> {
        let header = std::str::from_utf8(header).ok()?;
        let (what, _) = header.split_once('#')?;
        let key = |digits| u128::from_str_radix(digits, 16).ok();
        let identity = match what.split_once('+') {
            Some((base, place)) => {
                let (number, time) = place.split_once('@')?;
                let origin =
                    Origin { base: key(base)?, number: number.parse().ok()?, time: time.parse().ok()? };
                Self::bound(origin, content)
            }
            None => Self { key: key(what).filter(|key| key & OWN != OWN)?, origin: None },
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

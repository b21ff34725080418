//! What tells one event from another: the identity that is compared with what
//! was done before.

use crate::{Record, cloud_event};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The header in which a copy of a record (retried, dead-lettered, redriven)
/// carries the identity of its original.
pub const IDENTITY_HEADER: &str = "onceward.identity";

/// The header of a dead letter that was sent back to its topic: the note that it was
/// dead-lettered no longer counts, and it is handled once more.
pub const REDRIVEN_HEADER: &str = "onceward.redriven";

/// Where a handler's records have their identity.
///
/// A record that lacks it is told apart by its position (topic, partition, offset,
/// timestamp): a redelivery is found then, a second copy that a producer made is
/// not. A copy that Onceward made carries its original's identity in a header,
/// which comes before any of these.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum IdentitySource {
    /// The CloudEvents attributes `source` and `id` where both are present: in the
    /// headers `ce_source` and `ce_id`, or in the payload of a structured event.
    #[default]
    CloudEvents,
    /// The value of this header.
    Header(Cow<'static, str>),
    /// Whatever this function makes of the record.
    Function(IdentityFunction),
    /// Topic, partition, offset and timestamp.
    Position,
}

/// A function from a record to its identity; `None` where it has none.
pub type IdentityFunction = Arc<dyn Fn(Record<'_>) -> Option<String> + Send + Sync>;

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
        let carried = record.headers().get_str(IDENTITY_HEADER).and_then(Identity::from_header);
        carried.or_else(|| self.declared(record)).unwrap_or_else(|| Identity::of_position(record))
    }

    fn declared(&self, record: Record<'_>) -> Option<Identity> {
        match self {
            Self::CloudEvents => {
                let [source, id] = cloud_event::source_and_id(record)?;
                Some(Identity::of_event(hash(&[&source, &id]), record))
            }
            Self::Header(name) => Some(Identity::of_text(record.headers().get(name)?, record)),
            Self::Function(function) => Some(Identity::of_text(function(record)?.as_bytes(), record)),
            Self::Position => None,
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
}

/// How far apart in time two copies of one event may be produced and still be
/// found to be one, across the edge of a day.
const DUPLICATE_DISTANCE: i64 = 60 * 60 * 1000;
const DAY: i64 = 24 * 60 * 60 * 1000;
/// 2000-01-01 and 2100-01-01, in days since the epoch. A clock that is wrong by
/// more files under day 0, so that it cannot make partitions without end.
const PLAUSIBLE_DAYS: std::ops::Range<i64> = 10_957..47_482;

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
            Some(uuid) => match uuid_time(uuid) {
                Some(time) => Self { key: uuid, time, time_may_differ: false },
                None => Self::of_event(uuid, record),
            },
            None => Self::of_event(hash(&[text]), record),
        }
    }

    fn of_event(key: u128, record: Record<'_>) -> Self {
        Self { key, time: record.timestamp().unwrap_or(0), time_may_differ: true }
    }

    fn of_position(record: Record<'_>) -> Self {
        let time = record.timestamp().unwrap_or(0);
        let key = hash(&[
            b"position",
            record.topic().as_bytes(),
            &record.partition().to_be_bytes(),
            &record.offset().to_be_bytes(),
            &time.to_be_bytes(),
        ]);
        // Redelivery brings the same timestamp.
        Self { key, time, time_may_differ: false }
    }

    /// Of what was published because of an event: the same whenever that is
    /// handled, and filed like it.
    pub(crate) fn caused_by(cause: Self, parts: &[&[u8]]) -> Self {
        let key = cause.key.to_be_bytes();
        let all: Vec<&[u8]> = [&b"published"[..], &key].into_iter().chain(parts.iter().copied()).collect();
        Self { key: hash(&all), ..cause }
    }

    /// The value of [`IDENTITY_HEADER`] on a copy.
    pub(crate) fn to_header(self) -> String {
        let edge = if self.time_may_differ { "~" } else { "" };
        format!("{:032x}@{edge}{}", self.key, self.time)
    }

    fn from_header(value: &str) -> Option<Self> {
        let (key, time) = value.split_once('@')?;
        let time_may_differ = time.starts_with('~');
        Some(Self {
            key: u128::from_str_radix(key, 16).ok().filter(|_| key.len() == 32)?,
            time: time.trim_start_matches('~').parse().ok()?,
            time_may_differ,
        })
    }
}

/// 128 bits of BLAKE3 over the parts and their lengths: a producer cannot make
/// two events collide on purpose.
fn hash(parts: &[&[u8]]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    u128::from_be_bytes(key)
}

/// `8-4-4-4-12` hexadecimal digits.
fn parse_uuid(text: &[u8]) -> Option<u128> {
    let dashes = [8, 13, 18, 23];
    if text.len() != 36 || dashes.iter().any(|&at| text[at] != b'-') {
        return None;
    }
    text.iter()
        .enumerate()
        .filter(|(at, _)| !dashes.contains(at))
        .try_fold(0, |uuid: u128, (_, &digit)| Some(uuid << 4 | u128::from(char::from(digit).to_digit(16)?)))
}

/// The milliseconds inside a UUID of version 7 (RFC 9562).
fn uuid_time(uuid: u128) -> Option<i64> {
    let (version, variant) = (uuid >> 76 & 0xf, uuid >> 62 & 0b11);
    (version == 7 && variant == 0b10).then(|| i64::try_from(uuid >> 80).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TopicPartition;
    use crate::record::{Message, OwnedMessage};
    use crate::run::Source;

    const NOON: i64 = 1_700_049_600_000; // 2023-11-15T12:00:00Z
    const LATE: i64 = NOON + 12 * 3_600_000 - 60_000; // 23:59

    fn identity(source: &IdentitySource, headers: &[(&str, &str)], offset: i64, timestamp: i64) -> Identity {
        identity_with(None, source, headers, offset, timestamp)
    }

    fn identity_with(
        payload: Option<&str>,
        source: &IdentitySource,
        headers: &[(&str, &str)],
        offset: i64,
        timestamp: i64,
    ) -> Identity {
        let message = Message::Owned(Box::new(OwnedMessage {
            offset,
            timestamp: Some(timestamp),
            payload: payload.map(Into::into),
            headers: headers
                .iter()
                .map(|(n, v)| (n.as_bytes().to_vec(), Some(v.as_bytes().to_vec())))
                .collect(),
            ..Default::default()
        }));
        source.of(Record::new(&message, &Source::new(TopicPartition::new("t", 3), "g".into()), 1))
    }

    #[test]
    fn two_copies_of_one_event_have_one_identity_wherever_they_stand() {
        let headers = [("ce_source", "/a"), ("ce_id", "1")];
        let ce = IdentitySource::CloudEvents;
        assert_eq!(identity(&ce, &headers, 1, NOON).key, identity(&ce, &headers, 9, NOON + 5).key);
        assert_ne!(
            identity(&ce, &headers, 1, NOON).key,
            identity(&ce, &[("ce_source", "/a"), ("ce_id", "2")], 1, NOON).key
        );
        assert_ne!(
            identity(&ce, &[("ce_source", "/a1"), ("ce_id", "2")], 1, NOON).key,
            identity(&ce, &[("ce_source", "/a"), ("ce_id", "12")], 1, NOON).key,
        );
    }

    #[cfg(feature = "json")]
    #[test]
    fn a_structured_copy_of_an_event_has_the_identity_of_a_binary_one() {
        let ce = IdentitySource::CloudEvents;
        let binary = identity(&ce, &[("ce_source", "/a"), ("ce_id", "1")], 1, NOON);
        let payload = Some(r#"{"id": "1", "source": "/a", "data": {"id": "2"}}"#);
        let headers = [("content-type", "application/cloudevents+json; charset=UTF-8")];
        assert_eq!(identity_with(payload, &ce, &headers, 2, NOON), binary);
        assert_ne!(identity_with(payload, &ce, &[], 2, NOON), binary);
    }

    #[test]
    fn without_both_attributes_the_position_counts() {
        let ce = IdentitySource::CloudEvents;
        let half = [("ce_id", "1")];
        assert_ne!(identity(&ce, &half, 1, NOON).key, identity(&ce, &half, 2, NOON).key);
        assert_ne!(
            identity(&ce, &half, 1, NOON).key,
            identity(&ce, &half, 1, NOON + 1).key,
            "a recreated topic"
        );
        assert_eq!(identity(&ce, &half, 1, NOON), identity(&ce, &half, 1, NOON));
    }

    #[test]
    fn copies_on_both_sides_of_midnight_share_a_day() {
        let ce = IdentitySource::CloudEvents;
        let headers = [("ce_source", "/a"), ("ce_id", "1")];
        let days = |time| identity(&ce, &headers, 1, time).days().collect::<Vec<_>>();
        assert_eq!(days(NOON).len(), 1);
        assert_eq!(days(LATE), days(LATE + 120_000));
        assert_eq!(days(LATE).len(), 2);
    }

    #[test]
    fn a_copy_carries_the_identity_of_its_original() {
        let ce = IdentitySource::CloudEvents;
        let original = identity(&ce, &[("ce_source", "/a"), ("ce_id", "1")], 1, LATE);
        let copy = identity(&ce, &[(IDENTITY_HEADER, &original.to_header())], 77, NOON + 10 * DAY);
        assert_eq!(copy, original);
    }

    #[test]
    fn a_version_7_uuid_brings_its_own_day() {
        let header = IdentitySource::header("id");
        let uuid = format!("{:08x}-{:04x}-7000-8000-000000000001", LATE >> 16, LATE & 0xffff);
        let identity = identity(&header, &[("id", &uuid)], 1, NOON + 30 * DAY);
        assert_eq!(identity.days().collect::<Vec<_>>(), [i32::try_from(LATE / DAY).unwrap()]);
        assert_eq!(identity.key, u128::from_str_radix(&uuid.replace('-', ""), 16).unwrap());
    }

    #[test]
    fn a_clock_that_is_far_off_makes_no_new_day() {
        let ce = IdentitySource::CloudEvents;
        for time in [i64::MAX, i64::MIN, -5, 32_503_680_000_000] {
            assert_eq!(
                identity(&ce, &[("ce_source", "/a"), ("ce_id", "1")], 1, time).days().collect::<Vec<_>>(),
                [0]
            );
        }
    }
}

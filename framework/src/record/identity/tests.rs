//! What identity a record has, whatever its producer wrote.

use super::*;
use crate::TopicPartition;
use crate::kafka::message::{Message, OwnedMessage};
use crate::record::source::Source;

const NOON: i64 = 1_700_049_600_000; // 2023-11-15T12:00:00Z
const LATE: i64 = NOON + 12 * 3_600_000 - 60_000; // 23:59

/// Headers by name.
type Headers<'a> = &'a [(&'a str, &'a str)];

fn message(key: Option<&[u8]>, payload: Option<&[u8]>, headers: Headers<'_>, offset: i64) -> OwnedMessage {
    OwnedMessage {
        offset,
        timestamp: Some(NOON),
        key: key.map(Into::into),
        payload: payload.map(Into::into),
        headers: headers.iter().map(|(n, v)| (n.as_bytes().to_vec(), Some(v.as_bytes().to_vec()))).collect(),
        ..Default::default()
    }
}

fn with_record<T>(message: OwnedMessage, look: impl FnOnce(Record<'_>) -> T) -> T {
    let message = Message::Owned(Box::new(message));
    look(Record::new(&message, &Source::new(TopicPartition::new("t", 3), "g".into()), 1))
}

fn find(source: &IdentitySource, message: OwnedMessage) -> Found {
    with_record(message, |record| source.find(record))
}

fn identity(source: &IdentitySource, headers: Headers<'_>, offset: i64, timestamp: i64) -> Identity {
    identity_with(None, source, headers, offset, timestamp)
}

fn identity_with(
    payload: Option<&str>,
    source: &IdentitySource,
    headers: Headers<'_>,
    offset: i64,
    timestamp: i64,
) -> Identity {
    let message = message(None, payload.map(str::as_bytes), headers, offset);
    find(source, OwnedMessage { timestamp: Some(timestamp), ..message }).identity
}

const CONTENT: Content<'_> = Content { key: Some(b"key"), payload: Some(b"payload") };

fn of_content(content: Content<'_>, headers: Headers<'_>, offset: i64) -> OwnedMessage {
    message(content.key, content.payload, headers, offset)
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
    assert_ne!(identity(&ce, &half, 1, NOON).key, identity(&ce, &half, 1, NOON + 1).key, "a recreated topic");
    assert_eq!(identity(&ce, &half, 1, NOON), identity(&ce, &half, 1, NOON));
}

#[test]
fn a_declared_uuid_is_the_identity_as_it_is_and_no_timestamp_counts() {
    let header = IdentitySource::header("id");
    for version in ["4", "7"] {
        let uuid = format!("{:08x}-{:04x}-{version}000-8000-000000000001", LATE >> 16, LATE & 0xffff);
        let key = u128::from_str_radix(&uuid.replace('-', ""), 16).unwrap();
        for time in [NOON, LATE, i64::MIN, i64::MAX] {
            assert_eq!(identity(&header, &[("id", &uuid)], 1, time), Identity { key, origin: None });
        }
    }
}

#[test]
fn in_each_topic_the_same_declared_identity_is_another_event() {
    let in_topic = |source: &IdentitySource, topic: &str, headers: Headers<'_>, offset| {
        let message = Message::Owned(Box::new(of_content(CONTENT, headers, offset)));
        source.of(Record::new(&message, &Source::new(TopicPartition::new(topic, 3), "g".into()), 1))
    };
    let uuid = "01234567-0123-7123-8123-0123456789ab";
    for (source, headers) in [
        (IdentitySource::CloudEvents, &[("ce_source", "/a"), ("ce_id", "1")][..]),
        (IdentitySource::header("id"), &[("id", uuid)]),
        (IdentitySource::header("id"), &[("id", "1")]),
        (IdentitySource::function(|_| Some("1".into())), &[]),
    ] {
        let each = source.clone().in_each_topic();
        assert_eq!(in_topic(&source, "orders", headers, 1), in_topic(&source, "payments", headers, 2));
        assert_ne!(
            in_topic(&each, "orders", headers, 1),
            in_topic(&each, "payments", headers, 1),
            "{each:?}"
        );
        assert_eq!(in_topic(&each, "orders", headers, 1), in_topic(&each, "orders", headers, 2), "{each:?}");
        // What was sent back from the dead-letter topic, its declaration dropped.
        let original = in_topic(&each, "orders", headers, 1);
        let carried = original.to_header(CONTENT);
        assert_eq!(in_topic(&each, "orders", &[(IDENTITY_HEADER, &carried)], 9).key, original.key);
    }
}

#[test]
fn a_copy_of_the_same_bytes_has_the_identity_of_its_original_wherever_it_stands() {
    let ce = IdentitySource::CloudEvents;
    let contents = [
        CONTENT,
        Content { key: None, payload: None },
        Content { key: Some(b""), payload: None },
        Content { key: None, payload: Some(b"") },
        Content { key: Some(b"\xff\0"), payload: Some(&[0; 100_000]) },
    ];
    // The declaration is dropped from the copy.
    for declared in [&[][..], &[("ce_source", "/a"), ("ce_id", "1")]] {
        for content in contents {
            for timestamp in [NOON, LATE, 0, i64::MAX, i64::MIN] {
                let timed = |message| OwnedMessage { timestamp: Some(timestamp), ..message };
                let original = find(&ce, timed(of_content(content, declared, 1))).identity;
                let header = original.to_header(content);
                let copy = find(&ce, of_content(content, &[(IDENTITY_HEADER, &header)], 77));
                assert_eq!(copy, Found { identity: original, is_nil: false, is_foreign: false }, "{header}");
                assert_eq!(copy.identity.to_header(content), header, "it dies again");
            }
        }
    }
}

/// A service between that hands on all headers.
#[test]
fn other_records_with_the_header_of_one_keep_their_own_identities() {
    let ce = IdentitySource::CloudEvents;
    let original = find(&ce, of_content(CONTENT, &[], 1)).identity;
    let headers = [(IDENTITY_HEADER, &*original.to_header(CONTENT))];
    let others = [
        Content { payload: Some(b"payloae"), ..CONTENT },
        Content { payload: None, ..CONTENT },
        Content { key: None, ..CONTENT },
        Content { key: Some(b"keyp"), payload: Some(b"ayload") },
    ];
    for content in others {
        for offset in [5, 6] {
            let found = find(&ce, of_content(content, &headers, offset));
            assert!(found.is_foreign);
            assert_eq!(found.identity, find(&ce, of_content(content, &[], offset)).identity);
        }
    }
}

#[test]
fn what_a_record_declares_counts_before_what_it_carries() {
    let ce = IdentitySource::CloudEvents;
    let carried = find(&ce, of_content(CONTENT, &[], 1)).identity.to_header(CONTENT);
    let copy = |id| {
        find(&ce, of_content(CONTENT, &[(IDENTITY_HEADER, &carried), ("ce_source", "/a"), ("ce_id", id)], 2))
    };
    assert_ne!(copy("1").identity, copy("2").identity);
    assert_eq!(
        copy("1").identity,
        find(&ce, of_content(CONTENT, &[("ce_source", "/a"), ("ce_id", "1")], 2)).identity
    );
}

/// The header's parts are no secret: whoever knows them of a record can bind them to other bytes.
#[test]
fn no_header_gives_a_record_the_identity_of_one_with_other_bytes() {
    for source in [IdentitySource::CloudEvents, IdentitySource::header("id"), IdentitySource::Position] {
        let victim = find(&source, of_content(CONTENT, &[], 1)).identity;
        let forged = Content { payload: Some(b"forgery"), ..CONTENT };
        let bound = Identity::bound(victim.origin.unwrap(), forged);
        let declared = Identity { origin: None, ..victim };
        let uuid = |digits: String| {
            let (a, b, c, d, e) =
                (&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]);
            [a, b, c, d, e].join("-")
        };
        let headers = [
            (IDENTITY_HEADER, bound.to_header(forged)),
            (IDENTITY_HEADER, declared.to_header(forged)),
            (IDENTITY_HEADER, victim.to_header(forged)),
            (IDENTITY_HEADER, format!("{:032x}", victim.key)),
            ("id", uuid(format!("{:032x}", victim.key))),
            ("id", format!("{:032x}", victim.key)),
        ];
        for (name, value) in headers {
            let found = find(&source, of_content(forged, &[(name, &value)], 2)).identity;
            assert_ne!(found.key, victim.key, "{source:?}: {name}: {value}");
        }
    }
}

/// One line for each thing that a producer may do to a header of ours.
#[test]
fn a_carried_identity_that_nobody_of_us_wrote_is_ignored_and_noted() {
    let ce = IdentitySource::CloudEvents;
    let own = find(&ce, of_content(CONTENT, &[], 1)).identity;
    let (good, hash) = (own.to_header(CONTENT), "0123456789abcdef0123456789abcdef");
    let texts = [
        String::new(),
        "@".to_owned(),
        "@#".to_owned(),
        "+@#".to_owned(),
        "\0".to_owned(),
        hash.to_owned(),
        format!("{hash}@0"),
        format!("{hash}#{hash}"),
        format!("{hash}@0#{hash}"),
        format!("{hash}+1#{hash}"),
        format!("{hash}+1@~9223372036854775807#{hash}"),
        format!("{hash}+1@-9223372036854775808#{hash}"),
        format!("{hash}+99999999999999999999@1#{hash}"),
        format!("{hash}+1@99999999999999999999#{hash}"),
        good.to_uppercase(),
        good.replace('@', "@~"),
        good.replace('@', "@+"),
        good.replace('+', "+0"),
        format!("+{}", &good[1..]),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{good}#"),
        good[..good.len() - 1].to_owned(),
        "0".repeat(1_000_000),
    ];
    let forged = texts.into_iter().map(String::into_bytes).chain([b"\xff\xfe".to_vec()]);
    for header in forged {
        let mut message = of_content(CONTENT, &[], 7);
        message.headers.push((IDENTITY_HEADER.into(), Some(header.clone())));
        let found = find(&ce, message);
        assert!(found.is_foreign, "{}", String::from_utf8_lossy(&header));
        assert_eq!(found.identity, find(&ce, of_content(CONTENT, &[], 7)).identity);
    }
    let mut null = of_content(CONTENT, &[], 7);
    null.headers.push((IDENTITY_HEADER.into(), None));
    assert!(!find(&ce, null).is_foreign);
    // The last of two counts.
    let twice =
        |first, last| find(&ce, of_content(CONTENT, &[(IDENTITY_HEADER, first), (IDENTITY_HEADER, last)], 7));
    assert_eq!(twice("forged", &*good).identity, own);
    assert!(twice(&*good, "forged").is_foreign);
    assert_eq!(
        find(&ce, of_content(CONTENT, &[("Onceward.Identity", &*good)], 7)).identity.origin.unwrap().number,
        7
    );
}

/// Each stands for an id that nobody set.
#[test]
fn what_is_empty_or_blank_or_the_nil_uuid_declares_nothing() {
    const NIL: &str = "00000000-0000-0000-0000-000000000000";
    let nil = [
        NIL.to_owned(),
        NIL.replace('-', ""),
        format!("{{{NIL}}}"),
        format!("({NIL})"),
        format!("urn:uuid:{NIL}"),
        format!("URN:UUID:{NIL}"),
        "\0".repeat(16),
    ];
    let blank = ["".to_owned(), " ".to_owned(), "\t \r\n".to_owned()];
    let unset = blank.iter().map(|id| (id, false)).chain(nil.iter().map(|id| (id, true)));
    for (id, is_nil) in unset {
        let given = id.clone();
        let function = IdentitySource::function(move |_| Some(given.clone()));
        let cases = [
            (IdentitySource::header("id"), vec![("id", &**id)]),
            (function, vec![]),
            (IdentitySource::CloudEvents, vec![("ce_source", "/a"), ("ce_id", id)]),
        ];
        for (source, headers) in cases {
            let [one, other] = [1, 2].map(|offset| find(&source, of_content(CONTENT, &headers, offset)));
            assert_eq!((one.is_nil, one.is_foreign), (is_nil, false), "{source:?}: {id:?}");
            assert_ne!(one.identity, other.identity, "{source:?}: {id:?}");
            assert_eq!(one.identity, find(&IdentitySource::Position, of_content(CONTENT, &[], 1)).identity);
            // A redriven copy of it.
            let mut headers = headers.clone();
            let carried = one.identity.to_header(CONTENT);
            headers.push((IDENTITY_HEADER, &carried));
            assert_eq!(find(&source, of_content(CONTENT, &headers, 9)).identity, one.identity);
        }
    }
    for blank in &blank {
        let headers = [("ce_source", &**blank), ("ce_id", "1")];
        let [one, other] =
            [1, 2].map(|offset| find(&IdentitySource::CloudEvents, of_content(CONTENT, &headers, offset)));
        assert_ne!(one.identity, other.identity, "a source of {blank:?}");
    }
    // An id is what its producer says, as long as it says something.
    for id in ["0", "-", "null", "{}", "()", " a", "urn:uuid:", "00000000-0000-0000-0000-000000000001", "\0"]
    {
        let [one, other] = [1, 2]
            .map(|offset| find(&IdentitySource::header("id"), of_content(CONTENT, &[("id", id)], offset)));
        assert_eq!(one.identity, other.identity, "{id:?}");
    }
}

/// Whatever else they contain, two records are two events, and finding that out panics nowhere.
#[test]
fn any_bytes_in_a_record_leave_it_an_identity_of_its_own() {
    let big = vec![b'x'; 1_000_000];
    let values: [Option<&[u8]>; 9] = [
        None,
        Some(b""),
        Some(b"\xff\xfe"),
        Some(b"\0"),
        Some(b"4294967295"),
        Some(b"-1"),
        Some(b"99999999999999999999999999999999999999999999"),
        Some(b"{\"id\": {}, \"source\": [[[["),
        Some(&big),
    ];
    let names: [&[u8]; 16] = [
        b"onceward.identity",
        b"onceward.redriven",
        b"onceward.hops",
        b"onceward.dlq.topic",
        b"onceward.dlq.offset",
        b"onceward.dlq.timestamp",
        b"ce_source",
        b"ce_type",
        b"ce_time",
        b"ce_correlationid",
        b"content-type",
        b"traceparent",
        b"tracestate",
        b"\xff",
        b"",
        b"onceward.",
    ];
    for source in
        [IdentitySource::CloudEvents, IdentitySource::header("onceward.dlq"), IdentitySource::Position]
    {
        for name in names {
            for value in values {
                let timestamp = [None, Some(i64::MIN), Some(-1), Some(0), Some(i64::MAX)];
                let keys: std::collections::HashSet<u128> = (0..5)
                    .map(|offset| {
                        let content = values[(offset + 3) % values.len()];
                        let mut message = message(content, value, &[], offset as i64);
                        message.timestamp = timestamp[offset];
                        message.headers = vec![(name.to_vec(), value.map(Into::into)); 2];
                        let identity = find(&source, message).identity;
                        identity.key
                    })
                    .collect();
                assert_eq!(keys.len(), 5, "{}", String::from_utf8_lossy(name));
            }
        }
    }
}

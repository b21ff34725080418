//! W3C trace context in a record's headers.

use crate::{Headers, Record};

/// The header with the producer's span, and the one with what its tracer adds; then the
/// same two as attributes of a CloudEvent, which count where the first is missing.
const NAMES: [(&str, &str); 2] = [("traceparent", "tracestate"), ("ce_traceparent", "ce_tracestate")];

const BAGGAGE: &str = "baggage";

/// As much as everybody hands on, says W3C.
const MOST_STATE: usize = 512;
const MOST_BAGGAGE: usize = 8192;

/// The trace context that a producer put into a record's headers.
#[derive(Clone, Copy)]
pub(crate) struct TraceContext<'a> {
    /// `version-trace_id-span_id-flags`, as it came.
    parent: &'a str,
    /// The header beside it.
    state: &'static str,
    headers: Headers<'a>,
}

impl<'a> TraceContext<'a> {
    /// The context of a record; `None` where it has none, or one that is malformed.
    pub(crate) fn of(record: Record<'a>) -> Option<Self> {
        let headers = record.headers();
        let found = |(parent, state)| Some((headers.get(parent)?, state));
        let (parent, state) = NAMES.into_iter().find_map(found)?;
        let parent = std::str::from_utf8(parent).ok().filter(|parent| is_well_formed(parent))?;
        Some(Self { parent, state, headers })
    }

    /// The headers that carry the context on, of the version that is known here.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        let (parent, state) = NAMES[0];
        // What a later version has behind that is not ours to hand on.
        let known = format!("00-{}", &self.parent[3..55]);
        let mut headers = vec![(parent, known)];
        headers.extend(self.state().map(|text| (state, text)));
        headers.extend(self.baggage().map(|text| (BAGGAGE, text)));
        headers
    }

    /// What tracers add; of several headers, all.
    pub(super) fn state(&self) -> Option<String> {
        self.joined(self.state, MOST_STATE)
    }

    /// What the application adds.
    pub(super) fn baggage(&self) -> Option<String> {
        self.joined(BAGGAGE, MOST_BAGGAGE)
    }

    /// The members of all headers of this name, as far as they have room: those in front are the newest.
    fn joined(&self, name: &str, most: usize) -> Option<String> {
        let values = self.headers.iter().filter(|header| header.name_bytes() == name.as_bytes());
        let texts = values.filter_map(|header| std::str::from_utf8(header.value()?).ok());
        let mut joined = String::new();
        for member in texts.flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty()) {
            if joined.len() + 1 + member.len() > most {
                break;
            }
            joined += if joined.is_empty() { "" } else { "," };
            joined += member;
        }
        Some(joined).filter(|joined| !joined.is_empty())
    }
}

#[cfg(feature = "otel")]
impl<'a> TraceContext<'a> {
    /// Whether the producer's span is recorded.
    pub(super) fn is_sampled(&self) -> bool {
        self.flags() & 1 == 1
    }

    pub(super) fn trace_id(&self) -> &'a str {
        &self.parent[3..35]
    }

    pub(super) fn span_id(&self) -> &'a str {
        &self.parent[36..52]
    }

    pub(super) fn flags(&self) -> u8 {
        u8::from_str_radix(&self.parent[53..55], 16).expect("well-formed flags are hexadecimal")
    }
}

/// Whether it is `00-{32}-{16}-{2}` in lower-case hexadecimal digits, neither id zero. A
/// later version may have more behind that.
fn is_well_formed(parent: &str) -> bool {
    let mut parts = parent.splitn(5, '-');
    let mut digits = |count| parts.next().filter(|part| part.len() == count && part.bytes().all(is_digit));
    let (Some(version), Some(trace_id), Some(span_id), Some(_)) =
        (digits(2), digits(32), digits(16), digits(2))
    else {
        return false;
    };
    let is_zero = |id: &str| id.bytes().all(|digit| digit == b'0');
    let ends = parts.next().is_none();
    !is_zero(trace_id) && !is_zero(span_id) && version != "ff" && (ends || version != "00")
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TopicPartition;
    use crate::kafka::message::{Message, OwnedMessage};
    use crate::record::source::Source;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-00";

    fn headers(of: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let message = Message::Owned(Box::new(OwnedMessage {
            headers: of.iter().map(|(name, value)| ((*name).into(), Some((*value).into()))).collect(),
            ..Default::default()
        }));
        let source = Source::new(TopicPartition::new("t", 0), "g".into());
        TraceContext::of(Record::new(&message, &source, 1)).map(|found| found.headers()).unwrap_or_default()
    }

    fn parent(text: &str) -> Vec<(&'static str, String)> {
        vec![("traceparent", text.to_owned())]
    }

    #[test]
    fn the_last_value_of_a_header_counts() {
        assert_eq!(headers(&[("traceparent", OTHER), ("traceparent", PARENT)]), parent(PARENT));
        assert!(headers(&[("Traceparent", PARENT)]).is_empty());
        let both = headers(&[("tracestate", "a=1"), ("traceparent", PARENT), ("tracestate", "b=2")]);
        assert_eq!(both[1], ("tracestate", "a=1,b=2".to_owned()), "of several, all");
    }

    #[test]
    fn what_is_too_long_or_of_a_later_version_is_cut_to_what_is_known() {
        let later = format!("{}-{}", PARENT.replacen("00", "01", 1), "x".repeat(100_000));
        assert_eq!(headers(&[("traceparent", &later)]), parent(PARENT));
        let long = |name: &str| (0..20_000).map(|n| format!("{name}{n}=1")).collect::<Vec<_>>().join(", ");
        let (state, baggage) = (long("a"), long("b"));
        let cut = headers(&[("traceparent", PARENT), ("tracestate", &state), ("baggage", &baggage)]);
        for ((name, value), (expected, most)) in cut[1..].iter().zip([("tracestate", 512), ("baggage", 8192)])
        {
            assert_eq!(*name, expected);
            assert!(value.len() <= most && value.len() > most - 10 && value.ends_with("=1"), "{name}");
        }
        assert_eq!(
            headers(&[("traceparent", PARENT), ("baggage", "user=7")])[1],
            ("baggage", "user=7".into())
        );
    }

    #[test]
    fn the_attribute_of_a_cloud_event_counts_only_where_the_header_is_missing() {
        assert_eq!(headers(&[("ce_traceparent", OTHER), ("traceparent", PARENT)]), parent(PARENT));
        assert!(headers(&[("ce_traceparent", OTHER), ("traceparent", "?")]).is_empty());
        let attributes = [("tracestate", "no=1"), ("ce_traceparent", OTHER), ("ce_tracestate", "a=1")];
        assert_eq!(
            headers(&attributes),
            [("traceparent", OTHER.to_owned()), ("tracestate", "a=1".to_owned())]
        );
    }

    #[test]
    fn what_is_malformed_is_no_context() {
        let malformed = [
            "",
            "00",
            &PARENT.to_uppercase(),
            &PARENT[..54],
            &format!("{PARENT}-00"),
            &format!("{PARENT}0"),
            &PARENT.replace("00-", "ff-"),
            &PARENT.replace('-', "_"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-011",
        ];
        for text in malformed {
            assert!(headers(&[("traceparent", text)]).is_empty(), "{text}");
        }
        let later = PARENT.replace("00-", "01-") + "-more";
        assert_eq!(headers(&[("traceparent", &later)]), parent(PARENT));
    }
}

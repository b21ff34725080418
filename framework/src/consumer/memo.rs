//! The metadata beside a committed offset: where it belongs, notes of starts, and the ranges
//! finished ahead of it.

use crate::kafka::admin::Topic;
use crate::record::notes::Note;
use crate::worker::ahead::Ahead;
use std::fmt::Write as _;
use std::sync::Arc;

/// The metadata beside a committed offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Memo {
    pub(crate) note: Note,
    pub(crate) ahead: Ahead,
}

/// The partition of a group for which a memo holds, and for no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Of the cluster, the group, the topic's name and the partition.
    hash: u64,
    pub(crate) topic: Topic,
    /// How many partitions the topic had when the group began with this one. Those that
    /// come later are new to it.
    pub(crate) first_count: Option<i32>,
}

/// The metadata that was found beside a committed offset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or what somebody else wrote, or what was written for another partition.
    Foreign,
    /// What Onceward wrote here, beside another offset: the group's offset was moved since.
    Moved {
        from: i64,
    },
    /// It was written when another topic had this name.
    MadeAnew {
        before: Arc<str>,
    },
    /// It was written for the topic with this id. Which one it is now is not known.
    Unverified {
        topic: Option<Arc<str>>,
    },
    Here(Memo),
}

/// A text that Onceward wrote.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    at: i64,
    place: u64,
    topic: Option<Arc<str>>,
    first_count: Option<i32>,
    memo: Memo,
}

/// The text begins with name and version. What another program or version wrote says nothing.
const FORMAT: &str = "onceward/2";

/// Brokers take 4,096 bytes by default (`offset.metadata.max.bytes`).
pub(crate) const MOST_BYTES: usize = 3000;

impl Place {
    pub(crate) fn new(cluster: Option<&str>, group: &str, topic: &str, partition: i32) -> Self {
        let mut hash = Fnv::default();
        hash.add(cluster.unwrap_or_default().as_bytes());
        hash.add(group.as_bytes());
        hash.add(topic.as_bytes());
        hash.add(&partition.to_be_bytes());
        Self { hash: hash.0, topic: Topic::Unknown, first_count: None }
    }

    /// The text to write beside `offset`, of at most so many bytes. If it does not fit, the
    /// highest ranges are left out, then the note, then all.
    pub(crate) fn text(&self, offset: i64, memo: &Memo, most_bytes: usize) -> String {
        let mut text = format!("{FORMAT} at={offset}");
        if let Topic::Id(id) = &self.topic {
            append(&mut text, format_args!(" topic={id}"));
        }
        if let Some(count) = self.first_count {
            append(&mut text, format_args!(" of={count}"));
        }
        // Of a fixed length: where it is whole, all that stands before it is.
        append(&mut text, format_args!(" for={:016x}", self.hash));
        if text.len() > most_bytes {
            return String::new();
        }
        if memo.note != Note::default() {
            let (Note { starts, trials, by, left }, place) = (memo.note, text.len());
            match left {
                true => append(&mut text, format_args!(" left=1")),
                false => append(&mut text, format_args!(" starts={starts} trials={trials} by={by:x}")),
            }
            if text.len() > most_bytes {
                text.truncate(place);
                return text;
            }
        }
        memo.ahead.write(offset, &mut text, most_bytes);
        text
    }

    /// Whether a note fits.
    pub(crate) fn has_room_for(&self, offset: i64, note: Note, most_bytes: usize) -> bool {
        let memo = Memo { note, ahead: Ahead::default() };
        Written::parse(&self.text(offset, &memo, most_bytes)).is_some_and(|written| written.memo == memo)
    }
}

/// Appends to a text.
fn append(text: &mut String, what: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(what);
    debug_assert!(written.is_ok());
}

/// FNV-1a of 64 bits: the same in all programs and versions. Each part ends with its length.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, part: &[u8]) {
        for byte in part.iter().chain(&(part.len() as u64).to_be_bytes()) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Written {
    /// Reads what stands beside an offset. `None` where Onceward did not write it.
    pub(crate) fn parse(metadata: &str) -> Option<Self> {
        let mut words = metadata.split_ascii_whitespace();
        if words.next() != Some(FORMAT) {
            return None;
        }
        let (mut at, mut place, mut topic, mut first_count, mut ranges) = (None, None, None, None, None);
        let mut note = Note::default();
        for word in words {
            match word.split_once('=') {
                Some(("at", offset)) => at = offset.parse().ok().filter(|offset: &i64| *offset >= 0),
                Some(("for", hash)) if hash.len() == 16 => place = u64::from_str_radix(hash, 16).ok(),
                Some(("topic", id)) => topic = Some(Arc::from(id)),
                Some(("of", count)) => first_count = count.parse().ok(),
                Some(("starts", number)) => note.starts = number.parse().unwrap_or(0),
                Some(("trials", number)) => note.trials = number.parse().unwrap_or(0),
                Some(("by", id)) => note.by = u32::from_str_radix(id, 16).unwrap_or(0),
                Some(("left", "1")) => note.left = true,
                Some(("ahead", pairs)) => ranges = Some(pairs),
                // Of a later version.
                _ => {}
            }
        }
        let (at, place) = (at?, place?);
        let ahead = ranges.and_then(|ranges| Ahead::parse(ranges, at)).unwrap_or_default();
        Some(Self { at, place, topic, first_count, memo: Memo { note, ahead } })
    }

    /// Whether it was written for a topic of this id, or of none.
    pub(crate) fn is_of(&self, topic: &Topic) -> bool {
        match (topic, &self.topic) {
            (Topic::Id(is), Some(was)) => is == was,
            (Topic::Id(_), None) | (_, Some(_)) => false,
            (_, None) => true,
        }
    }

    /// How many partitions the topic had when the group began with this one.
    pub(crate) fn first_count(&self) -> Option<i32> {
        self.first_count
    }

    /// What it says for this partition.
    pub(crate) fn is_for(&self, place: &Place) -> bool {
        self.place == place.hash
    }

    /// What is noted, for whom it was written.
    pub(crate) fn into_memo(self) -> Memo {
        self.memo
    }

    /// What it says to who finds it beside `offset`, in this place.
    fn found(self, offset: i64, place: &Place) -> Found {
        if !self.is_for(place) {
            return Found::Foreign;
        }
        if self.at != offset {
            return Found::Moved { from: self.at };
        }
        match (&place.topic, self.topic) {
            (Topic::Unknown, was) => Found::Unverified { topic: was },
            (Topic::Id(is), Some(was)) if *is != was => Found::MadeAnew { before: was },
            (Topic::Id(_), Some(_)) | (Topic::WithoutId, None) => Found::Here(self.memo),
            // Of which topic it was is not known; or of another broker.
            (Topic::Id(_), None) | (Topic::WithoutId, Some(_)) => Found::Foreign,
        }
    }
}

impl Found {
    /// Judges what was read beside `offset`, in this place.
    pub(crate) fn beside(offset: i64, written: Option<Written>, place: &Place) -> Self {
        written.map_or(Self::Foreign, |written| written.found(offset, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: Note = Note { starts: 2, trials: 1, by: 0xbeef, left: false };
    const LEFT: Note = Note { starts: 0, trials: 0, by: 0, left: true };

    fn id(id: &str) -> Topic {
        Topic::Id(id.into())
    }

    fn place(topic: Topic) -> Place {
        Place { topic, first_count: Some(12), ..Place::new(Some("cluster"), "group", "topic", 3) }
    }

    fn memo() -> Memo {
        Memo { note: NOTE, ahead: Ahead(vec![11..12, 14..1000, 1_000_000..1_000_001]) }
    }

    /// What is found beside offset 10 of topic `a`.
    fn found(metadata: &str) -> Found {
        Found::beside(10, Written::parse(metadata), &place(id("a")))
    }

    #[test]
    fn a_memo_is_found_again_where_it_was_written() {
        let memo = memo();
        for topic in [id("a"), Topic::WithoutId] {
            let place = place(topic);
            for memo in [
                memo.clone(),
                Memo { note: NOTE, ..Memo::default() },
                Memo { note: LEFT, ..memo.clone() },
                Memo { note: LEFT, ..Memo::default() },
                Memo { ahead: memo.ahead.clone(), ..Memo::default() },
                Memo::default(),
            ] {
                let written = Written::parse(&place.text(10, &memo, MOST_BYTES)).unwrap();
                assert!(written.is_of(&place.topic) && written.first_count() == Some(12));
                assert_eq!(written.found(10, &place), Found::Here(memo));
            }
        }
    }

    // --- what another tool can put there ---

    #[test]
    fn what_others_write_says_nothing() {
        let ours = place(id("a")).text(10, &memo(), MOST_BYTES);
        let (_, without_name) = ours.split_once(' ').unwrap();
        for metadata in [
            "",
            "NO_METADATA",
            "\u{0}",
            "\u{fffd}\u{fffd}",
            "äöü 上海",
            r#"{"version":1,"offset":10}"#,
            "AQAAAYvx",
            "onceward",
            "onceward/2",
            "onceward/2 at=10",
            "onceward/2 for=0",
            "onceward/2 starts=5 ahead=1.1",
            "onceward/1 starts=5 trials=4 by=1 ahead=1.1",
            "onceward/3 at=10",
            without_name,
            &format!("x{ours}"),
            &ours.replace("at=10", "at=-10"),
            &ours.replace("at=10", "at=99999999999999999999"),
            &ours.replace("for=", "for=x"),
            &ours.replace("for=", "for=0"),
            &"x".repeat(30_000),
        ] {
            assert_eq!(found(metadata), Found::Foreign, "{metadata:.60}");
        }
    }

    #[test]
    fn what_was_written_beside_another_offset_says_only_that_the_offset_was_moved() {
        for at in [0, 4, 9, 11, i64::MAX] {
            let text = place(id("a")).text(at, &Memo { note: NOTE, ..Memo::default() }, MOST_BYTES);
            assert_eq!(found(&text), Found::Moved { from: at });
        }
    }

    #[test]
    fn what_was_written_for_another_partition_topic_group_or_cluster_says_nothing() {
        for (cluster, group, topic, partition) in [
            (Some("other"), "group", "topic", 3),
            (None, "group", "topic", 3),
            (Some("cluster"), "other", "topic", 3),
            (Some("cluster"), "group", "source.topic", 3),
            (Some("cluster"), "group", "topic", 4),
            (Some("cluster"), "grou", "ptopic", 3),
        ] {
            let place = Place { topic: id("a"), ..Place::new(cluster, group, topic, partition) };
            assert_eq!(found(&place.text(10, &memo(), MOST_BYTES)), Found::Foreign);
        }
    }

    #[test]
    fn what_was_written_for_another_topic_of_this_name_tells_that_it_was_made_anew() {
        let text = place(id("b")).text(10, &memo(), MOST_BYTES);
        assert_eq!(found(&text), Found::MadeAnew { before: "b".into() });
        assert!(!Written::parse(&text).unwrap().is_of(&id("a")));
    }

    #[test]
    fn what_cannot_be_compared_is_not_believed() {
        let beside = |was: Topic, is: Topic| {
            let text = place(was).text(10, &memo(), MOST_BYTES);
            Found::beside(10, Written::parse(&text), &place(is))
        };
        assert_eq!(beside(id("b"), Topic::Unknown), Found::Unverified { topic: Some("b".into()) });
        assert_eq!(beside(Topic::WithoutId, Topic::Unknown), Found::Unverified { topic: None });
        assert_eq!(beside(Topic::Unknown, id("a")), Found::Foreign);
        assert_eq!(beside(id("b"), Topic::WithoutId), Found::Foreign);
    }

    #[test]
    fn that_an_owner_has_left_is_known_by_the_whole_word_beside_its_offset_alone() {
        let text = place(id("a")).text(10, &Memo { note: LEFT, ..Memo::default() }, MOST_BYTES);
        let says = |text: &str| matches!(found(text), Found::Here(memo) if memo.note.left);
        assert!(says(&text));
        assert!((0..text.len()).all(|length| !says(&text[..length])));
        assert!(!says(&text.replace("at=10", "at=11")) && !says(&text.replace("left=1", "left=0")));
        assert!(!says(&place(id("b")).text(10, &Memo { note: LEFT, ..Memo::default() }, MOST_BYTES)));
    }

    #[test]
    fn a_text_that_is_cut_off_never_says_more_than_the_whole() {
        let text = place(id("a")).text(10, &memo(), MOST_BYTES);
        for length in 0..text.len() {
            match found(&text[..length]) {
                Found::Here(kept) => {
                    assert!(kept.note.starts <= 2 && kept.note.trials <= 1);
                    let is_known = |offset| memo().ahead.0.iter().any(|range| range.contains(&offset));
                    let mut ends = kept.ahead.0.iter().flat_map(|range| [range.start, range.end - 1]);
                    assert!(ends.all(is_known), "{:?} of {length} bytes", kept.ahead);
                }
                found => assert_eq!(found, Found::Foreign),
            }
        }
    }

    #[test]
    fn ranges_that_are_broken_overflow_or_lie_below_the_offset_are_none() {
        let head = place(id("a")).text(10, &Memo::default(), MOST_BYTES);
        for ranges in [
            "",
            "1",
            "1.0",
            "-1.2",
            "1.-2",
            "x.y",
            "1.1,",
            ",",
            "1.1,-1.5",
            "7fffffffffffffff.1",
            "1.7fffffffffffffff",
            "fffffffffffffffff.1",
            "٣.1",
        ] {
            assert_eq!(found(&format!("{head} ahead={ranges}")), Found::Here(Memo::default()), "{ranges}");
        }
        let note = found(&format!("{head} starts=99999999999 trials=-1 by=xyz done=7"));
        assert_eq!(note, Found::Here(Memo::default()));
    }

    #[test]
    fn ranges_cannot_overlap_however_they_are_written() {
        let head = place(id("a")).text(10, &Memo::default(), MOST_BYTES);
        let Found::Here(memo) = found(&format!("{head} ahead=0.5,0.5,2.a")) else { panic!() };
        assert_eq!(memo.ahead, Ahead(vec![10..15, 15..20, 22..32]));
    }

    // --- how much there is room for ---

    #[test]
    fn if_not_all_fits_the_highest_ranges_are_left_out() {
        for (length, pair) in [(1, ",1.1"), (16, ",10.10")] {
            let range = |n: i64| 10 + 2 * length * n + length..10 + 2 * length * (n + 1);
            let ahead = Ahead((0..10_000).map(range).collect());
            assert_eq!(ahead.len(), 10_000 * length);
            let memo = Memo { ahead: ahead.clone(), ..Memo::default() };
            let text = place(id("a")).text(10, &memo, MOST_BYTES);
            assert!(text.len() <= MOST_BYTES);
            assert!(text.len() + pair.len() > MOST_BYTES, "there is room for more");
            let Found::Here(kept) = found(&text) else { panic!("{text}") };
            assert!(kept.ahead.0.len() > 300 && ahead.0.starts_with(&kept.ahead.0));
        }
    }

    #[test]
    fn if_little_fits_the_note_comes_before_the_ranges_and_the_place_before_the_note() {
        let (place, memo) = (place(id("a")), memo());
        let all = place.text(10, &memo, MOST_BYTES);
        let bare = place.text(10, &Memo::default(), MOST_BYTES);
        for most_bytes in 0..=all.len() {
            let text = place.text(10, &memo, most_bytes);
            assert!(text.len() <= most_bytes);
            match found(&text) {
                Found::Here(kept) => assert!(kept.ahead.is_empty() || kept.note == NOTE, "{text}"),
                other => assert!(text.is_empty() && most_bytes < bare.len(), "{other:?} {text}"),
            }
        }
        assert_eq!(place.text(10, &memo, all.len()), all);
    }
}

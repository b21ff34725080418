//! What is written beside the committed offset: notes of starts, and what is finished
//! ahead of it.

use crate::starts::Note;
use std::ops::Range;

/// The metadata of a committed offset.
///
/// Its text begins with name and version. What another program or version wrote says
/// nothing: then no start was noted, and what is ahead is handled again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Memo {
    pub(crate) note: Note,
    pub(crate) ahead: Ahead,
}

/// Finished offsets beyond the watermark, as ranges in order, so that a crash behind one
/// slow record repeats little.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ahead(pub(crate) Vec<Range<i64>>);

const FORMAT: &str = "onceward/1";

/// Brokers take 4,096 bytes by default (`offset.metadata.max.bytes`). What has no room is
/// the furthest ahead.
const MOST_BYTES: usize = 3000;

impl Memo {
    /// Reads what was written beside `offset`.
    pub(crate) fn parse(metadata: &str, offset: i64) -> Self {
        let mut words = metadata.split_ascii_whitespace();
        let mut memo = Self::default();
        if words.next() != Some(FORMAT) {
            return memo;
        }
        let note = &mut memo.note;
        for word in words {
            match word.split_once('=') {
                Some(("starts", number)) => note.starts = number.parse().unwrap_or(0),
                Some(("trials", number)) => note.trials = number.parse().unwrap_or(0),
                Some(("by", id)) => note.by = u32::from_str_radix(id, 16).unwrap_or(0),
                Some(("ahead", ranges)) => memo.ahead = Ahead::parse(ranges, offset).unwrap_or_default(),
                // Of a later version.
                _ => {}
            }
        }
        memo
    }

    /// The text to write beside `offset`; empty where there is nothing to say.
    pub(crate) fn text(&self, offset: i64) -> String {
        if *self == Self::default() {
            return String::new();
        }
        let mut text = FORMAT.to_owned();
        if self.note != Note::default() {
            let Note { starts, trials, by } = self.note;
            text.push_str(&format!(" starts={starts} trials={trials} by={by:x}"));
        }
        if !self.ahead.is_empty() {
            text.push_str(" ahead=");
            self.ahead.write(offset, &mut text);
        }
        text
    }
}

impl Ahead {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many offsets these are.
    pub(crate) fn len(&self) -> i64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Adds a finished offset that is greater than all before; `joins` where nothing was
    /// delivered unfinished between it and the one before.
    pub(crate) fn add(&mut self, offset: i64, joins: bool) {
        match self.0.last_mut() {
            Some(last) if joins => last.end = offset + 1,
            _ => self.0.push(offset..offset + 1),
        }
    }

    /// Pairs of gap and length, in hexadecimal, from `offset` on: `1.3c,2.8`.
    fn write(&self, offset: i64, text: &mut String) {
        let mut from = offset;
        for range in &self.0 {
            let separator = if text.ends_with('=') { "" } else { "," };
            let pair = format!("{separator}{:x}.{:x}", range.start - from, range.end - range.start);
            if text.len() + pair.len() > MOST_BYTES {
                return;
            }
            text.push_str(&pair);
            from = range.end;
        }
    }

    fn parse(text: &str, offset: i64) -> Option<Self> {
        let mut from = offset;
        let range = |pair: &str| {
            let (gap, length) = pair.split_once('.')?;
            let start = from.checked_add(i64::from_str_radix(gap, 16).ok().filter(|gap| *gap >= 0)?)?;
            let length = i64::from_str_radix(length, 16).ok().filter(|length| *length > 0)?;
            from = start.checked_add(length)?;
            Some(start..from)
        };
        text.split(',').map(range).collect::<Option<Vec<_>>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_survives_the_broker_and_foreign_metadata_says_nothing() {
        let note = Note { starts: 2, trials: 1, by: 0xbeef };
        let ahead = Ahead(vec![11..12, 14..1000, 1_000_000..1_000_001]);
        for memo in [
            Memo { note, ahead: ahead.clone() },
            Memo { note, ..Memo::default() },
            Memo { ahead, ..Memo::default() },
        ] {
            assert_eq!(Memo::parse(&memo.text(10), 10), memo);
        }
        assert_eq!(Memo::default().text(10), "");
        let partly = Memo::parse("onceward/1 starts=1 done=7 trials=x", 0);
        assert_eq!(partly.note, Note { starts: 1, trials: 0, by: 0 });
        for foreign in ["", "NO_METADATA", "onceward/2 starts=5 ahead=1.1", "starts=5", "\u{0}"] {
            assert_eq!(Memo::parse(foreign, 0), Memo::default(), "{foreign}");
        }
        for broken in ["", "1", "1.0", "-1.2", "x.y", "1.1,", "7fffffffffffffff.1"] {
            assert!(Memo::parse(&format!("onceward/1 ahead={broken}"), 1).ahead.is_empty(), "{broken}");
        }
    }

    #[test]
    fn what_has_no_room_is_the_furthest_ahead() {
        let ahead = Ahead((0..10_000).map(|n| 2 * n + 1..2 * n + 2).collect());
        let text = Memo { ahead: ahead.clone(), ..Memo::default() }.text(0);
        assert!(text.len() <= MOST_BYTES);
        assert!(text.len() + ",1.1".len() > MOST_BYTES, "there is room for more");
        let kept = Memo::parse(&text, 0).ahead;
        assert!(kept.len() > 500 && ahead.0.starts_with(&kept.0), "{}", kept.len());
    }

    #[test]
    fn of_long_ranges_too_there_is_no_more_text_than_the_broker_takes() {
        let ahead = Ahead((0..10_000).map(|n| 32 * n + 16..32 * n + 32).collect());
        assert_eq!(ahead.len(), 160_000);
        let text = Memo { ahead, ..Memo::default() }.text(0);
        assert!(text.len() <= MOST_BYTES && text.len() + ",10.10".len() > MOST_BYTES);
    }
}

//! What is finished beyond the watermark of a partition.

use std::fmt::Write as _;
use std::ops::Range;

/// Finished offsets beyond the watermark, as ranges in order, so that a crash behind one
/// slow record repeats little.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ahead(pub(crate) Vec<Range<i64>>);

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

    /// Pairs of gap and length, in hexadecimal, from `offset` on: `1.3c,2.8`. A text that is
    /// cut off says less, and nothing wrong.
    pub(crate) fn write(&self, offset: i64, text: &mut String, most_bytes: usize) {
        let (mut from, mut separator) = (offset, " ahead=");
        for range in &self.0 {
            let place = text.len();
            let (gap, length) = (range.start - from, range.end - range.start);
            let written = write!(text, "{separator}{gap:x}.{length:x}");
            debug_assert!(written.is_ok());
            if text.len() > most_bytes {
                return text.truncate(place);
            }
            (from, separator) = (range.end, ",");
        }
    }

    pub(crate) fn parse(text: &str, offset: i64) -> Option<Self> {
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

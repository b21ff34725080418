//! Finds the record in whose call the connection to PostgreSQL breaks.
//!
//! A connection that breaks is an outage, as a rule. It is the record's fault where its own statement ends the
//! server's process: an extension that crashes, a query that takes all memory. What was under way
//! when a connection broke is tried again in smaller parts, at last alone, so that only that record
//! waits; and one that does it again and again is charged.

use crate::base::sync::lock;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// So many breaks in one record's own calls are not an outage's.
pub(crate) const MOST_BREAKS: u32 = 3;

/// Records of one partition that were under way when a connection broke.
#[derive(Debug, Default)]
pub(crate) struct Breaks {
    /// So that healthy work takes no lock.
    any: AtomicBool,
    suspects: Mutex<HashMap<i64, Suspect>>,
}

#[derive(Debug)]
struct Suspect {
    /// Records of the part that it may be tried in.
    most: usize,
    /// Breaks in its own calls.
    breaks: u32,
}

impl Breaks {
    /// How many of the first records may be tried together.
    pub(crate) fn share(&self, offsets: impl Iterator<Item = i64>) -> usize {
        if !self.any.load(Ordering::Relaxed) {
            return usize::MAX;
        }
        let suspects = lock(&self.suspects);
        let mut most = usize::MAX;
        for (place, offset) in offsets.enumerate() {
            most = most.min(suspects.get(&offset).map_or(usize::MAX, |suspect| suspect.most));
            if place >= most {
                return place;
            }
        }
        usize::MAX
    }

    /// Whether the connection broke before while this record was under way, and it is tried alone now.
    pub(crate) fn is_alone(&self, offset: i64) -> bool {
        self.any.load(Ordering::Relaxed)
            && lock(&self.suspects).get(&offset).is_some_and(|suspect| suspect.most == 1)
    }

    /// Notes that a connection broke in the call of these records. Says whether it is one that did so
    /// too often for an outage.
    pub(crate) fn broke_in_call(&self, offsets: &[i64]) -> bool {
        let mut suspects = self.suspect(offsets);
        let [offset] = offsets else { return false };
        suspects.get_mut(offset).is_some_and(|suspect| {
            suspect.breaks += 1;
            suspect.breaks >= MOST_BREAKS
        })
    }

    /// Notes that a connection broke while these records were under way, if it is not known already
    /// in whose call.
    pub(crate) fn broke_around(&self, offsets: &[i64]) {
        if !offsets.iter().any(|offset| self.is_alone(*offset)) {
            drop(self.suspect(offsets));
        }
    }

    fn suspect(&self, offsets: &[i64]) -> std::sync::MutexGuard<'_, HashMap<i64, Suspect>> {
        let mut suspects = lock(&self.suspects);
        let most = (offsets.len() / 2).max(1);
        for offset in offsets {
            let suspect = suspects.entry(*offset).or_insert(Suspect { most, breaks: 0 });
            suspect.most = suspect.most.min(most);
        }
        self.any.store(!suspects.is_empty(), Ordering::Relaxed);
        suspects
    }

    /// Notes that these records are done.
    pub(crate) fn done(&self, offsets: impl Iterator<Item = i64>) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let mut suspects = lock(&self.suspects);
        for offset in offsets {
            suspects.remove(&offset);
        }
        self.any.store(!suspects.is_empty(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_in_whose_call_it_broke_is_tried_alone_and_charged_when_it_breaks_again_and_again() {
        let breaks = Breaks::default();
        assert_eq!(breaks.share(0..10), usize::MAX);
        assert!(!breaks.broke_in_call(&[4]));
        assert_eq!([breaks.share(0..10), breaks.share(4..10), breaks.share(5..10)], [4, 1, usize::MAX]);
        assert!(breaks.is_alone(4) && !breaks.is_alone(3));
        assert!(!breaks.broke_in_call(&[4]));
        assert!(breaks.broke_in_call(&[4]) && breaks.broke_in_call(&[4]));
        breaks.done(4..5);
        assert_eq!(breaks.share(0..10), usize::MAX);
        assert!(!breaks.is_alone(4) && !breaks.broke_in_call(&[4]), "it is counted anew");
    }

    /// Records of one call, of which it is not known which it was.
    #[test]
    fn one_among_many_is_found_by_halving_and_no_other_is_charged() {
        for culprit in 0..64 {
            let (breaks, mut next, mut tries) = (Breaks::default(), 0, 0);
            let charged = loop {
                let part: Vec<i64> = (next..64).collect();
                let part = &part[..breaks.share(part.iter().copied()).min(part.len())];
                tries += 1;
                if !part.contains(&culprit) {
                    breaks.done(part.iter().copied());
                    next = part.last().unwrap() + 1;
                } else if breaks.broke_in_call(part) {
                    break part.to_vec();
                }
                assert!(tries < 30, "{culprit}");
            };
            assert_eq!(charged, [culprit]);
        }
    }

    #[test]
    fn an_outage_between_calls_makes_parts_smaller_and_charges_nobody() {
        let breaks = Breaks::default();
        for right in [8, 4, 2, 1, 1, 1, 1] {
            let part: Vec<i64> = (0..16).take(breaks.share(0..16)).collect();
            breaks.broke_around(&part);
            assert_eq!(breaks.share(0..16), right);
        }
        assert!(!breaks.broke_in_call(&[0]), "its first");
        breaks.done(0..16);
        assert_eq!(breaks.share(0..16), usize::MAX);
    }
}

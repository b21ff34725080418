//! Events that are produced twice, as by a producer that is restarted.

use crate::Result;
use crate::args::Args;
use crate::produce::Event;
use crate::selection::{draw, seed};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

const SOON: u64 = 50;
const LATE: u64 = 100_000;
const DAY: i64 = 86_400_000;
const MINUTE: u64 = 60_000;

/// Plans a copy for a share of the events and holds it until its turn. The draw depends on the
/// seed and the event alone.
pub(crate) struct Copies {
    /// How many of 1,000,000 events get one.
    share: u64,
    seed: u64,
    /// The last one (UTC), in milliseconds.
    midnight: i64,
    /// How many originals there were.
    originals: u64,
    /// By how many originals go before it, and in the order of these.
    waiting: BTreeMap<(u64, u64), Event>,
}

impl Copies {
    pub(crate) fn from_args(args: &Args) -> Result<Self> {
        let percent = args.percent("--duplicates")?.unwrap_or(0.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Ok(Self::new(percent, seed(args)?, i64::try_from(now).unwrap_or(0)))
    }

    fn new(percent: f64, seed: u64, now: i64) -> Self {
        let share = (percent * 10_000.0) as u64;
        Self { share, seed, midnight: now / DAY * DAY, originals: 0, waiting: BTreeMap::new() }
    }

    /// Takes note of the next original. It may get a timestamp: one in three
    /// copies lies within a minute after midnight and its original within the
    /// minute before, so that a day has only one of them.
    pub(crate) fn plan(&mut self, original: &mut Event) {
        self.originals += 1;
        if self.share == 0 {
            return;
        }
        let draw = |what: &str| draw(self.seed, &format!("{what} {}", original.id));
        if draw("copy") % 1_000_000 >= self.share {
            return;
        }
        let distance = if draw("late").is_multiple_of(2) { SOON } else { LATE };
        let after = 1 + draw("after") % distance;
        let around_midnight = draw("midnight").is_multiple_of(3);
        let milliseconds = |what| 1 + (draw(what) % MINUTE) as i64;
        let (before, behind) = (milliseconds("before"), milliseconds("behind"));

        let mut copy = original.clone();
        if around_midnight {
            original.timestamp = Some(self.midnight - before);
            copy.timestamp = Some(self.midnight + behind);
        }
        self.waiting.insert((self.originals + after, self.originals), copy);
    }

    /// The next copy whose turn it is.
    pub(crate) fn due(&mut self) -> Option<Event> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= self.originals).then(|| first.remove())
    }

    /// After the last original: the copies that still wait.
    pub(crate) fn rest(self) -> impl Iterator<Item = Event> {
        self.waiting.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_700_049_600_000; // 2023-11-15T12:00:00Z

    fn event(number: u64) -> Event {
        Event { id: number.to_string(), key: "k".into(), payload: vec![1], timestamp: None }
    }

    /// Runs `originals` events through: where each copy stands relative to its
    /// original, and both timestamps.
    fn copies_of(originals: u64, percent: f64) -> Vec<(u64, Option<i64>, Option<i64>)> {
        let mut copies = Copies::new(percent, 7, NOON);
        let mut sent = Vec::new();
        let mut found = Vec::new();
        let find = |sent: &[Event], at: u64, copy: Event| {
            let original = copy.id.parse::<usize>().unwrap();
            (at - original as u64, sent[original].timestamp, copy.timestamp)
        };
        for number in 0..originals {
            let mut original = event(number);
            copies.plan(&mut original);
            sent.push(original);
            while let Some(copy) = copies.due() {
                found.push(find(&sent, number, copy));
            }
        }
        found.extend(copies.rest().map(|copy| find(&sent, originals, copy)));
        found
    }

    #[test]
    fn the_share_asked_for_is_produced_twice_half_of_it_soon() {
        let copies = copies_of(100_000, 10.0);
        assert!((9_500..10_500).contains(&copies.len()), "{}", copies.len());
        let soon = copies.iter().filter(|(distance, ..)| *distance <= SOON).count();
        assert!((4_500..5_500).contains(&soon), "{soon}");
        assert!(copies.iter().any(|(distance, ..)| *distance > LATE / 2));
    }

    #[test]
    fn each_of_all_events_is_produced_twice_at_100_percent() {
        assert_eq!(copies_of(1_000, 100.0).len(), 1_000);
        assert_eq!(copies_of(1_000, 0.0).len(), 0);
    }

    #[test]
    fn a_third_of_the_copies_lies_on_the_other_side_of_midnight() {
        let midnight = NOON - DAY / 2;
        let copies = copies_of(100_000, 10.0);
        let across: Vec<_> =
            copies.iter().filter_map(|(_, original, copy)| Some(((*original)?, (*copy)?))).collect();
        assert!((copies.len() / 4..copies.len() / 2).contains(&across.len()), "{}", across.len());
        assert!(
            across.iter().all(|(original, copy)| *original < midnight
                && *copy > midnight
                && copy - original <= 120_000)
        );
    }
}

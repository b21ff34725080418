//! Sizes the next run: the adaptive batch size.

use std::time::Duration;

/// Sizes runs by the time they are expected to take, so that a drain can finish
/// and a slow handler gets short runs.
#[derive(Debug)]
pub(crate) struct Pace {
    most: usize,
    time: Duration,
    /// Seconds a record, as a moving average.
    record_time: f64,
    /// Grows by doubling, so that one lucky run does not make a huge one.
    ceiling: usize,
    /// So many runs grow slowly, after one that was cut short.
    careful: u32,
    /// Records done since the last run that was cut short.
    since_cut: usize,
}

/// The weight of the newest run in the average.
const WEIGHT: f64 = 0.3;
const FIRST: usize = 32;
const LEAST_AFTER_A_CUT: usize = 16;
const CAREFUL_RUNS: u32 = 16;

impl Pace {
    pub(crate) fn new(most: usize, time: Duration) -> Self {
        Self { most, time, record_time: 0.0, ceiling: FIRST.min(most), careful: 0, since_cut: 0 }
    }

    /// The most records the next run may have.
    pub(crate) fn records(&self) -> usize {
        let expected = self.time.as_secs_f64() / self.record_time.max(1e-9);
        (expected as usize).clamp(1, self.ceiling)
    }

    /// Notes that so many records took so long.
    pub(crate) fn went(&mut self, records: usize, took: Duration) {
        if records == 0 {
            return;
        }
        self.since_cut += records;
        let newest = took.as_secs_f64() / records as f64;
        self.record_time = if self.record_time == 0.0 {
            newest
        } else {
            self.record_time * (1.0 - WEIGHT) + newest * WEIGHT
        };
        let more = if self.careful > 0 { self.ceiling.div_ceil(4) } else { self.ceiling };
        self.careful = self.careful.saturating_sub(1);
        self.ceiling = (self.ceiling + more).min(self.most);
    }

    /// Notes that the last run ended early: a record failed, or time was up. What it did not
    /// reach was decoded and claimed for nothing, so the next ones are as long as it went well.
    pub(crate) fn cut_short(&mut self) {
        self.ceiling = self.since_cut.max(LEAST_AFTER_A_CUT).min(self.ceiling);
        self.careful = CAREFUL_RUNS;
        self.since_cut = 0;
    }

    /// Notes a failure: its neighbours are repeated, so there shall be fewer.
    pub(crate) fn failed(&mut self) {
        self.ceiling = (self.ceiling / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_quick_handler_grow_to_the_most() {
        let mut pace = Pace::new(500, Duration::from_millis(250));
        for _ in 0..5 {
            pace.went(pace.records(), Duration::from_micros(100));
        }
        assert_eq!(pace.records(), 500);
    }

    #[test]
    fn runs_of_a_slow_handler_fit_the_time() {
        let mut pace = Pace::new(500, Duration::from_millis(250));
        for _ in 0..20 {
            let records = pace.records();
            pace.went(records, Duration::from_millis(10) * u32::try_from(records).unwrap());
        }
        assert_eq!(pace.records(), 25);
    }

    #[test]
    fn runs_get_shorter_after_failures_and_grow_again() {
        let mut pace = Pace::new(64, Duration::from_secs(1));
        (0..10).for_each(|_| pace.failed());
        assert_eq!(pace.records(), 1);
        (0..10).for_each(|_| pace.went(1, Duration::from_micros(1)));
        assert_eq!(pace.records(), 64);
    }

    #[test]
    fn runs_that_are_cut_short_get_as_short_as_that_and_grow_slowly() {
        let mut pace = Pace::new(1000, Duration::from_secs(60));
        for _ in 0..6 {
            pace.went(pace.records(), Duration::from_micros(1));
        }
        assert_eq!(pace.records(), 1000);
        pace.cut_short();
        assert_eq!(pace.records(), 1000, "it went well for longer");
        pace.went(40, Duration::from_micros(1));
        pace.cut_short();
        assert_eq!(pace.records(), 40);
        pace.went(30, Duration::from_micros(1));
        pace.went(30, Duration::from_micros(1));
        pace.cut_short();
        assert_eq!(pace.records(), 60);
        pace.went(60, Duration::from_micros(1));
        assert_eq!(pace.records(), 75);
        pace.cut_short();
        pace.cut_short();
        assert_eq!(pace.records(), LEAST_AFTER_A_CUT);
        for _ in 0..2 * CAREFUL_RUNS {
            pace.went(pace.records(), Duration::from_micros(1));
        }
        assert_eq!(pace.records(), 1000);
    }
}

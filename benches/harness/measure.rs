//! The figures of a run, and of many runs.

use std::fmt;
use std::time::{Duration, Instant};

/// What one run of a contender took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// Records.
    pub records: u64,
    /// From the first record to the last.
    pub time: Duration,
    /// CPU of the whole process in that time.
    pub cpu: Duration,
}

impl Took {
    /// Records a second.
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.time.as_secs_f64()
    }

    /// CPU nanoseconds a record.
    pub fn cpu_ns(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.records as f64
    }
}

/// A moment, on the clock and in CPU time of this process.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    clock: Instant,
    cpu: Duration,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        // SAFETY: a zeroed rusage is valid, and getrusage fills it.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &mut usage);
            usage
        };
        let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
        Self { clock: Instant::now(), cpu: time(usage.ru_utime) + time(usage.ru_stime) }
    }

    /// What so many records took since.
    pub fn took(self, records: u64) -> Took {
        let now = Self::now();
        Took { records, time: now.clock - self.clock, cpu: now.cpu - self.cpu }
    }
}

/// Median, least and most of some values, and where the median would be in other runs.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// In the middle.
    pub median: f64,
    /// The least one.
    pub least: f64,
    /// The greatest one.
    pub most: f64,
    /// The median's confidence interval.
    pub interval: (f64, f64),
}

/// How sure it is at least that the interval has the true median. Five values have it by 0.9375
/// between their least and their most.
const CONFIDENCE: f64 = 0.93;

impl Spread {
    /// Of these, at least one.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (last, left_out) = (values.len() - 1, left_out(values.len()));
        Self {
            median: values[values.len() / 2],
            least: values[0],
            most: values[last],
            interval: (values[left_out], values[last - left_out]),
        }
    }
}

/// How many of the least and of the greatest values stand outside the interval.
///
/// Each value is below the true median as often as above it, whatever their distribution is, so
/// how many are below it is as with a coin.
fn left_out(values: usize) -> usize {
    let (mut outside, mut exactly, mut below) = (0, 0.5_f64.powi(values as i32), 0.0);
    loop {
        below += exactly;
        if 1.0 - 2.0 * below < CONFIDENCE {
            return usize::max(outside, 1) - 1;
        }
        outside += 1;
        exactly *= (values - outside + 1) as f64 / outside as f64;
    }
}

impl fmt::Display for Spread {
    /// The median and its interval, with the digits after the point that the format asks for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (digits, (low, high)) = (f.precision().unwrap_or(0), self.interval);
        write!(f, "{:.digits$} [{low:.digits$}..{high:.digits$}]", self.median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_leaves_out_what_tables_of_the_sign_test_say() {
        // Rank of the lower limit for n values at 95 %, here at 93 % for the sake of five.
        for (values, rank) in [(1, 1), (5, 1), (8, 1), (9, 2), (15, 4), (20, 6), (25, 8)] {
            assert_eq!(left_out(values) + 1, rank, "{values} values");
        }
        let spread = Spread::of((0..15).rev().map(f64::from));
        assert_eq!(
            (spread.median, spread.least, spread.most, spread.interval),
            (7.0, 0.0, 14.0, (3.0, 11.0))
        );
    }
}

//! What a run took, and what many runs took.

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

/// Median, least and most of some values.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// In the middle.
    pub median: f64,
    /// The least one.
    pub least: f64,
    /// The greatest one.
    pub most: f64,
}

impl Spread {
    /// Of these, at least one.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self { median: values[values.len() / 2], least: values[0], most: values[values.len() - 1] }
    }
}

impl fmt::Display for Spread {
    /// With the digits after the point that the format asks for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        write!(f, "{:.digits$} [{:.digits$}..{:.digits$}]", self.median, self.least, self.most)
    }
}

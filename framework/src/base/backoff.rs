//! The delay before the next try.

use std::time::{Duration, Instant};

/// No delay is longer: one that is asked for may be anything, and a time that is too far away
/// cannot be told.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The time after this delay, or one that never comes.
pub(crate) fn after(delay: Duration) -> Instant {
    later(Instant::now(), delay)
}

/// The same, from this time on.
pub(crate) fn later(now: Instant, delay: Duration) -> Instant {
    now.checked_add(delay).unwrap_or_else(|| now + 10_000 * LONGEST)
}

/// Exponential, with full jitter: a random time up to a ceiling that doubles.
///
/// Full jitter spreads the tries of many partitions best (AWS Architecture Blog,
/// "Exponential Backoff And Jitter").
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, tries: 0 }
    }

    /// The ceiling of the next delay.
    pub(crate) fn ceiling(&self) -> Duration {
        ceiling(self.first, self.most, self.tries)
    }

    /// The next delay.
    pub(crate) fn delay(&mut self) -> Duration {
        let delay = jittered(self.ceiling());
        self.tries = self.tries.saturating_add(1);
        delay
    }

    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

/// The longest delay after so many tries.
pub(crate) fn ceiling(first: Duration, most: Duration, tries: u32) -> Duration {
    first.saturating_mul(2u32.saturating_pow(tries)).min(most).min(LONGEST)
}

/// A random time up to this one.
pub(crate) fn jittered(ceiling: Duration) -> Duration {
    ceiling.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_without_bounds_is_a_day_and_a_time_never_overflows() {
        assert_eq!(ceiling(Duration::MAX, Duration::MAX, 7), LONGEST);
        assert!(jittered(LONGEST) <= LONGEST);
        assert!(after(Duration::MAX) > Instant::now() + LONGEST);
    }

    #[test]
    fn delays_grow_up_to_the_most_and_never_past_it() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        let ceilings: Vec<_> = (0..40)
            .map(|_| {
                let ceiling = backoff.ceiling();
                assert!(backoff.delay() <= ceiling);
                ceiling
            })
            .collect();
        assert_eq!(ceilings[0], Duration::from_millis(100));
        assert_eq!(ceilings[3], Duration::from_millis(800));
        assert_eq!(ceilings[39], Duration::from_secs(30));
    }
}

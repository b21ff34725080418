//! How long to wait before the next try.

use std::time::Duration;

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
    first.saturating_mul(2u32.saturating_pow(tries)).min(most)
}

/// A random time up to this one.
pub(crate) fn jittered(ceiling: Duration) -> Duration {
    ceiling.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

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

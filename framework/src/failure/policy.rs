//! The policy for a record that failed: how often it is retried, and when retries end.

use crate::Error;
use crate::base::backoff;
use crate::error::panic::without_panic;
use crate::error::reason::Reason;
use crate::error::text::chain;
use crate::error::{ErrorKind, HandlerError};
use crate::failure::trials::Trial;
use std::any::type_name;
use std::fmt;
use std::time::Duration;

/// How often and for how long a failed record is retried in its place. The records behind it in
/// its partition wait.
///
/// The delay before the attempt after the nth is random between 0 and
/// `backoff * 2^(n-1)`, at most `max_backoff`.
///
/// ```
/// use onceward::RetryPolicy;
/// use std::time::Duration;
///
/// let policy = RetryPolicy::default().max_attempts(5).backoff(Duration::from_millis(100));
/// assert_eq!(policy.max_attempts, 5);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The maximum number of attempts, the first one included; 12 by default. With the other
    /// defaults, the last one is about a second after the first.
    pub max_attempts: u32,
    /// No attempt begins later than this after the first failure; 1 min by default.
    pub max_elapsed: Duration,
    /// The longest delay before the second attempt; 1 ms by default.
    pub backoff: Duration,
    /// The longest delay; 10 s by default.
    pub max_backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 12,
            max_elapsed: Duration::from_secs(60),
            backoff: Duration::from_millis(1),
            max_backoff: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// Sets the attempts in all, the first included.
    #[must_use]
    pub fn max_attempts(self, attempts: u32) -> Self {
        Self { max_attempts: attempts, ..self }
    }

    /// Sets how long after the first failure the last attempt may begin.
    #[must_use]
    pub fn max_elapsed(self, limit: Duration) -> Self {
        Self { max_elapsed: limit, ..self }
    }

    /// Sets the longest delay before the second attempt, which doubles from attempt to attempt.
    #[must_use]
    pub fn backoff(self, delay: Duration) -> Self {
        Self { backoff: delay, ..self }
    }

    /// Sets the longest delay of all.
    #[must_use]
    pub fn max_backoff(self, delay: Duration) -> Self {
        Self { max_backoff: delay, ..self }
    }

    /// The longest delay after this attempt.
    fn ceiling(&self, attempt: u32) -> Duration {
        backoff::ceiling(self.backoff, self.max_backoff, attempt.saturating_sub(1))
    }

    fn delay(&self, attempt: u32) -> Duration {
        backoff::jittered(self.ceiling(attempt))
    }

    fn check(&self, handler: &str) -> Result<(), Error> {
        let refused = |problem: &str| Err(Error::handler(handler, problem));
        if self.max_attempts == 0 {
            return refused(
                "`max_attempts` is 0; it counts the first attempt too, so 1 means that nothing is tried again",
            );
        }
        if self.backoff > self.max_backoff {
            return refused(
                "`backoff` is longer than `max_backoff`; make it shorter, or `max_backoff` longer",
            );
        }
        Ok(())
    }

    /// The longest time for which one record may be tried.
    fn longest(&self) -> Duration {
        let attempts = 1..self.max_attempts.min(10_000);
        let all =
            attempts.map(|attempt| self.ceiling(attempt)).fold(Duration::ZERO, Duration::saturating_add);
        all.min(self.max_elapsed)
    }
}

/// What happens to a record whose handler failed with an error of a certain type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorPolicy {
    /// It is retried, even if the error is permanent.
    Retry,
    /// It is skipped and counted.
    Skip,
    /// It goes to the dead-letter topic at once.
    DeadLetter,
}

/// An error type, and what happens to records that fail with it.
#[derive(Clone)]
pub(crate) struct ErrorRule {
    type_name: &'static str,
    matches: fn(&(dyn std::error::Error + 'static)) -> bool,
    policy: ErrorPolicy,
}

impl ErrorRule {
    pub(crate) fn new<E: std::error::Error + 'static>(policy: ErrorPolicy) -> Self {
        Self { type_name: type_name::<E>(), matches: |error| error.is::<E>(), policy }
    }
}

impl fmt::Debug for ErrorRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.type_name, self.policy)
    }
}

/// All that a route says of failures.
#[derive(Debug, Clone, Default)]
pub(crate) struct FailurePolicy {
    pub(crate) retry: RetryPolicy,
    pub(crate) rules: Vec<ErrorRule>,
}

/// The next step for a failed record.
#[derive(Debug)]
pub(crate) enum Verdict {
    RetryAfter(Duration),
    Skip,
    GiveUp(Reason, Trial),
}

impl FailurePolicy {
    pub(crate) fn verdict(&self, error: &HandlerError, trial: &Trial) -> Verdict {
        match self.rule_for(error) {
            Some(ErrorPolicy::Skip) => return Verdict::Skip,
            Some(ErrorPolicy::DeadLetter) => return Verdict::GiveUp(Reason::Policy, *trial),
            None if error.kind() == ErrorKind::Rejected => return Verdict::GiveUp(Reason::Rejected, *trial),
            None if error.is_permanent() => {
                return Verdict::GiveUp(error.reason().unwrap_or(Reason::Permanent), *trial);
            }
            Some(ErrorPolicy::Retry) | None => {}
        }
        let delay = error.delay().unwrap_or_else(|| self.retry.delay(trial.attempts));
        if trial.attempts >= self.retry.max_attempts {
            Verdict::GiveUp(Reason::MaxAttempts, *trial)
        } else if trial.since.elapsed().saturating_add(delay) > self.retry.max_elapsed {
            Verdict::GiveUp(Reason::MaxElapsed, *trial)
        } else {
            Verdict::RetryAfter(delay)
        }
    }

    /// The first rule for an error in the chain, from the outermost on.
    fn rule_for(&self, error: &HandlerError) -> Option<ErrorPolicy> {
        let rule = |error| self.rules.iter().find(|rule| (rule.matches)(error));
        // Causes are told by the error's own code.
        let found = without_panic("the error's chain of causes", || chain(error.source()).find_map(rule));
        found.ok().flatten().map(|rule| rule.policy)
    }

    /// Refuses what cannot be meant, and explains what may not be.
    pub(crate) fn check(&self, handler: &str, fallible: bool, drain: Duration) -> Result<(), Error> {
        self.retry.check(handler)?;
        if let (Some(rule), false) = (self.rules.first(), fallible) {
            return Err(Error::handler(
                handler,
                format!(
                    "has a policy for `{}`, but returns no error; let it return `HandlerResult`, or take \
                     `on_error` out",
                    rule.type_name
                ),
            ));
        }
        for (place, rule) in self.rules.iter().enumerate() {
            if self.rules[..place].iter().any(|other| other.type_name == rule.type_name) {
                return Err(Error::handler(
                    handler,
                    format!("has two policies for `{}`; take one `on_error` out", rule.type_name),
                ));
            }
        }
        if self.retry.longest() > drain {
            tracing::info!(
                handler,
                longest = ?self.retry.longest(),
                drain_deadline = ?drain,
                "retries of a record may take longer than a drain waits; if its partition is revoked meanwhile, the next owner \
                 counts its attempts from the beginning"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("inner")]
    struct Inner;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Inner);

    fn given_up(verdict: Verdict) -> Option<Reason> {
        match verdict {
            Verdict::GiveUp(reason, _) => Some(reason),
            _ => None,
        }
    }

    fn policy(rules: Vec<ErrorRule>) -> FailurePolicy {
        let retry = RetryPolicy { max_attempts: 3, ..RetryPolicy::default() };
        FailurePolicy { retry, rules }
    }

    #[test]
    fn a_record_is_given_up_after_its_attempts_or_its_time() {
        let mut policy = policy(Vec::new());
        let error = HandlerError::new("x");
        assert!(matches!(policy.verdict(&error, &Trial::of(2)), Verdict::RetryAfter(_)));
        assert_eq!(given_up(policy.verdict(&error, &Trial::of(3))), Some(Reason::MaxAttempts));
        let later = HandlerError::new("x").retry_after(Duration::from_secs(61));
        assert_eq!(given_up(policy.verdict(&later, &Trial::of(1))), Some(Reason::MaxElapsed));
        let never = HandlerError::new("x").retry_after(Duration::MAX);
        assert_eq!(given_up(policy.verdict(&never, &Trial::of(1))), Some(Reason::MaxElapsed));
        policy.retry.max_elapsed = Duration::MAX;
        let day = Duration::from_secs(24 * 60 * 60);
        assert!(matches!(policy.verdict(&never, &Trial::of(1)), Verdict::RetryAfter(delay) if delay == day));
        policy.retry.max_elapsed = Duration::from_secs(62);
        assert!(
            matches!(policy.verdict(&later, &Trial::of(1)), Verdict::RetryAfter(delay) if delay.as_secs() == 61)
        );
    }

    #[test]
    fn what_will_not_help_is_not_tried_again() {
        let policy = policy(Vec::new());
        let permanent = HandlerError::new("x").permanent();
        assert_eq!(given_up(policy.verdict(&permanent, &Trial::of(1))), Some(Reason::Permanent));
        let rejected = HandlerError::of_kind(ErrorKind::Rejected, "x");
        assert_eq!(given_up(policy.verdict(&rejected, &Trial::of(1))), Some(Reason::Rejected));
    }

    #[test]
    fn a_rule_for_an_error_type_counts_wherever_it_stands_in_the_chain() {
        let skip = policy(vec![ErrorRule::new::<Inner>(ErrorPolicy::Skip)]);
        assert!(matches!(skip.verdict(&HandlerError::new(Inner), &Trial::of(1)), Verdict::Skip));
        assert!(matches!(skip.verdict(&HandlerError::new(Outer(Inner)), &Trial::of(1)), Verdict::Skip));
        assert!(matches!(skip.verdict(&HandlerError::new("x"), &Trial::of(1)), Verdict::RetryAfter(_)));

        let both = policy(vec![
            ErrorRule::new::<Inner>(ErrorPolicy::Skip),
            ErrorRule::new::<Outer>(ErrorPolicy::DeadLetter),
        ]);
        assert_eq!(
            given_up(both.verdict(&HandlerError::new(Outer(Inner)), &Trial::of(1))),
            Some(Reason::Policy)
        );
        let retry = policy(vec![ErrorRule::new::<Inner>(ErrorPolicy::Retry)]);
        let permanent = HandlerError::new(Inner).permanent();
        assert!(matches!(retry.verdict(&permanent, &Trial::of(1)), Verdict::RetryAfter(_)));
    }

    #[test]
    fn delays_grow_to_their_most_with_full_jitter() {
        let retry = RetryPolicy::default();
        for attempt in 1..100 {
            let ceiling = Duration::from_millis(1).saturating_mul(1 << (attempt - 1).min(20));
            assert!(retry.delay(attempt) <= ceiling.min(retry.max_backoff));
        }
        assert_eq!(retry.longest(), Duration::from_millis((1 << 11) - 1));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_fix() {
        let second = Duration::from_secs(1);
        let refused =
            |policy: &FailurePolicy, fallible| policy.check("h", fallible, second).unwrap_err().to_string();
        let mut none = policy(Vec::new());
        assert!(none.check("h", true, second).is_ok());
        none.retry.max_attempts = 0;
        assert!(refused(&none, true).contains("`max_attempts` is 0"));
        let rule = || ErrorRule::new::<Inner>(ErrorPolicy::Skip);
        assert!(refused(&policy(vec![rule()]), false).contains("returns no error"));
        assert!(refused(&policy(vec![rule(), rule()]), true).contains("two policies"));
    }
}

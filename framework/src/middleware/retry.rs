//! Retries a failed record until it succeeds or its policy ends.

use super::Stack;
use crate::error::reason::Decision;
use crate::error::text::capped;
use crate::failure::policy::Verdict;
use crate::failure::trials::Trial;
use crate::middleware::bound::{Bound, Parts};
use crate::{Handler, HandlerError, Outcome, Outcomes, Record, Run};
use std::time::Duration;

/// Retries a failed record in its place, until it succeeds or its route's
/// [`RetryPolicy`](crate::RetryPolicy) ends.
///
/// The records behind it in its partition wait, or with order by key only those of its key.
/// Other records go on, and so does the poll thread. While a record waits, its partition may be
/// revoked: then the record is not finished, and the next owner retries it. If that is this
/// process, it goes on counting attempts.
///
/// The worker does the waiting: a record that is to be retried leaves as failed, with its
/// delay, and begins a later run. In a transaction, a short delay is waited for in the same
/// run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retry;

impl Retry {
    pub(super) async fn run<'a, S: Stack, H: Handler>(
        &'a self,
        run: Run<'a>,
        stack: &'a S,
        parts: &'a Parts<H>,
    ) -> Outcomes {
        let bound = &parts.bound;
        if bound.trials.is_empty() {
            let outcomes = stack.run(run, parts).await;
            if outcomes.first_failed().is_none() {
                return outcomes;
            }
            return settle(run, outcomes.fit(run.len()), bound);
        }
        let records: Vec<Record<'_>> = run.iter().map(|record| bound.trials.next_attempt(record)).collect();
        let run = run.with(&records);
        let outcomes = stack.run(run, parts).await;
        settle(run, outcomes.fit(run.len()), bound)
    }
}

/// Says of each record that failed what comes next. One that is held by Onceward's own work is
/// charged nothing, nor is what waits with it.
pub(super) fn settle(run: Run<'_>, mut outcomes: Outcomes, bound: &Bound) -> Outcomes {
    let is_held = |outcome: &Outcome| matches!(outcome, Outcome::Failed(error) if error.held_by().is_some());
    let any_is_held = outcomes.iter().any(is_held);
    for (record, outcome) in run.iter().zip(outcomes.iter_mut()) {
        match outcome {
            Outcome::NotReached if !any_is_held => {}
            outcome if matches!(outcome, Outcome::NotReached) || is_held(outcome) => {
                bound.trials.held(record)
            }
            Outcome::Failed(error) => match bound.failure.verdict(error, &bound.trials.failed(record)) {
                Verdict::Skip => {
                    tracing::info!(%record, error = capped(&*error), "skipped, as its error's policy says");
                    *outcome = Outcome::skipped("its error's policy says so");
                    bound.trials.done(record);
                }
                Verdict::GiveUp(reason, trial) => error.decide(Decision::GiveUp(trial.given_up(reason))),
                Verdict::RetryAfter(delay) => {
                    log_again(record, error, delay);
                    error.decide(Decision::Again(delay));
                }
            },
            _ => bound.trials.done(record),
        }
    }
    outcomes
}

/// The time after which a record that failed is tried again in the transaction of its run.
/// Then this attempt is noted; else it is as if nobody had asked.
pub(super) fn again_in_its_run(record: Record<'_>, error: &HandlerError, bound: &Bound) -> Option<Duration> {
    /// Its locks stand meanwhile.
    const SOON: Duration = Duration::from_millis(20);
    let attempts = bound.trials.attempts(record) + 1;
    let verdict = bound.retries.then(|| bound.failure.verdict(error, &Trial::of(attempts)))?;
    let Verdict::RetryAfter(delay) = verdict else { return None };
    (delay <= SOON).then(|| {
        bound.trials.failed(record);
        log_again(record, error, delay);
        delay
    })
}

fn log_again(record: Record<'_>, error: &HandlerError, delay: Duration) {
    tracing::debug!(%record, attempt = record.attempt(), ?delay, error = capped(error), "trying again");
}

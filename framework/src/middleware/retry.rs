//! Tries a failed record again, until it is done or given up.

use super::Stack;
use crate::failure::{GivenUp, Verdict, capped};
use crate::route::{Bound, Parts};
use crate::{Handler, Outcome, Outcomes, Record, Run};
use std::time::Duration;

/// Tries a failed record again, in its place, until it is done or its route's
/// [`RetryPolicy`](crate::RetryPolicy) gives it up.
///
/// What comes after it in its partition waits. Other partitions go on, and so does
/// the poll thread. While a record waits its partition may be given away: then it
/// is not finished, and the next owner tries it again. Where that is this process,
/// its attempts go on counting.
///
/// A record that is to be tried again leaves as not reached, after its delay: its
/// worker begins the next run with it.
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
            return settle(run, outcomes.fit(run.len()), bound).await;
        }
        let tried = |record: Record<'a>| record.at_attempt(bound.trials.attempts(record) + 1);
        let records: Vec<Record<'_>> = run.iter().map(tried).collect();
        let run = run.with(&records);
        let outcomes = stack.run(run, parts).await;
        settle(run, outcomes.fit(run.len()), bound).await
    }
}

/// Says of each record that failed what comes next, and waits before it is tried
/// again.
async fn settle(run: Run<'_>, mut outcomes: Outcomes, bound: &Bound) -> Outcomes {
    let mut pause = Duration::ZERO;
    for (record, outcome) in run.iter().zip(outcomes.iter_mut()) {
        match outcome {
            Outcome::Failed(error) => match bound.failure.verdict(error, &bound.trials.failed(record)) {
                Verdict::Skip => {
                    tracing::info!(%record, error = capped(&*error), "skipped, as its error's policy says");
                    *outcome = Outcome::skipped("its error's policy says so");
                    bound.trials.done(record);
                }
                Verdict::GiveUp(reason, trial) => error.give_up(GivenUp { reason, trial }),
                Verdict::RetryAfter(delay) => {
                    let (attempt, error) = (record.attempt(), capped(&*error));
                    tracing::debug!(%record, attempt, ?delay, error, "trying again");
                    *outcome = Outcome::NotReached;
                    pause = pause.max(delay);
                }
            },
            Outcome::NotReached => {}
            _ => bound.trials.done(record),
        }
    }
    if !pause.is_zero() {
        run.wait(pause).await;
    }
    outcomes
}

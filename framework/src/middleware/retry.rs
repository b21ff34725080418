//! Tries a failed record again, until it is done or given up.

use super::Stack;
use crate::error::Decision;
use crate::failure::{GivenUp, Verdict, capped};
use crate::route::{Bound, Parts};
use crate::{Handler, Outcome, Outcomes, Record, Run};

/// Tries a failed record again, in its place, until it is done or its route's
/// [`RetryPolicy`](crate::RetryPolicy) gives it up.
///
/// What comes after it in its partition waits, or where the order is by key, what has its
/// key. Others go on, and so does the poll thread. While a record waits its partition may be given away: then it
/// is not finished, and the next owner tries it again. Where that is this process,
/// its attempts go on counting.
///
/// The waiting is its worker's: a record that is to be tried again leaves as failed, with
/// its delay, and begins a later run.
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
        let tried = |record: Record<'a>| record.at_attempt(bound.trials.attempts(record) + 1);
        let records: Vec<Record<'_>> = run.iter().map(tried).collect();
        let run = run.with(&records);
        let outcomes = stack.run(run, parts).await;
        settle(run, outcomes.fit(run.len()), bound)
    }
}

/// Says of each record that failed what comes next.
fn settle(run: Run<'_>, mut outcomes: Outcomes, bound: &Bound) -> Outcomes {
    for (record, outcome) in run.iter().zip(outcomes.iter_mut()) {
        match outcome {
            Outcome::Failed(error) => match bound.failure.verdict(error, &bound.trials.failed(record)) {
                Verdict::Skip => {
                    tracing::info!(%record, error = capped(&*error), "skipped, as its error's policy says");
                    *outcome = Outcome::skipped("its error's policy says so");
                    bound.trials.done(record);
                }
                Verdict::GiveUp(reason, trial) => error.decide(Decision::GiveUp(GivenUp { reason, trial })),
                Verdict::RetryAfter(delay) => {
                    let (attempt, text) = (record.attempt(), capped(&*error));
                    tracing::debug!(%record, attempt, ?delay, error = text, "trying again");
                    error.decide(Decision::Again(delay));
                }
            },
            Outcome::NotReached => {}
            _ => bound.trials.done(record),
        }
    }
    outcomes
}

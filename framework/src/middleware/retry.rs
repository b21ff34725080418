//! Tries a failed record again, until it is done or given up.

use super::Stack;
use crate::failure::{GivenUp, Verdict, capped};
use crate::route::Parts;
use crate::{Handler, Outcome, Outcomes, Record, Run};

/// Tries a failed record again, in its place, until it is done or its route's
/// [`RetryPolicy`](crate::RetryPolicy) gives it up.
///
/// What comes after it in its partition waits. Other partitions go on, and so does
/// the poll thread. While a record waits its partition may be given away: then it
/// is not finished, and the next owner tries it again. Where that is this process,
/// its attempts go on counting.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retry;

impl Retry {
    pub(super) async fn run<'a, S: Stack, H: Handler>(
        &'a self,
        run: Run<'a>,
        stack: &'a S,
        parts: &'a Parts<H>,
    ) -> Outcomes {
        let trials = &parts.bound.trials;
        if trials.is_empty() {
            let outcomes = stack.run(run, parts).await;
            if outcomes.first_failed().is_none() {
                return outcomes;
            }
            return until_done(run.records().to_vec(), outcomes.fit(run.len()), run, stack, parts).await;
        }
        let records: Vec<Record<'_>> =
            run.iter().map(|record| record.at_attempt(trials.attempts(record) + 1)).collect();
        let outcomes = stack.run(run.with(&records), parts).await;
        until_done(records, outcomes.fit(run.len()), run, stack, parts).await
    }
}

/// Runs what is not done again, as long as the first failure among it may be.
async fn until_done<S: Stack, H: Handler>(
    mut records: Vec<Record<'_>>,
    mut outcomes: Outcomes,
    run: Run<'_>,
    stack: &S,
    parts: &Parts<H>,
) -> Outcomes {
    let bound = &parts.bound;
    while let Some(place) = outcomes.first_failed() {
        let record = records[place];
        let outcome = outcomes.at_mut(place);
        let Outcome::Failed(error) = outcome else { unreachable!("it has failed") };
        let trial = bound.trials.failed(record);
        match bound.failure.verdict(error, &trial) {
            Verdict::Skip => {
                tracing::info!(%record, error = capped(&*error), "skipped, as its error's policy says");
                *outcome = Outcome::skipped("its error's policy says so");
                bound.trials.done(record);
            }
            Verdict::GiveUp(reason) => {
                error.give_up(GivenUp { reason, trial });
                return outcomes;
            }
            Verdict::RetryAfter(delay) => {
                tracing::debug!(%record, attempt = trial.attempts, ?delay, error = capped(&*error), "trying again");
                run.wait(delay).await;
                if run.is_draining() {
                    // It has failed, but not for good: nothing may deal with it as if it had.
                    *outcome = Outcome::NotReached;
                    return outcomes;
                }
                run_open(&mut records, &mut outcomes, run, stack, parts).await;
            }
        }
    }
    records.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_finished()).for_each(|(record, _)| {
        bound.trials.done(*record);
    });
    outcomes
}

/// Runs once more what is not done, with another attempt for what has failed.
async fn run_open<S: Stack, H: Handler>(
    records: &mut [Record<'_>],
    outcomes: &mut Outcomes,
    run: Run<'_>,
    stack: &S,
    parts: &Parts<H>,
) {
    let places: Vec<usize> = (0..records.len()).filter(|&place| !outcomes.at(place).is_finished()).collect();
    for &place in &places {
        if matches!(outcomes.at(place), Outcome::Failed(_)) {
            records[place] = records[place].again();
        }
    }
    let open: Vec<Record<'_>> = places.iter().map(|&place| records[place]).collect();
    let clock = run.clock().again();
    let ended = stack.run(run.with(&open).on(&clock), parts).await;
    for (place, outcome) in places.into_iter().zip(ended) {
        *outcomes.at_mut(place) = outcome;
    }
}

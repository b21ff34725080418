//! One call for each record of a run, in one transaction.

use super::{InTransaction, Work};
use crate::dedupe::outage::OfCall;
use crate::dedupe::unit::UnitOfWork;
use crate::dedupe::{Claim, StoreError};
use crate::error::ErrorKind;
use crate::extract::batch::Rejected;
use crate::handler::Handler;
use crate::middleware::Stack;
use crate::middleware::idempotency::attempts::Attempt;
use crate::middleware::idempotency::calls::for_one;
use crate::middleware::retry::again_in_its_run;
use crate::{HandlerError, HandlerResult, Outcome, Record, Run};
use std::time::{Duration, Instant};

/// A call that has ended.
struct Called<'p> {
    /// With the number of this attempt.
    record: Record<'p>,
    started: Instant,
    /// How many statements there were before it.
    statements: u64,
    result: HandlerResult<Outcome>,
}

impl<S: Stack, H: Handler> InTransaction<'_, S, H> {
    /// One call a record, until one fails for longer or time is up.
    ///
    /// What a failed call did is undone back to a savepoint, and the records from there on
    /// are handled again: with the failed one, if it is to be tried again at once, or up to it.
    pub(super) async fn each(
        &self,
        part: Run<'_>,
        mut args: Vec<Option<Result<H::Args<'_>, Rejected>>>,
        mut unit: UnitOfWork,
        (claims, fresh): (&[Claim], &[bool]),
        apart: bool,
    ) -> Work {
        let savepoints = &self.calls.parts.bound.savepoints;
        let every = if apart { 1 } else { savepoints.every(part.len()) };
        let mut outcomes = Vec::with_capacity(part.len());
        // The place of the record before which the savepoint stands.
        let mut savepoint: Option<usize> = None;
        let mut given_up: Option<(usize, HandlerError)> = None;
        while outcomes.len() < part.len() {
            let index = outcomes.len();
            if let Some((_, error)) = given_up.take_if(|(place, _)| *place == index) {
                outcomes.push(Outcome::Failed(error));
                break;
            }
            if index > 0 && part.should_stop() {
                break;
            }
            if !fresh[index] {
                outcomes.push(Outcome::Duplicate);
                continue;
            }
            if savepoint.map_or(every < usize::MAX, |place| index >= place + every) {
                unit.savepoint(savepoint.is_some()).await?;
                savepoint = Some(index);
            }
            let Called { record, started, statements, result } =
                self.call_at(part, index, args[index].take(), &mut unit).await?;
            let undone = (index..part.len()).filter(|&place| fresh[place]).map(|place| claims[place]);
            if let Some(attempt) = self.ended_by_call(&mut unit, undone).await {
                return Err(attempt.at(index));
            }
            let error = match kept(result, apart, &mut unit, &mut savepoint).await? {
                Ok(outcome) => {
                    outcomes.push(outcome);
                    if self.is_last(&mut unit) {
                        break;
                    }
                    continue;
                }
                Err(error) => error,
            };
            let did_nothing = unit.tx().statements == statements && OfCall::of(&error) != OfCall::Conflict;
            let undone_from = match did_nothing {
                true => Some(index),
                false => self.undo(&mut unit, savepoint, index, &error).await,
            };
            let Some(place) = undone_from else {
                return Err(self.failed(unit, (index, part.with(&[record])), error, started).await);
            };
            outcomes.truncate(place);
            match self.again_in_its_run(part, record, &error) {
                Some(delay) => part.wait(delay).await,
                None => given_up = Some((index, error)),
            }
        }
        Ok((unit, outcomes))
    }

    /// The call of the record at a place, with its arguments if it is the first of this run.
    async fn call_at<'p>(
        &self,
        part: Run<'p>,
        index: usize,
        args: Option<Result<H::Args<'_>, Rejected>>,
        unit: &mut UnitOfWork,
    ) -> Result<Called<'p>, Attempt> {
        let started = Instant::now();
        unit.begin_call();
        let statements = unit.tx().statements;
        let of_one = part.with(&part.records()[index..=index]);
        let mut record = part.records()[index];
        let result = match args {
            Some(args) => self.one(of_one, args, unit).await,
            None => {
                record = self.calls.parts.bound.trials.next_attempt(record);
                let again = [record];
                let args = self.calls.decode_at_once(part.with(&again));
                self.one(part.with(&again), args, unit).await
            }
        };
        if result.is_ok()
            && let Some(attempt) = self.lost(unit, of_one, started).await
        {
            return Err(attempt.at(index));
        }
        Ok(Called { record, started, statements, result })
    }

    /// Whether the transaction ends with the call that was made, since the next one would meet
    /// what it left.
    fn is_last(&self, unit: &mut UnitOfWork) -> bool {
        let is_last = unit.tx().left.meets_next_call();
        if is_last {
            self.calls.parts.bound.alone.left_something();
        }
        is_last
    }

    /// One call, with one record.
    async fn one(
        &self,
        one: Run<'_>,
        args: Result<H::Args<'_>, Rejected>,
        unit: &mut UnitOfWork,
    ) -> HandlerResult<Outcome> {
        let args = args.map_err(|rejected| rejected.error)?;
        self.calls.call(one, args, Some(unit.tx())).await.and_then(for_one)
    }

    fn again_in_its_run(&self, part: Run<'_>, record: Record<'_>, error: &HandlerError) -> Option<Duration> {
        // Its locks stand meanwhile, also where it may be tried without end.
        if part.should_stop() { None } else { again_in_its_run(record, error, &self.calls.parts.bound) }
    }

    /// Undoes what was done since the savepoint, if there is one and the failure is of the
    /// record at `index`.
    async fn undo(
        &self,
        unit: &mut UnitOfWork,
        savepoint: Option<usize>,
        index: usize,
        error: &HandlerError,
    ) -> Option<usize> {
        self.calls.parts.bound.savepoints.failed();
        let place = savepoint?;
        if error.kind() != ErrorKind::Returned
            || matches!(OfCall::of(error), OfCall::Conflict | OfCall::Stale | OfCall::OthersCrash)
        {
            return None;
        }
        if index > place && self.blames_another(unit, error).await {
            return None;
        }
        unit.rollback_to_savepoint().await.ok().map(|()| place)
    }
}

/// What a call has done is kept behind its savepoint, where each has one.
async fn kept(
    result: HandlerResult<Outcome>,
    apart: bool,
    unit: &mut UnitOfWork,
    savepoint: &mut Option<usize>,
) -> Result<HandlerResult<Outcome>, StoreError> {
    if !apart || result.is_err() {
        return Ok(result);
    }
    match unit.release().await {
        Ok(()) => {
            *savepoint = None;
            Ok(result)
        }
        Err(StoreError::Aborted) => Ok(Err(HandlerError::new(StoreError::Aborted))),
        Err(error) => Err(error),
    }
}

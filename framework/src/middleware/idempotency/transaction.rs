//! A handler with a transaction: one for all of a run.
//!
//! ```text
//! decode · BEGIN · fence, mark and claims in one statement · the handler for each fresh record · check and COMMIT
//! ```
//!
//! No timer fills a run: the commit in progress is the window in which the next
//! one gathers.

use super::attempts::{Attempt, Attempts};
use super::calls::{Calls, for_each, for_one};
use crate::dedupe::postgres::{Postgres, UnitOfWork};
use crate::dedupe::sqlstate::code_in;
use crate::dedupe::{Claim, StoreError};
use crate::error::ErrorKind;
use crate::fault;
use crate::handler::{Handler, Rejected};
use crate::middleware::Stack;
use crate::middleware::retry::again_in_its_run;
use crate::{HandlerError, HandlerResult, Outcome, Record, Run};
use std::time::{Duration, Instant};

pub(super) struct InTransaction<'r, S, H> {
    calls: &'r Calls<'r, S, H>,
    postgres: &'r Postgres,
}

/// The arguments of a part's calls: one set for all records, or one each.
enum Decoded<A> {
    Together(Result<A, Rejected>),
    Each(Vec<Option<Result<A, Rejected>>>),
}

impl<S: Stack, H: Handler> Attempts for InTransaction<'_, S, H> {
    const CAN_KEEP_APART: bool = !H::BATCH;

    async fn attempt<'a>(&'a self, part: Run<'a>, apart: bool) -> Attempt {
        let bound = &self.calls.parts.bound;
        let claims = match self.calls.claims(part) {
            Ok(claims) => claims,
            Err(Rejected { index, error }) => return Attempt::Culprit(index, error),
        };
        // Before BEGIN, so that no decoding holds a transaction open.
        let decoded = match self.decode(part).await {
            Ok(decoded) => decoded,
            Err(error) => return error.into(),
        };
        let (unit, fresh) = match self.postgres.begin(part.assigned(), bound.scope, &claims).await {
            Ok(begun) => begun,
            Err(error) => {
                self.postgres.doubt(&error);
                return error.into();
            }
        };
        fault::point("after_claim");
        let work = match decoded {
            Decoded::Together(args) => self.together(part, args, unit, &fresh).await,
            Decoded::Each(args) => self.each(part, args, unit, &fresh, apart).await,
        };
        match work {
            Ok((unit, outcomes)) => self.finish(unit, outcomes, &claims, &fresh).await,
            Err(attempt) => attempt,
        }
    }
}

type Work = Result<(UnitOfWork, Vec<Outcome>), Attempt>;

impl<'r, S: Stack, H: Handler> InTransaction<'r, S, H> {
    pub(super) fn new(calls: &'r Calls<'r, S, H>, postgres: &'r Postgres) -> Self {
        Self { calls, postgres }
    }

    async fn decode<'b>(&self, part: Run<'b>) -> Result<Decoded<H::Args<'b>>, StoreError>
    where
        'r: 'b,
    {
        if H::BATCH {
            return Ok(Decoded::Together(self.calls.decode(part).await?));
        }
        let mut each = Vec::with_capacity(part.len());
        for record in part.records() {
            each.push(Some(self.calls.decode(part.with(std::slice::from_ref(record))).await?));
        }
        Ok(Decoded::Each(each))
    }

    /// One call a record, until one fails for longer or time is up.
    ///
    /// What a failed call did is undone back to a savepoint, and the records from there on
    /// are handled again: with the failed one, if it is to be tried again at once, or up to it.
    async fn each(
        &self,
        part: Run<'_>,
        mut args: Vec<Option<Result<H::Args<'_>, Rejected>>>,
        mut unit: UnitOfWork,
        fresh: &[bool],
        apart: bool,
    ) -> Work {
        let bound = &self.calls.parts.bound;
        let every = if apart { 1 } else { bound.savepoints.every(part.len()) };
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
            let started = Instant::now();
            let statements = unit.tx().statements;
            let mut record = part.records()[index];
            let result = match args[index].take() {
                Some(args) => self.one(part.with(&part.records()[index..=index]), args, &mut unit).await,
                None => {
                    record = bound.trials.next_attempt(record);
                    let again = [record];
                    let args = self.calls.decode_at_once(part.with(&again));
                    self.one(part.with(&again), args, &mut unit).await
                }
            };
            if result.is_ok() && self.left_idle(&mut unit, started).await {
                return Err(Attempt::Culprit(index, self.idle_error()));
            }
            let error = match result {
                Ok(outcome) if apart => match unit.release().await {
                    Ok(()) => {
                        savepoint = None;
                        outcomes.push(outcome);
                        continue;
                    }
                    Err(StoreError::Aborted) => HandlerError::new(StoreError::Aborted),
                    Err(error) => return Err(error.into()),
                },
                Ok(outcome) => {
                    outcomes.push(outcome);
                    continue;
                }
                Err(error) => error,
            };
            let did_nothing = unit.tx().statements == statements && !is_conflict(&error);
            let undone_from = if did_nothing {
                Some(index)
            } else {
                bound.savepoints.failed();
                self.undo(&mut unit, savepoint, index, &error).await
            };
            let Some(place) = undone_from else {
                return Err(self.failed(unit, index, error, started).await);
            };
            outcomes.truncate(place);
            match self.again_in_its_run(part, record, &error) {
                Some(delay) => part.wait(delay).await,
                None => given_up = Some((index, error)),
            }
        }
        Ok((unit, outcomes))
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
        let place = savepoint?;
        if error.kind() != ErrorKind::Returned || is_conflict(error) {
            return None;
        }
        if index > place && self.blames_another(unit, error).await {
            return None;
        }
        unit.rollback_to_savepoint().await.ok().map(|()| place)
    }

    /// One call for all fresh records.
    async fn together(
        &self,
        part: Run<'_>,
        args: Result<H::Args<'_>, Rejected>,
        mut unit: UnitOfWork,
        fresh: &[bool],
    ) -> Work {
        let places: Vec<usize> = (0..part.len()).filter(|&place| fresh[place]).collect();
        if places.is_empty() {
            return Ok((unit, part.iter().map(|_| Outcome::Duplicate).collect()));
        }
        let records: Vec<Record<'_>> = places.iter().map(|&place| part.records()[place]).collect();
        let fresh_part = part.with(&records);
        let started = Instant::now();
        // Duplicates are rare: only then is decoded again, without them.
        let called = if places.len() == part.len() {
            match args {
                Ok(args) => self.calls.call(part, args, Some(unit.tx())).await,
                Err(rejected) => return Err(self.rejected(unit, rejected.index, rejected.error).await),
            }
        } else {
            match self.calls.decode_at_once(fresh_part) {
                Ok(args) => self.calls.call(fresh_part, args, Some(unit.tx())).await,
                Err(rejected) => {
                    return Err(self.rejected(unit, places[rejected.index], rejected.error).await);
                }
            }
        };
        if called.is_ok() && self.left_idle(&mut unit, started).await {
            return Err(Attempt::Failed(self.idle_error()));
        }
        let results = match called.and_then(|handled| for_each(handled, places.len())) {
            Ok(results) => results,
            Err(error) => return Err(self.failed_together(unit, error, started).await),
        };
        let mut outcomes: Vec<_> = part.iter().map(|_| Outcome::Duplicate).collect();
        for (place, result) in places.into_iter().zip(results) {
            match result {
                Ok(outcome) => outcomes[place] = outcome,
                Err(error) => return Err(self.rejected(unit, place, error).await),
            }
        }
        Ok((unit, outcomes))
    }

    /// Commits what was done, without the claims of what was not.
    async fn finish(
        &self,
        mut unit: UnitOfWork,
        outcomes: Vec<Outcome>,
        claims: &[Claim],
        fresh: &[bool],
    ) -> Attempt {
        let done = |place: usize| outcomes.get(place).is_some_and(Outcome::is_finished);
        let undone: Vec<Claim> = (0..claims.len())
            .filter(|&place| fresh[place] && !done(place))
            .map(|place| claims[place])
            .collect();
        let nothing_done = !(0..claims.len()).any(|place| fresh[place] && done(place));
        let end = async {
            if nothing_done {
                return unit.rollback().await;
            }
            if !undone.is_empty() {
                unit.unclaim(&undone).await?;
            }
            fault::point("before_commit");
            unit.commit().await
        };
        match end.await {
            Ok(()) => {
                fault::point("after_commit");
                self.postgres.done(unit);
                Attempt::Done(outcomes)
            }
            Err(error) => error.into(),
        }
    }

    /// What a failed call means. The connection of a handler that was dropped in
    /// the middle (timeout, panic) is closed, not used again.
    async fn failed(
        &self,
        mut unit: UnitOfWork,
        index: usize,
        error: HandlerError,
        started: Instant,
    ) -> Attempt {
        if error.kind() != ErrorKind::Returned {
            return Attempt::Culprit(index, error);
        }
        let blames_another = self.blames_another(&mut unit, &error).await;
        match self.roll_back(unit, &error, started).await {
            Some(blameless) => blameless,
            None if blames_another && index > 0 => Attempt::Failed(error),
            None => Attempt::Culprit(index, error),
        }
    }

    /// Whether a record found the transaction aborted: then it is not the one that did it.
    async fn blames_another(&self, unit: &mut UnitOfWork, error: &HandlerError) -> bool {
        match code_in(error.source()) {
            Some(code) => code == "25P02",
            None => unit.is_aborted().await,
        }
    }

    async fn failed_together(&self, unit: UnitOfWork, error: HandlerError, started: Instant) -> Attempt {
        if error.kind() != ErrorKind::Returned {
            return Attempt::Failed(error);
        }
        self.roll_back(unit, &error, started).await.unwrap_or(Attempt::Failed(error))
    }

    /// Whether a call that went well took so long, without a statement, that the
    /// server has ended the transaction. Found later, it would look like an outage,
    /// and be tried again for ever.
    async fn left_idle(&self, unit: &mut UnitOfWork, started: Instant) -> bool {
        started.elapsed() >= self.postgres.idle_limit && unit.is_lost().await
    }

    fn idle_error(&self) -> HandlerError {
        HandlerError::new(format!(
            "the handler left its transaction idle for longer than `session.timeout.ms` = {:?}, so PostgreSQL ended it",
            self.postgres.idle_limit
        ))
    }

    /// A record that is known to fail, in a transaction that is sound.
    async fn rejected(&self, mut unit: UnitOfWork, place: usize, error: HandlerError) -> Attempt {
        if unit.rollback().await.is_ok() {
            self.postgres.done(unit);
        }
        Attempt::Culprit(place, error)
    }

    /// Rolls back, and says if the failure is nobody's: a deadlock, or a
    /// connection that broke. One that the server closed because the handler left
    /// it idle for too long is the record's.
    async fn roll_back(
        &self,
        mut unit: UnitOfWork,
        error: &HandlerError,
        started: Instant,
    ) -> Option<Attempt> {
        match unit.rollback().await {
            Ok(()) => {
                self.postgres.done(unit);
                is_conflict(error).then_some(Attempt::Blameless(StoreError::Conflict))
            }
            Err(_) if started.elapsed() >= self.postgres.idle_limit => None,
            Err(broken) => Some(Attempt::Blameless(StoreError::Outage(broken.into()))),
        }
    }
}

/// A deadlock, a serialization failure, or a lock that somebody else held for longer
/// than Onceward's `lock_timeout`.
fn is_conflict(error: &HandlerError) -> bool {
    matches!(code_in(error.source()).as_deref(), Some("40P01" | "40001" | "55P03"))
}

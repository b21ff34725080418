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
use crate::base::fault;
use crate::dedupe::outage::OfCall;
use crate::dedupe::postgres::{Ended, LooksFor, Postgres, UnitOfWork};
use crate::dedupe::{Claim, StoreError};
use crate::error::ErrorKind;
use crate::error::trouble::Cause;
use crate::extract::batch::Rejected;
use crate::handler::Handler;
use crate::middleware::Stack;
use crate::middleware::retry::again_in_its_run;
use crate::record::breaks::MOST_BREAKS;
use crate::{BoxError, HandlerError, HandlerResult, Outcome, Record, Run};
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
        let breaks = &part.assigned().breaks;
        let together = breaks.share(part.iter().map(|record| record.offset())).min(part.len());
        let part = part.with(&part.records()[..together]);
        loop {
            let attempt = self.attempt_once(part, apart).await;
            match &attempt {
                // Each time there is one connection less of those that are old.
                Attempt::Blameless(error @ StoreError::Stale(_)) => self.postgres.doubt(error),
                // Also where drive's part is longer.
                Attempt::Failed(_) if together == 1 => return attempt.at(0),
                _ => return attempt,
            }
        }
    }
}

type Work = Result<(UnitOfWork, Vec<Outcome>), Attempt>;

impl<'r, S: Stack, H: Handler> InTransaction<'r, S, H> {
    pub(super) fn new(calls: &'r Calls<'r, S, H>, postgres: &'r Postgres) -> Self {
        Self { calls, postgres }
    }

    async fn attempt_once(&self, part: Run<'_>, apart: bool) -> Attempt {
        let bound = &self.calls.parts.bound;
        let alone = !H::BATCH && bound.alone.is_due();
        let part = if alone { part.with(&part.records()[..1]) } else { part };
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
            Err(error) => return self.not_begun(part, error),
        };
        fault::point("after_claim");
        let work = match decoded {
            Decoded::Together(args) => self.together(part, args, unit, &fresh).await,
            Decoded::Each(args) => self.each(part, args, unit, &fresh, apart).await,
        };
        let attempt = match work {
            Ok((unit, outcomes)) => self.finish(unit, outcomes, &claims, &fresh, alone).await,
            Err(attempt) => attempt,
        };
        let breaks = &part.assigned().breaks;
        match &attempt {
            Attempt::Done(outcomes) => {
                let finished = part.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_finished());
                breaks.done(finished.map(|(record, _)| record.offset()));
            }
            Attempt::Blameless(error @ StoreError::Outage(_)) => {
                self.postgres.doubt(error);
                breaks.broke_around(&offsets(part.records()));
            }
            _ => {}
        }
        attempt
    }

    /// A transaction that was not begun is no record's fault.
    fn not_begun(&self, part: Run<'_>, error: StoreError) -> Attempt {
        self.postgres.doubt(&error);
        if matches!(error, StoreError::Fenced) && !part.is_draining() {
            let sentence = format!(
                "another process took {} over, by the token in `onceward_owner`, so this one does nothing more with it \
                 until Kafka assigns it anew",
                part.source()
            );
            if part.assigned().troubles.raise(Cause::Setup, sentence.clone()).is_some() {
                tracing::warn!(source = %part.source(), "{sentence}");
            }
            part.give_away();
        }
        error.into()
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
            unit.begin_call();
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
            if result.is_ok()
                && let Some(attempt) =
                    self.lost(&mut unit, part.with(&part.records()[index..=index]), started).await
            {
                return Err(attempt.at(index));
            }
            let error = match result {
                Ok(outcome) if apart => match unit.release().await {
                    Ok(()) => {
                        savepoint = None;
                        outcomes.push(outcome);
                        if self.is_last(&mut unit) {
                            break;
                        }
                        continue;
                    }
                    Err(StoreError::Aborted) => HandlerError::new(StoreError::Aborted),
                    Err(error) => return Err(error.into()),
                },
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
            let undone_from = if did_nothing {
                Some(index)
            } else {
                bound.savepoints.failed();
                self.undo(&mut unit, savepoint, index, &error).await
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
        if called.is_ok()
            && let Some(attempt) = self.lost(&mut unit, fresh_part, started).await
        {
            return Err(attempt);
        }
        let results = match called.and_then(|handled| for_each(handled, places.len())) {
            Ok(results) => results,
            Err(error) => return Err(self.failed_together(unit, fresh_part, error, started).await),
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
        alone: bool,
    ) -> Attempt {
        let done = |place: usize| outcomes.get(place).is_some_and(Outcome::is_finished);
        let undone: Vec<Claim> = (0..claims.len())
            .filter(|&place| fresh[place] && !done(place))
            .map(|place| claims[place])
            .collect();
        let nothing_done = !(0..claims.len()).any(|place| fresh[place] && done(place));
        let looks_for = match (alone, unit.calls()) {
            _ if unit.tx().left.meets_next_call() => LooksFor::Nothing,
            (true, _) => LooksFor::Leftovers,
            (false, 0 | 1) => LooksFor::Nothing,
            (false, _) => LooksFor::NoLeftovers,
        };
        let end = async {
            if nothing_done {
                unit.rollback().await?;
                return Ok(Ended::Committed);
            }
            if !undone.is_empty() {
                unit.unclaim(&undone).await?;
            }
            fault::point("before_commit");
            unit.commit(looks_for).await
        };
        match end.await {
            Ok(ended) => {
                fault::point("after_commit");
                self.postgres.done(unit);
                self.ended(ended, outcomes)
            }
            Err(error) => error.into(),
        }
    }

    fn ended(&self, ended: Ended, outcomes: Vec<Outcome>) -> Attempt {
        let bound = &self.calls.parts.bound;
        if ended != Ended::Committed && bound.alone.left_something() {
            tracing::info!(
                handler = &*bound.name,
                "its calls leave a setting, a role, a cursor or a temporary table: each has a transaction of its own"
            );
        }
        match ended {
            Ended::RolledBack => Attempt::Blameless(StoreError::Conflict),
            Ended::Committed | Ended::CommittedWithLeftovers => Attempt::Done(outcomes),
        }
    }

    /// What a failed call means. The connection of a handler that was dropped in
    /// the middle (timeout, panic) is closed, not used again.
    async fn failed(
        &self,
        mut unit: UnitOfWork,
        (index, called): (usize, Run<'_>),
        error: HandlerError,
        started: Instant,
    ) -> Attempt {
        if error.kind() != ErrorKind::Returned {
            return Attempt::Culprit(index, error);
        }
        let blames_another = self.blames_another(&mut unit, &error).await;
        let attempt = self.roll_back(unit, called, error, started).await;
        if blames_another && index > 0 { attempt } else { attempt.at(index) }
    }

    /// Whether a record found the transaction aborted: then it is not the one that did it.
    async fn blames_another(&self, unit: &mut UnitOfWork, error: &HandlerError) -> bool {
        match OfCall::of(error) {
            OfCall::FailedWithoutCode => unit.is_aborted().await,
            of_call => of_call == OfCall::FoundAborted,
        }
    }

    async fn failed_together(
        &self,
        unit: UnitOfWork,
        called: Run<'_>,
        error: HandlerError,
        started: Instant,
    ) -> Attempt {
        if error.kind() != ErrorKind::Returned {
            return Attempt::Failed(error);
        }
        self.roll_back(unit, called, error, started).await
    }

    /// Says what it means if the server has ended the transaction during a call that went well: one that
    /// took long without a statement, or dropped the error. Found later, it would look like an outage,
    /// and be tried again for ever.
    async fn lost(&self, unit: &mut UnitOfWork, called: Run<'_>, started: Instant) -> Option<Attempt> {
        let left_idle = started.elapsed() >= self.postgres.idle_limit;
        let [first, ..] = called.records() else { return None };
        if !(left_idle || called.assigned().breaks.is_alone(first.offset())) || !unit.is_lost().await {
            return None;
        }
        if left_idle {
            return Some(Attempt::Failed(HandlerError::new(format!(
                "the handler left its transaction idle for longer than `session.timeout.ms` = {:?}, so PostgreSQL ended \
                 it",
                self.postgres.idle_limit
            ))));
        }
        Some(broke(called, HandlerError::new("the connection broke and the handler dropped the error")))
    }

    /// A record that is known to fail, in a transaction that is sound.
    async fn rejected(&self, mut unit: UnitOfWork, place: usize, error: HandlerError) -> Attempt {
        if unit.rollback().await.is_ok() {
            self.postgres.done(unit);
        }
        Attempt::Culprit(place, error)
    }

    /// Rolls back, and says if the failure of a call with these records is nobody's: a deadlock, an old
    /// connection, or one that broke. One that the server closed because the handler left
    /// it idle for too long is the record's.
    async fn roll_back(
        &self,
        mut unit: UnitOfWork,
        called: Run<'_>,
        error: HandlerError,
        started: Instant,
    ) -> Attempt {
        let of_call = OfCall::of(&error);
        match unit.rollback().await {
            // Its connection is closed.
            Ok(()) if of_call == OfCall::Stale && unit.is_on_a_kept_connection() => {
                Attempt::Blameless(StoreError::Stale(error.to_string().into()))
            }
            Ok(()) => {
                self.postgres.done(unit);
                match of_call {
                    OfCall::Conflict => Attempt::Blameless(StoreError::Conflict),
                    _ => Attempt::Failed(error),
                }
            }
            Err(_) if started.elapsed() >= self.postgres.idle_limit => Attempt::Failed(error),
            Err(broken) if of_call == OfCall::OthersCrash => Attempt::Blameless(broken),
            Err(_) => broke(called, error),
        }
    }
}

/// What it means that the connection broke in the call of these records.
fn broke(called: Run<'_>, error: HandlerError) -> Attempt {
    let is_theirs = !called.is_empty() && called.assigned().breaks.broke_in_call(&offsets(called.records()));
    if is_theirs {
        Attempt::Failed(error.explained(|source| BreaksItsConnection { source }))
    } else {
        Attempt::Blameless(StoreError::Outage(error.to_string().into()))
    }
}

/// Why a record is charged that would else be an outage for ever.
#[derive(Debug, thiserror::Error)]
#[error("the connection to PostgreSQL broke in each of {MOST_BREAKS} calls with this record")]
struct BreaksItsConnection {
    source: BoxError,
}

fn offsets(records: &[Record<'_>]) -> Vec<i64> {
    records.iter().map(Record::offset).collect()
}

impl Attempt {
    /// The same where it was the record at this place that failed.
    fn at(self, index: usize) -> Self {
        match self {
            Self::Failed(error) => Self::Culprit(index, error),
            other => other,
        }
    }
}

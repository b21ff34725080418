//! A handler with a transaction: one for all of a run.
//!
//! ```text
//! decode · BEGIN · fence, mark and claims in one statement · the handler for each fresh record · check and COMMIT
//! ```
//!
//! No timer fills a run: the commit in progress is the window in which the next
//! one gathers.

mod each;
mod failed;

use super::attempts::{Attempt, Attempts};
use super::calls::{Calls, for_each};
use crate::base::fault;
use crate::dedupe::postgres::Postgres;
use crate::dedupe::unit::{Ended, LooksFor, UnitOfWork};
use crate::dedupe::{Claim, StoreError};
use crate::error::trouble::Cause;
use crate::extract::batch::Rejected;
use crate::handler::Handler;
use crate::middleware::Stack;
use crate::{Outcome, Record, Run};
use std::time::Instant;

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
            Decoded::Together(args) => self.together(part, args, unit, (&claims, &fresh)).await,
            Decoded::Each(args) => self.each(part, args, unit, (&claims, &fresh), apart).await,
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

    /// One call for all fresh records.
    async fn together(
        &self,
        part: Run<'_>,
        args: Result<H::Args<'_>, Rejected>,
        mut unit: UnitOfWork,
        (claims, fresh): (&[Claim], &[bool]),
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
        let undone = places.iter().map(|&place| claims[place]);
        if let Some(attempt) = self.ended_by_call(&mut unit, undone).await {
            return Err(attempt);
        }
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

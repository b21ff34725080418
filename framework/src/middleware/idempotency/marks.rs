//! A handler without a transaction: look up, handle, mark after.

use super::attempts::{Attempt, Attempts};
use super::calls::Calls;
use crate::dedupe::{Claim, Dedupe, State};
use crate::handler::{Handler, Rejected};
use crate::middleware::Stack;
use crate::{Outcome, Record, Run};
use std::collections::HashSet;

pub(super) struct Marked<'r, S, H> {
    calls: &'r Calls<'r, S, H>,
    dedupe: &'r Dedupe,
}

impl<'r, S: Stack, H: Handler> Marked<'r, S, H> {
    pub(super) fn new(calls: &'r Calls<'r, S, H>, dedupe: &'r Dedupe) -> Self {
        Self { calls, dedupe }
    }
}

impl<S: Stack, H: Handler> Attempts for Marked<'_, S, H> {
    const CAN_KEEP_APART: bool = false;

    async fn attempt<'a>(&'a self, part: Run<'a>, apart: bool) -> Attempt {
        let bound = &self.calls.parts.bound;
        let claims = match self.calls.claims(part) {
            Ok(claims) => claims,
            Err(Rejected { index, error }) => return Attempt::Culprit(index, error),
        };
        let seen = match self.dedupe.seen(bound.scope, &claims).await {
            Ok(seen) => seen,
            Err(error) => return error.into(),
        };
        // The second of two records with one identity takes the first one's outcome.
        let mut known = HashSet::with_capacity(claims.len());
        let fresh: Vec<bool> =
            claims.iter().zip(seen).map(|(claim, seen)| known.insert(claim.identity.key) && !seen).collect();
        let records: Vec<Record<'_>> =
            part.iter().zip(&fresh).filter(|(_, fresh)| **fresh).map(|(record, _)| record).collect();

        let handled = if records.is_empty() {
            Attempt::Done(Vec::new())
        } else {
            self.calls.attempt(part.with(&records), apart).await
        };
        let mut handled = match handled {
            Attempt::Done(outcomes) => outcomes.into_iter(),
            // Its place among the fresh ones, to its place in the part.
            Attempt::Culprit(index, error) => {
                let place = fresh.iter().enumerate().filter(|(_, fresh)| **fresh).nth(index);
                return Attempt::Culprit(place.map_or(0, |(place, _)| place), error);
            }
            other => return other,
        };
        let mut outcomes = Vec::with_capacity(part.len());
        let mut done = Vec::new();
        for (fresh, claim) in fresh.iter().zip(&claims) {
            let outcome = if *fresh { handled.next() } else { Some(Outcome::Duplicate) };
            let Some(outcome) = outcome else { break };
            if *fresh && outcome.is_finished() {
                done.push(*claim);
            }
            let failed = !outcome.is_finished();
            outcomes.push(outcome);
            if failed && !H::BATCH {
                break;
            }
        }
        match self.mark(part, &done).await {
            true => Attempt::Done(outcomes),
            // The work is done but not noted: it is done again after the drain.
            false => Attempt::Done(Vec::new()),
        }
    }
}

impl<S: Stack, H: Handler> Marked<'_, S, H> {
    /// Notes what was done, for as long as it takes; `false` where the partition
    /// had to be given away before it worked.
    async fn mark(&self, part: Run<'_>, done: &[Claim]) -> bool {
        let mut backoff = crate::backoff::Backoff::new(
            std::time::Duration::from_millis(100),
            std::time::Duration::from_secs(5),
        );
        if done.is_empty() {
            return true;
        }
        let scope = self.calls.parts.bound.scope;
        while let Err(error) = self.dedupe.mark(part.assigned(), scope, done, State::Done).await {
            if part.is_draining() {
                return false;
            }
            tracing::warn!(source = %part.source(), %error, "cannot note what was done; trying again");
            part.wait(backoff.delay()).await;
        }
        true
    }
}

//! A handler without a transaction: look up, handle, mark after.

use super::attempts::{Attempt, Attempts};
use super::calls::Calls;
use crate::dedupe::{Claim, Dedupe, State};
use crate::extract::batch::Rejected;
use crate::handler::Handler;
use crate::middleware::Stack;
use crate::{Outcome, Record, Run};
use std::collections::HashSet;

/// The state of a record before it is handled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Fresh,
    /// Its work is done here, and that could not be noted.
    Unmarked,
    Done,
}

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
        let unmarked = &part.assigned().unmarked;
        // The second of two records with one identity takes the first one's outcome.
        let mut known = HashSet::with_capacity(claims.len());
        let states = claims.iter().zip(seen).map(|(claim, seen)| match known.insert(claim.identity.key) {
            true if seen => Found::Done,
            true if unmarked.contains(bound.scope, claim.identity.key) => Found::Unmarked,
            true => Found::Fresh,
            false => Found::Done,
        });
        let states: Vec<Found> = states.collect();
        let fresh: Vec<bool> = states.iter().map(|state| *state == Found::Fresh).collect();
        let records: Vec<Record<'_>> =
            part.iter().zip(&fresh).filter(|(_, fresh)| **fresh).map(|(record, _)| record).collect();

        let handled = if records.is_empty() {
            Attempt::Done(Vec::new())
        } else {
            self.calls.attempt(part.with(&records), apart).await
        };
        let handled = match handled {
            Attempt::Done(outcomes) => outcomes,
            // Its place among the fresh ones, to its place in the part.
            Attempt::Culprit(index, error) => {
                let place = fresh.iter().enumerate().filter(|(_, fresh)| **fresh).nth(index);
                return Attempt::Culprit(place.map_or(0, |(place, _)| place), error);
            }
            other => return other,
        };
        let (outcomes, done) = joined(&states, &claims, handled, H::BATCH);
        if done.is_empty() {
            return Attempt::Done(outcomes);
        }
        match self.dedupe.mark(part.assigned(), bound.scope, &done, State::Done).await {
            Ok(()) => {
                unmarked.remove(bound.scope, done.iter().map(|claim| claim.identity.key));
                Attempt::Done(outcomes)
            }
            // No record's fault, whatever it is: all comes again, and only the note is tried again.
            Err(error) => {
                unmarked.add(bound.scope, done.iter().map(|claim| claim.identity.key));
                Attempt::Blameless(error)
            }
        }
    }
}

/// The outcomes of a part, of which the fresh ones were handled, and what is to be noted as done.
fn joined(
    states: &[Found],
    claims: &[Claim],
    handled: Vec<Outcome>,
    is_batch: bool,
) -> (Vec<Outcome>, Vec<Claim>) {
    let mut handled = handled.into_iter();
    let (mut outcomes, mut done) = (Vec::with_capacity(claims.len()), Vec::new());
    for (state, claim) in states.iter().zip(claims) {
        let outcome = match state {
            Found::Fresh => handled.next(),
            Found::Unmarked => Some(Outcome::Completed),
            Found::Done => Some(Outcome::Duplicate),
        };
        let Some(outcome) = outcome else { break };
        if *state != Found::Done && outcome.is_finished() {
            done.push(*claim);
        }
        let failed = !outcome.is_finished();
        outcomes.push(outcome);
        if failed && !is_batch {
            break;
        }
    }
    (outcomes, done)
}

//! Copies a record that failed for good to the dead-letter topic.

use super::Stack;
use crate::dedupe::{Claim, State};
use crate::error::reason::{Decision, Reason};
use crate::error::text::capped;
use crate::error::trouble::Cause;
use crate::failure::dead_letter::{self, Letter};
use crate::middleware::bound::{Bound, Parts};
use crate::{Handler, HandlerError, HandlerResult, Outcome, Outcomes, Record, Run};

/// Copies a record that failed for good to the dead-letter topic.
///
/// The record is finished when all in-sync replicas have the copy and its identity is marked as
/// dead-lettered, so that a redelivery does not run after its successors. Until then its
/// partition waits, or with order by key only its key, as long as it takes: a dead-letter topic
/// that is missing, full or forbidden holds the record, and nothing is lost.
///
/// The record leaves its run as failed. Its copy is written in a run of its own, so that other
/// records do not wait for it. The handler is not called again for this record.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeadLetter;

impl DeadLetter {
    pub(super) async fn run<'a, S: Stack, H: Handler>(
        &'a self,
        run: Run<'a>,
        stack: &'a S,
        parts: &'a Parts<H>,
    ) -> Outcomes {
        match run.given_up() {
            Some(error) => put_away(run, error, &parts.bound).await,
            None => mark(stack.run(run, parts).await, &parts.bound),
        }
    }
}

/// Marks the records that failed for good to be dead-lettered, if there is a dead-letter topic.
pub(super) fn mark(mut outcomes: Outcomes, bound: &Bound) -> Outcomes {
    if bound.letters.is_none() {
        return outcomes;
    }
    for outcome in outcomes.iter_mut() {
        if let Outcome::Failed(error) = outcome
            && let Some(given_up) = error.given_up()
        {
            error.decide(Decision::PutAway(given_up));
        }
    }
    outcomes
}

/// Puts away the one record of a run, that was given up by this error.
pub(crate) async fn put_away(run: Run<'_>, error: &HandlerError, bound: &Bound) -> Outcomes {
    let outcome = match copy_and_note(run, error, bound).await {
        Ok(reason) => Outcome::DeadLettered(reason),
        Err(held) => Outcome::Failed(held),
    };
    Outcomes::new(vec![outcome])
}

/// Copies, and notes that, each once at most and not again when it is done.
async fn copy_and_note(run: Run<'_>, error: &HandlerError, bound: &Bound) -> HandlerResult<Reason> {
    let (Some(letters), Some(letter)) = (&bound.letters, letter(run.records()[0], error, bound)) else {
        let problem = format!(
            "a record of handler `{}` was given up, and it has no dead-letter topic: {}",
            bound.name,
            capped(error)
        );
        return Err(HandlerError::held(Cause::Setup, problem));
    };
    if !error.is_copied() {
        dead_letter::put(run, &letter, letters).await?;
        error.note_copied();
    }
    let claim = Claim::new(letter.identity, letter.record);
    let noted = bound.dedupe.mark(run.assigned(), bound.scope, &[claim], State::DeadLettered).await;
    noted.map_err(|error| {
        let (cause, error) = (error.cause(), HandlerError::new(error));
        let problem =
            format!("the copy of a record is in the dead-letter topic, but that is not noted: {error}");
        HandlerError::held(cause, problem)
    })?;
    bound.trials.done(letter.record);
    tracing::warn!(
        record = %letter.record,
        handler = letter.handler,
        reason = letter.reason.as_str(),
        attempts = letter.attempts,
        error = letter.message,
        "dead-lettered"
    );
    Ok(letter.reason)
}

/// What the copy says, if the record was given up.
fn letter<'l>(record: Record<'l>, error: &'l HandlerError, bound: &'l Bound) -> Option<Letter<'l>> {
    let given_up = error.given_up()?;
    Some(Letter {
        record,
        group: &bound.group,
        handler: &bound.name,
        reason: given_up.reason,
        class: error.class(),
        message: capped(error),
        schema: error.schema(),
        attempts: given_up.attempts,
        first_failure: given_up.first_failure,
        identity: bound.identity_of(record),
    })
}

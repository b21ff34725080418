//! Puts a copy of a record that was given up into the dead-letter topic.

use super::Stack;
use crate::backoff::Backoff;
use crate::dead_letter::{Letter, RouteLetters, is_settled};
use crate::dedupe::{Claim, State};
use crate::error::Decision;
use crate::failure::{GivenUp, Reason, capped};
use crate::route::{Bound, Parts};
use crate::trials::Trial;
use crate::{Handler, HandlerError, Outcome, Outcomes, Record, Run};
use std::time::{Duration, Instant};

/// Puts a copy of a record that was given up into the dead-letter topic.
///
/// The record is finished when all in-sync replicas have the copy and its identity
/// is noted as dead-lettered, so that a redelivery does not run after its
/// successors. Until then its partition waits, for as long as it takes: a
/// dead-letter topic that is missing, full or forbidden holds the record, and loses
/// nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeadLetter;

impl DeadLetter {
    pub(super) async fn run<'a, S: Stack, H: Handler>(
        &'a self,
        run: Run<'a>,
        stack: &'a S,
        parts: &'a Parts<H>,
    ) -> Outcomes {
        let mut outcomes = stack.run(run, parts).await;
        let Some(letters) = &parts.bound.letters else { return outcomes };
        for (record, outcome) in run.iter().zip(outcomes.iter_mut()) {
            let Outcome::Failed(error) = outcome else { continue };
            let Some(given_up) = error.given_up() else { continue };
            if run.is_side_by_side() && run.len() > 1 {
                // The other lanes of the run do not wait for a dead-letter topic.
                error.decide(Decision::PutAwayApart(given_up));
            } else if let Some(letter) = letter(record, error, &parts.bound) {
                *outcome = put_away(run, letter, letters, &parts.bound).await;
            }
        }
        outcomes
    }
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
        attempts: given_up.trial.attempts,
        first_failure: given_up.trial.first_failure,
        identity: bound.identity_of(record),
    })
}

/// Puts away a record at which the process ended so many times, untried.
pub(crate) async fn condemn(run: Run<'_>, starts: u32, bound: &Bound) -> Outcomes {
    let problem =
        format!("the process ended {starts} times while it tried this record, so it is not tried again");
    let mut error = HandlerError::new(problem).permanent();
    error.decide(Decision::GiveUp(GivenUp { reason: Reason::MaxStarts, trial: Trial::of(starts) }));
    let outcome = give_up(run, &error, bound).await;
    Outcomes::new(vec![outcome.unwrap_or(Outcome::Failed(error))])
}

/// Puts away the one record of a run, if there is where to.
pub(crate) async fn give_up(run: Run<'_>, error: &HandlerError, bound: &Bound) -> Option<Outcome> {
    let (letters, letter) = (bound.letters.as_ref()?, letter(run.records()[0], error, bound)?);
    Some(put_away(run, letter, letters, bound).await)
}

/// Copies and notes, each for as long as it takes, or until the partition is given
/// away.
async fn put_away(run: Run<'_>, letter: Letter<'_>, letters: &RouteLetters, bound: &Bound) -> Outcome {
    if letter.reason != Reason::MaxStarts {
        run.assigned().notes.survived(letter.record.offset());
    }
    if !is_settled(run).await {
        return Outcome::NotReached;
    }
    let mut hold = Hold::new(letter.record);
    while let Err(error) = letters.put(&letter).await {
        if hold.on(run, "no copy in the dead-letter topic", &error).await.is_none() {
            return Outcome::NotReached;
        }
    }
    let claim = Claim::new(letter.identity, letter.record);
    while let Err(error) = bound.dedupe.mark(run.assigned(), bound.scope, &[claim], State::DeadLettered).await
    {
        if hold.on(run, "its copy is in the dead-letter topic, but that is not noted", &error).await.is_none()
        {
            return Outcome::NotReached;
        }
    }
    bound.trials.done(letter.record);
    tracing::warn!(
        record = %letter.record,
        handler = letter.handler,
        reason = letter.reason.as_str(),
        attempts = letter.attempts,
        error = letter.message,
        "dead-lettered"
    );
    Outcome::DeadLettered(letter.reason)
}

/// A record that holds its partition, where one can see it.
struct Hold<'r> {
    record: Record<'r>,
    backoff: Backoff,
    said: Option<Instant>,
}

/// What holds it.
type Cause = dyn std::error::Error + Send + Sync + 'static;

const SAID_AGAIN_AFTER: Duration = Duration::from_secs(30);

impl<'r> Hold<'r> {
    fn new(record: Record<'r>) -> Self {
        Self { record, backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)), said: None }
    }

    /// Waits a little; `None` where the partition is being given away.
    async fn on(&mut self, run: Run<'_>, what: &str, error: &Cause) -> Option<()> {
        if self.said.is_none_or(|said| said.elapsed() > SAID_AGAIN_AFTER) {
            self.said = Some(Instant::now());
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            tracing::error!(record = %self.record, %error, cause, "{what}; its partition waits");
        }
        run.wait(self.backoff.delay()).await;
        (!run.is_draining()).then_some(())
    }
}

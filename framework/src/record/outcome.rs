//! How records ended.

use crate::{HandlerError, HandlerResult, Reason, Run};
use std::borrow::Cow;

/// How one record ended.
///
/// All but [`Failed`](Outcome::Failed) and [`NotReached`](Outcome::NotReached) finish the
/// record's offset. These two exist inside a run only: a record that has one when the run comes
/// back to its worker is run again.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The handler did its work, and the work is durable.
    Completed,
    /// A record with the same identity was processed before.
    Duplicate,
    /// Deliberately not handled, with the reason.
    Skipped(Cow<'static, str>),
    /// It failed for good, for this reason. Its copy is in the dead-letter topic, acknowledged
    /// by all in-sync replicas.
    DeadLettered(Reason),
    /// The handler failed.
    Failed(HandlerError),
    /// The run ended before this record; the next run has it.
    NotReached,
}

impl Outcome {
    /// Skips the record on purpose, with a reason that is logged and counted.
    pub fn skipped(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Skipped(reason.into())
    }

    /// Whether the record's offset may be committed.
    pub fn is_finished(&self) -> bool {
        !matches!(self, Self::Failed(_) | Self::NotReached)
    }

    /// What a handler of several records says of all, once for each.
    pub(crate) fn same_for_all(&self) -> HandlerResult<Self> {
        match self {
            Self::Completed => Ok(Self::Completed),
            Self::Duplicate => Ok(Self::Duplicate),
            Self::Skipped(reason) => Ok(Self::Skipped(reason.clone())),
            Self::DeadLettered(_) | Self::NotReached | Self::Failed(_) => {
                Err(HandlerError::new(format!("a handler cannot end its records as {}", self.name())))
            }
        }
    }

    /// The outcome's name in logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Duplicate => "duplicate",
            Self::Skipped(_) => "skipped",
            Self::DeadLettered(_) => "dead_lettered",
            Self::Failed(_) => "failed",
            Self::NotReached => "not_reached",
        }
    }
}

impl From<Result<Outcome, HandlerError>> for Outcome {
    fn from(result: Result<Outcome, HandlerError>) -> Self {
        result.unwrap_or_else(Outcome::Failed)
    }
}

/// The outcomes of a [`Run`], one per record, in the run's order.
#[derive(Debug)]
pub struct Outcomes(Vec<Outcome>);

impl Outcomes {
    /// Takes one outcome per record, in the run's order. The worker treats a record without an
    /// outcome as not reached.
    pub fn new(outcomes: Vec<Outcome>) -> Self {
        Self(outcomes)
    }

    /// The outcomes of a run of which no record was reached.
    pub fn not_reached(run: Run<'_>) -> Self {
        Self(run.iter().map(|_| Outcome::NotReached).collect())
    }

    /// The outcomes, in the run's order.
    pub fn iter(&self) -> std::slice::Iter<'_, Outcome> {
        self.0.iter()
    }

    /// The outcomes, mutable.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Outcome> {
        self.0.iter_mut()
    }

    /// The number of outcomes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no outcomes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The place of the first record that failed.
    pub(crate) fn first_failed(&self) -> Option<usize> {
        self.0.iter().position(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// One outcome for each of so many records, whatever a middleware gave.
    pub(crate) fn fit(mut self, len: usize) -> Self {
        self.0.resize_with(len, || Outcome::NotReached);
        self
    }

    pub(crate) fn append(&mut self, mut more: Outcomes) {
        self.0.append(&mut more.0);
    }
}

impl IntoIterator for Outcomes {
    type Item = Outcome;
    type IntoIter = std::vec::IntoIter<Outcome>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'o> IntoIterator for &'o Outcomes {
    type Item = &'o Outcome;
    type IntoIter = std::slice::Iter<'o, Outcome>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

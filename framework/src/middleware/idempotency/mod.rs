//! Deduplicates records.

#[cfg(feature = "postgres")]
mod alone;
mod attempts;
mod calls;
mod marks;
#[cfg(feature = "postgres")]
mod savepoints;
#[cfg(feature = "postgres")]
mod transaction;

use super::{Stack, put_away};
use crate::dedupe::Dedupe;
use crate::middleware::bound::Parts;
use crate::{Handler, Outcomes, Run};
use calls::Calls;

#[cfg(feature = "postgres")]
pub(crate) use alone::Alone;
#[cfg(feature = "postgres")]
pub(crate) use savepoints::Savepoints;

/// Does nothing twice, and is where a run becomes calls of the handler.
///
/// How depends on the handler and on the application's dedupe setting:
///
/// - **A handler that takes a transaction** (PostgreSQL): one transaction for the
///   run claims the identities of all its records, runs the handler for each
///   fresh one, and commits once. Effects and the note that they were done are
///   one; see `transaction.rs`.
/// - **Any other handler**: looks up the identities of the run, handles the fresh
///   ones, marks them after success. Never before: a crash would lose the event.
///   So a crash between the work and the mark repeats the work.
/// - **With dedupe off**: handles all. At least once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Idempotency;

impl Idempotency {
    pub(super) async fn run<'a, S: Stack, H: Handler>(
        &'a self,
        run: Run<'a>,
        stack: &'a S,
        parts: &'a Parts<H>,
    ) -> Outcomes {
        if let Some(error) = run.given_up() {
            // Its list has no `DeadLetter`, or it has no dead-letter topic.
            return put_away(run, error, &parts.bound).await;
        }
        let calls = Calls::new(stack, parts);
        match &parts.bound.dedupe {
            #[cfg(feature = "postgres")]
            Dedupe::Postgres(postgres) if H::TRANSACTION => {
                attempts::drive(run, &transaction::InTransaction::new(&calls, postgres)).await
            }
            Dedupe::Off => attempts::drive(run, &calls).await,
            dedupe => attempts::drive(run, &marks::Marked::new(&calls, dedupe)).await,
        }
    }
}

//! Gets runs of a route's records from the router, gives their outcomes: through its middleware to the handler.

use super::order::Sharing;
use crate::dedupe::Dedupe;
use crate::error::panic::unpanicked;
use crate::handler::Handler;
use crate::middleware::bound::Parts;
use crate::middleware::{Layer, Stack, after_panic, put_away};
use crate::{HandlerError, Outcome, Outcomes, Record, Run};
use std::future::Future;
use std::pin::Pin;

/// A route of any handler, as the router calls it: erased once a run.
pub(crate) trait Handle: Send + Sync {
    fn handle<'a>(&'a self, run: Run<'a>) -> Pin<Box<dyn Future<Output = Outcomes> + Send + 'a>>;

    /// Whether several lanes share a run.
    fn sharing(&self) -> Sharing;

    /// The record's dedupe key, if deduplication is on.
    fn identity(&self, record: Record<'_>) -> Option<u128>;
}

pub(super) struct BoundRoute<H, S> {
    pub(super) stack: S,
    pub(super) parts: Parts<H>,
}

/// What may panic beside the calls of the handler, as the error names it.
const OUTSIDE: &str = "a middleware around the run, or an error's own code,";

impl<H: Handler, S: Stack> BoundRoute<H, S> {
    fn layers(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        self.stack.layers(&mut layers);
        layers
    }

    /// Finds the record at which a run panicked, by handling each alone. What was done before is
    /// done again, as after the end of the process.
    async fn after_panic(&self, run: Run<'_>, panic: HandlerError) -> Outcomes {
        if run.len() == 1 {
            return self.panicked(run, panic).await;
        }
        if let Some(done) = run.told() {
            // It tells how far it came, and other lanes have left it by that.
            let mut outcomes = Outcomes::new((0..done).map(|_| Outcome::Completed).collect());
            if let Some(record) = run.records().get(done) {
                outcomes.append(self.panicked(run.with(std::slice::from_ref(record)), panic).await);
            }
            return outcomes.fit(run.len());
        }
        let mut outcomes = Outcomes::new(Vec::with_capacity(run.len()));
        for (index, record) in run.records().iter().enumerate() {
            let one = run.with(std::slice::from_ref(record));
            let ended = match unpanicked(OUTSIDE, self.stack.run(one, &self.parts)).await {
                Ok(outcomes) => outcomes.fit(1),
                Err(panic) => self.panicked(one, panic).await,
            };
            let is_finished = ended.iter().all(Outcome::is_finished);
            outcomes.append(ended);
            if !is_finished || (index + 1 < run.len() && run.should_stop()) {
                break;
            }
        }
        outcomes.fit(run.len())
    }

    async fn panicked(&self, one: Run<'_>, panic: HandlerError) -> Outcomes {
        let bound = &self.parts.bound;
        match one.given_up() {
            // Past what panics.
            Some(error) => put_away(one, error, bound).await,
            None => after_panic(one, panic, bound, &self.layers()),
        }
    }
}

impl<H: Handler, S: Stack> Handle for BoundRoute<H, S> {
    fn handle<'a>(&'a self, run: Run<'a>) -> Pin<Box<dyn Future<Output = Outcomes> + Send + 'a>> {
        Box::pin(async move {
            let outcomes = match unpanicked(OUTSIDE, self.stack.run(run, &self.parts)).await {
                Ok(outcomes) => outcomes,
                Err(panic) => Box::pin(self.after_panic(run, panic)).await,
            };
            self.parts.bound.left_out.add(run, &outcomes);
            self.parts.bound.counts.add(run, &outcomes);
            outcomes
        })
    }

    fn sharing(&self) -> Sharing {
        let layers = self.layers();
        if H::BATCH || H::TRANSACTION {
            Sharing::Always
        } else if matches!(self.parts.bound.dedupe, Dedupe::Off)
            && !layers.iter().any(|layer| matches!(layer, Layer::Around(_)))
        {
            Sharing::WhileQuick
        } else {
            Sharing::Never
        }
    }

    fn identity(&self, record: Record<'_>) -> Option<u128> {
        let bound = &self.parts.bound;
        (!matches!(bound.dedupe, Dedupe::Off)).then(|| bound.identity_of(record).key)
    }
}

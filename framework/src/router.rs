//! Gets a run, gives each stretch of it to the handler that takes it.

use crate::dead_letter::{self, Letter, RouteLetters};
#[cfg(feature = "schemas")]
use crate::dedupe::StoreError;
use crate::error::Error;
use crate::event_type::EventType;
use crate::extract::Context;
use crate::failure::Reason;
use crate::handler::Tombstones;
#[cfg(feature = "schemas")]
use crate::middleware::idempotency::Pause;
use crate::order::{Guarantee, Order, Sharing, Turns};
use crate::route::Handle;
use crate::{HandlerError, Outcome, Outcomes, Record, Run};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// What happens to a record that no handler of its topic takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unmatched {
    /// The application stops with an error that names the record. The default: a
    /// type that nobody handles is a handler that was forgotten, until said
    /// otherwise.
    #[default]
    Stop,
    /// It is skipped and counted.
    Skip,
    /// A copy goes to the dead-letter topic.
    DeadLetter,
}

/// What is said of topics, each by its name or by a pattern as a handler has it.
#[derive(Default)]
pub(crate) struct Policies {
    pub(crate) event_types: HashMap<String, EventType>,
    pub(crate) unmatched: HashMap<String, Unmatched>,
}

/// The handlers of one topic.
pub(crate) struct Router {
    pub(crate) group: Arc<str>,
    pub(crate) routes: Vec<EventRoute>,
    pub(crate) order: Order,
    pub(crate) guarantee: Guarantee,
    /// Where the order allows several runs at once.
    pub(crate) turns: Turns,
    pub(crate) max_run_records: Option<usize>,
    pub(crate) max_starts: u32,
    pub(crate) event_type: EventType,
    /// For event types that are told by schemas.
    pub(crate) context: Arc<Context>,
    pub(crate) unmatched: Unmatched,
    pub(crate) letters: RouteLetters,
    /// Where a reason to stop the application goes.
    pub(crate) stop: UnboundedSender<Error>,
}

/// A handler and the event type that it takes.
pub(crate) struct EventRoute {
    pub(crate) event: Option<String>,
    pub(crate) tombstones: Tombstones,
    pub(crate) route: Arc<dyn Handle>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Route(usize),
    Tombstone,
    Nobody,
}

impl Router {
    /// Handles a run. Where its records belong to several handlers, each stretch
    /// of one handler's records is a run of its own, one after the other: order
    /// within a partition holds across handlers.
    pub(crate) async fn handle(&self, run: Run<'_>) -> Outcomes {
        if let Some(only) = self.only() {
            return only.handle(run).await;
        }
        if !self.know_events(run).await {
            return Outcomes::not_reached(run);
        }
        let targets: Vec<Target> = run.iter().map(|record| self.target(record)).collect();
        let mut outcomes = Outcomes::new(Vec::with_capacity(run.len()));
        while outcomes.len() < run.len() {
            let start = outcomes.len();
            let target = targets[start];
            let end =
                targets[start..].iter().position(|other| *other != target).map_or(run.len(), |n| start + n);
            let stretch = run.with(&run.records()[start..end]);
            let ended = match target {
                Target::Route(index) => self.routes[index].route.handle(stretch).await,
                Target::Tombstone => skip_all(stretch, "tombstone"),
                Target::Nobody => self.unmatched(stretch).await,
            };
            let finished = ended.iter().all(Outcome::is_finished);
            outcomes.append(ended);
            if !finished || ((run.should_stop() || run.is_cut()) && outcomes.len() < run.len()) {
                break;
            }
        }
        let reached = outcomes.len();
        outcomes.append(Outcomes::not_reached(run.with(&run.records()[reached..])));
        outcomes
    }

    /// Gives up a record at which the process ended so many times.
    pub(crate) async fn condemn(&self, run: Run<'_>, starts: u32) -> Outcomes {
        if !self.know_events(run).await {
            return Outcomes::not_reached(run);
        }
        match self.target(run.records()[0]) {
            Target::Route(index) => self.routes[index].route.condemn(run, starts).await,
            Target::Tombstone | Target::Nobody => self.handle(run).await,
        }
    }

    /// Puts away a record that was given up in a run of others.
    pub(crate) async fn give_up(&self, run: Run<'_>, error: &HandlerError) -> Outcomes {
        if !self.know_events(run).await {
            return Outcomes::not_reached(run);
        }
        match self.target(run.records()[0]) {
            Target::Route(index) => self.routes[index].route.give_up(run, error).await,
            Target::Tombstone | Target::Nobody => self.handle(run).await,
        }
    }

    /// Whether several lanes share a run.
    pub(crate) fn sharing(&self) -> Sharing {
        match self.only() {
            Some(only) => only.sharing(),
            None if self.routes.iter().any(|route| route.route.sharing() == Sharing::Always) => {
                Sharing::Always
            }
            None => Sharing::Never,
        }
    }

    /// The route that takes every record, if there is one.
    fn only(&self) -> Option<&dyn Handle> {
        match &self.routes[..] {
            [only] if only.event.is_none() && only.tombstones == Tombstones::Handle => Some(&*only.route),
            _ => None,
        }
    }

    /// What copies of the record share, where it is noted what was done.
    pub(crate) fn identity(&self, record: Record<'_>) -> Option<u128> {
        match self.target(record) {
            Target::Route(index) => self.routes[index].route.identity(record),
            Target::Tombstone | Target::Nobody => None,
        }
    }

    /// Looks up what event types need; `false` where the partition is given away meanwhile.
    async fn know_events(&self, run: Run<'_>) -> bool {
        #[cfg(feature = "schemas")]
        for record in run.iter() {
            let mut pause = Pause::default();
            while let Some(lookup) = self.event_type.needs(record, &self.context) {
                let looked_up = tokio::select! {
                    looked_up = self.context.look_up(&lookup) => looked_up,
                    () = run.is_to_drain() => return false,
                };
                if let Err(outage) = looked_up {
                    pause.until_it_may_work(run, &StoreError::Outage(outage)).await;
                }
            }
        }
        let _ = run;
        true
    }

    fn target(&self, record: Record<'_>) -> Target {
        let event = self.event_type.of(record, &self.context);
        let takes = |route: &EventRoute| match &route.event {
            None => true,
            Some(takes) => event.as_deref() == Some(takes),
        };
        match self.routes.iter().position(takes) {
            None => Target::Nobody,
            Some(index)
                if record.payload().is_none() && self.routes[index].tombstones == Tombstones::Skip =>
            {
                Target::Tombstone
            }
            Some(index) => Target::Route(index),
        }
    }

    /// Copies each record, and finishes those whose copy all in-sync replicas have.
    async fn put_away<'r>(&self, stretch: Run<'r>, letter: impl Fn(Record<'r>) -> Letter<'r>) -> Outcomes {
        let mut outcomes = Vec::with_capacity(stretch.len());
        if !dead_letter::is_settled(stretch).await {
            return Outcomes::new(outcomes).fit(stretch.len());
        }
        for record in stretch.iter() {
            match self.letters.put(&letter(record)).await {
                Ok(()) => outcomes.push(Outcome::DeadLettered(Reason::Unmatched)),
                Err(error) => {
                    outcomes.push(Outcome::Failed(HandlerError::new(error)));
                    break;
                }
            }
        }
        Outcomes::new(outcomes).fit(stretch.len())
    }

    async fn unmatched(&self, stretch: Run<'_>) -> Outcomes {
        let event = |record: Record<'_>| {
            self.event_type.of(record, &self.context).unwrap_or("none".into()).into_owned()
        };
        match self.unmatched {
            Unmatched::Skip => skip_all(stretch, "no handler takes it"),
            Unmatched::DeadLetter => {
                let letter = |record| dead_letter::unmatched(record, stretch, &event(record));
                self.put_away(stretch, letter).await
            }
            Unmatched::Stop => {
                let record = stretch.records()[0];
                let error = Error::Unmatched {
                    group: self.group.to_string(),
                    topic: record.topic().to_owned(),
                    partition: record.partition(),
                    offset: record.offset(),
                    event: event(record),
                };
                let failed = Outcome::Failed(HandlerError::new(error.to_string()).permanent());
                // Nobody listens only if the application is stopping already.
                let _ = self.stop.send(error);
                let mut outcomes = Outcomes::new(vec![failed]);
                outcomes.append(Outcomes::not_reached(stretch.with(&stretch.records()[1..])));
                outcomes
            }
        }
    }
}

fn skip_all(stretch: Run<'_>, reason: &'static str) -> Outcomes {
    tracing::debug!(source = %stretch.source(), records = stretch.len(), reason, "skipped");
    Outcomes::new(stretch.iter().map(|_| Outcome::skipped(reason)).collect())
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Router({} handlers)", self.routes.len())
    }
}

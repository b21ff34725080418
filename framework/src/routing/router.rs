//! Gets a run, gives each stretch of it to the handler that takes it.

use crate::config::{Guarantee, Order};
#[cfg(feature = "schemas")]
use crate::dedupe::StoreError;
use crate::error::Error;
use crate::error::reason::{Decision, Reason};
use crate::extract::Context;
use crate::failure::dead_letter::{self, RouteLetters};
use crate::failure::trials::Trial;
use crate::handler::Tombstones;
use crate::routing::bound_route::Handle;
use crate::routing::event_type::EventType;
use crate::routing::order::{Sharing, Turns};
use crate::{HandlerError, Outcome, Outcomes, Record, Run};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// The policy for a record that no handler of its topic takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unmatched {
    /// The application stops with an error that names the record. The default, because an event
    /// type without a handler is usually a forgotten handler.
    #[default]
    Stop,
    /// It is skipped and counted.
    Skip,
    /// A copy goes to the dead-letter topic.
    DeadLetter,
}

/// The policies for topics, each by its name or by a pattern as a handler has it.
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
    /// What tells its event type panics.
    Unknown,
}

impl Router {
    /// Handles a run. Where its records belong to several handlers, each stretch
    /// of one handler's records is a run of its own, one after the other: order
    /// within a partition holds across handlers.
    pub(crate) async fn handle(&self, run: Run<'_>) -> Outcomes {
        if let Some(only) = self.only() {
            return only.handle(run).await;
        }
        let all = run;
        let run = match self.know_events(run).await {
            Ok(()) => run,
            Err((0, held)) => return Outcomes::new(vec![Outcome::Failed(held)]).fit(run.len()),
            // What it needs is met again, first in a later run.
            Err((known, _)) => run.with(&run.records()[..known]),
        };
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
                Target::Unknown if run.given_up().is_some() => self.routes[0].route.handle(stretch).await,
                Target::Unknown => self.rejected(stretch),
            };
            let finished = ended.iter().all(Outcome::is_finished);
            outcomes.append(ended);
            if !finished || ((run.should_stop() || run.is_cut()) && outcomes.len() < run.len()) {
                break;
            }
        }
        outcomes.fit(all.len())
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

    /// The record's dedupe key, if deduplication is on.
    pub(crate) fn identity(&self, record: Record<'_>) -> Option<u128> {
        match self.target(record) {
            Target::Route(index) => self.routes[index].route.identity(record),
            Target::Tombstone | Target::Nobody | Target::Unknown => None,
        }
    }

    /// Looks up what event types need.
    ///
    /// # Errors
    /// What holds a record, and how many stand before it whose types are known.
    async fn know_events(&self, run: Run<'_>) -> Result<(), (usize, HandlerError)> {
        #[cfg(feature = "schemas")]
        for (known, record) in run.iter().enumerate() {
            let mut before = None;
            while let Some(lookup) = self.event_type.needs(record, &self.context) {
                let looked_up = self.context.look_up_next(&lookup, run, &mut before).await;
                looked_up.map_err(|error| {
                    let error = StoreError::Outage(error);
                    (known, HandlerError::held(error.cause(), error))
                })?;
            }
        }
        let _ = run;
        Ok(())
    }

    fn target(&self, record: Record<'_>) -> Target {
        let Ok(event) = self.event_type.of(record, &self.context) else { return Target::Unknown };
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

    /// Copies the one record of a run, and finishes it when all in-sync replicas have the copy.
    async fn put_away(&self, run: Run<'_>) -> Outcomes {
        let record = run.records()[0];
        let letter = dead_letter::unmatched(record, run, &self.event_of(record));
        Outcomes::new(vec![match dead_letter::put(run, &letter, &self.letters).await {
            Ok(()) => Outcome::DeadLettered(Reason::Unmatched),
            Err(held) => Outcome::Failed(held),
        }])
    }

    fn event_of<'a>(&self, record: Record<'a>) -> Cow<'a, str> {
        self.event_type.of(record, &self.context).ok().flatten().unwrap_or("none".into())
    }

    /// Those whose event type cannot be told are given up, to the first handler's dead letters.
    fn rejected(&self, stretch: Run<'_>) -> Outcomes {
        let rejected = |record| {
            let error = self.event_type.of(record, &self.context).err();
            to_be_put_away(error.unwrap_or_else(|| HandlerError::new("no event type")), Reason::Rejected, 1)
        };
        Outcomes::new(stretch.iter().map(rejected).collect())
    }

    async fn unmatched(&self, stretch: Run<'_>) -> Outcomes {
        match self.unmatched {
            Unmatched::Skip => skip_all(stretch, "no handler takes it"),
            Unmatched::DeadLetter if stretch.given_up().is_some() => self.put_away(stretch).await,
            Unmatched::DeadLetter => {
                let unmatched =
                    |_| to_be_put_away(HandlerError::new("no handler takes it"), Reason::Unmatched, 0);
                Outcomes::new(stretch.iter().map(unmatched).collect())
            }
            Unmatched::Stop => {
                let record = stretch.records()[0];
                let error = Error::Unmatched {
                    group: self.group.to_string(),
                    topic: record.topic().to_owned(),
                    partition: record.partition(),
                    offset: record.offset(),
                    event: self.event_of(record).into_owned(),
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

/// A record that was given up before any handler was called, after so many attempts.
fn to_be_put_away(mut error: HandlerError, reason: Reason, attempts: u32) -> Outcome {
    error.decide(Decision::PutAway(Trial::of(attempts).given_up(reason)));
    Outcome::Failed(error)
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

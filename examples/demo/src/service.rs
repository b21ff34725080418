//! The service: a handler, its state, and the application.

use crate::departure::Departure;
use crate::view::{Attempts, Progress, View};
use onceward::DedupeKind;
use onceward::prelude::*;
use onceward::testing::TestBroker;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) const TOPIC: &str = "departures";
pub(crate) const GROUP: &str = "logbook";

/// Writes a departure to its plane's logbook.
#[handler(topic = "departures", group = "logbook")]
async fn on_departure(
    Json(departure): Json<Departure>,
    attempt: Attempt,
    logbook: State<Arc<Logbook>>,
) -> HandlerResult<Outcome> {
    if departure.is_cancelled() {
        return Ok(Outcome::skipped("cancelled"));
    }
    if departure.is_of_no_known_plane() {
        return Err(HandlerError::new("no such plane").permanent());
    }
    ask_for_weather(&departure, attempt)?;
    logbook.add(&departure);
    Ok(Outcome::Completed)
}

/// Simulates a remote service that sometimes does not answer: once for some flights, twice for
/// others.
fn ask_for_weather(departure: &Departure, Attempt(attempt): Attempt) -> Result<(), &'static str> {
    let unanswered = match departure.flight % 300 {
        0 => 2,
        150 => 1,
        _ => 0,
    };
    if attempt <= unanswered { Err("the weather service did not answer") } else { Ok(()) }
}

/// The departures of each plane, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Logbook(Mutex<Planes>);

pub(crate) type Planes = BTreeMap<String, Plane>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plane {
    pub(crate) departures: Vec<String>,
    pub(crate) miles: u64,
}

impl Logbook {
    pub(crate) fn add(&self, departure: &Departure) {
        let mut planes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let plane = planes.entry(departure.tailnum.clone()).or_default();
        plane.departures.push(departure.id());
        plane.miles += departure.distance;
    }

    pub(crate) fn planes(&self) -> Planes {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The application. Processed records are recorded in memory, because a demo has no PostgreSQL;
/// a restart would forget them.
pub(crate) fn app(broker: &TestBroker, view: &Arc<View>, logbook: &Arc<Logbook>) -> App {
    let route = on_departure {}.route().around(Progress(view.clone())).middleware(Attempts(view.clone()));
    broker.app().dedupe(DedupeKind::Memory).state(logbook.clone()).handler(route)
}

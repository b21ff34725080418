//! A producer that sends some of its events twice.

use crate::departure::Departure;
use crate::service::TOPIC;
use onceward::Error;
use onceward::testing::{TestBroker, TestRecord};
use std::time::Duration;

/// A text for the reader.
pub(crate) const PLAN: &str = "2000 departures of 2013 are sent to it. After every 400 the \
                               producer starts again, and sends its last 20 once more. A few \
                               are broken off, and a few are of a plane that nobody knows.";
const UNTIL_RESTART: usize = 400;
const SENT_AGAIN: usize = 20;

/// 400 records a second.
const AT_ONCE: usize = 20;
const TICK: Duration = Duration::from_millis(50);

/// All records that it will send, in order.
pub(crate) fn plan(departures: &[Departure]) -> Vec<&Departure> {
    let lives = departures.chunks(UNTIL_RESTART);
    lives.flat_map(|sent| sent.iter().chain(&sent[sent.len().saturating_sub(SENT_AGAIN)..])).collect()
}

/// Sends it, at an even pace.
pub(crate) async fn send(broker: &TestBroker, plan: &[&Departure]) -> Result<(), Error> {
    let mut ticks = tokio::time::interval(TICK);
    for departures in plan.chunks(AT_ONCE) {
        ticks.tick().await;
        broker.produce(TOPIC, departures.iter().map(|departure| record(departure))).await?;
    }
    Ok(())
}

/// The two headers are its identity, in the form of CloudEvents, which Onceward looks for by
/// default.
fn record(departure: &Departure) -> TestRecord {
    let mut payload = serde_json::to_vec(departure).expect("a struct of numbers and texts has a JSON");
    if departure.is_garbled() {
        payload.truncate(payload.len() / 2);
    }
    TestRecord::new(payload)
        .key(&*departure.tailnum)
        .header("ce_source", "/flights")
        .header("ce_id", departure.id())
}

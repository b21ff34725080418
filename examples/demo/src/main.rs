//! See Onceward work, with nothing to install but a compiler: a service, an
//! embedded Kafka, and real flights.
//!
//! ```text
//! make demo
//! ```
//!
//! A producer (`producer.rs`) sends 2,000 departures and restarts now and then, so that some of
//! them come twice. The service (`service.rs`) keeps a logbook of each plane. Two middleware
//! (`view.rs`), written as a user of Onceward writes them, print the progress. At the end the
//! logbook is compared with the file: the demo fails if an event was lost, handled twice or
//! handled out of its plane's order.

mod departure;
mod producer;
mod report;
mod service;
mod view;

use onceward::BoxError;
use onceward::testing::{TestBroker, run_until};
use service::Logbook;
use std::process::ExitCode;
use std::sync::Arc;
use view::{BOLD, DIM, View, say};

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let departures = departure::read(2000)?;
    let records = producer::plan(&departures);
    let broker = TestBroker::start()?;
    broker.topic(service::TOPIC, 4)?;
    broker.topic(&format!("{}.dlq", service::TOPIC), 1)?;
    say(&format!("{BOLD}An embedded Kafka is at {}.{BOLD:#}\n{}", broker.brokers(), producer::PLAN));

    let (view, logbook) = (Arc::new(View::new(records.len())), Arc::new(Logbook::default()));
    let app = service::app(&broker, &view, &logbook);
    run_until(app, async {
        producer::send(&broker, &records).await?;
        broker.caught_up(service::GROUP, service::TOPIC).await
    })
    .await?;

    let right = report::report(&departures, records.len(), &view.tally(), &logbook);
    say(&format!(
        "{DIM}The handler is in examples/demo/src/service.rs, the middleware that printed this in view.rs.{DIM:#}"
    ));
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

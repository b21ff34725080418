//! Several event types on one topic, each with its own handler. The handlers share
//! the group, so the order of a key holds across them.
//!
//! ```text
//! cargo run -p basics --example event_types
//! ```

#![allow(clippy::print_stdout, reason = "an example prints")]

use onceward::prelude::*;
use onceward::testing::{TestBroker, TestRecord, run_until};
use serde::Deserialize;

#[derive(Deserialize)]
struct Departed {
    origin: String,
}

#[derive(Deserialize)]
struct Landed {
    dest: String,
}

#[handler(topic = "planes", group = "tower", event = "plane.departed")]
async fn on_departed(Key(plane): Key<String>, Json(event): Json<Departed>) {
    println!("{plane} left {}", event.origin);
}

#[handler(topic = "planes", group = "tower", event = "plane.landed")]
async fn on_landed(Key(plane): Key<String>, Json(event): Json<Landed>) {
    println!("{plane} is in {}", event.dest);
}

#[tokio::main]
async fn main() -> Result<(), onceward::Error> {
    // Logs INFO and above. Without a subscriber, Onceward logs nothing.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let broker = TestBroker::start()?;
    broker.topic("planes", 3)?;
    let event = |of_type, json| TestRecord::new(json).key("N14228").header("ce_type", of_type);
    let events = [
        event("plane.departed", r#"{"origin": "EWR"}"#),
        event("plane.painted", r#"{"colour": "blue"}"#),
        event("plane.landed", r#"{"dest": "IAH"}"#),
    ];
    broker.produce("planes", events).await?;

    let app = broker
        .app()
        // The default, since CloudEvents have it there. In the payload: `EventType::field("type")`.
        .event_type("planes", EventType::header("ce_type"))
        // Without this, a type that no handler takes stops the application.
        .unmatched("planes", Unmatched::Skip)
        .handler(on_departed {})
        .handler(on_landed {});
    run_until(app, broker.caught_up("tower", "planes")).await
}

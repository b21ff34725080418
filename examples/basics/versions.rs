//! An event whose type has changed twice. Old records are decoded as the old types and converted to
//! today's type, the only one that the handler knows.
//!
//! ```text
//! cargo run -p basics --example versions
//! ```

#![allow(clippy::print_stdout, reason = "an example prints")]

use onceward::prelude::*;
use onceward::testing::{TestBroker, TestRecord, run_until};
use serde::Deserialize;

/// The first version, which has no version header.
#[derive(Deserialize)]
struct DelayV1 {
    hours: f64,
}

#[derive(Deserialize)]
struct DelayV2 {
    minutes: i64,
}

/// The type of today.
#[derive(Deserialize)]
struct Delay {
    minutes: i64,
    reason: String,
}

fn in_minutes(old: DelayV1) -> DelayV2 {
    DelayV2 { minutes: (old.hours * 60.0).round() as i64 }
}

fn without_reason(old: DelayV2) -> Delay {
    Delay { minutes: old.minutes, reason: "unknown".into() }
}

onceward::versions! {
    Delay by header "version", else 1;
    1 => DelayV1;
    2 => DelayV2 from in_minutes;
    3 => Delay from without_reason;
}

#[handler(topic = "delays", group = "board")]
async fn on_delay(Upcast(Json(delay)): Upcast<Json<Delay>>) {
    println!("{} minutes late, reason: {}", delay.minutes, delay.reason);
}

#[tokio::main]
async fn main() -> Result<(), onceward::Error> {
    // Logs INFO and above. Without a subscriber, Onceward logs nothing.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let broker = TestBroker::start()?;
    broker.topic("delays", 1)?;
    let events = [
        TestRecord::new(r#"{"hours": 1.5}"#),
        TestRecord::new(r#"{"minutes": 20}"#).header("version", "2"),
        TestRecord::new(r#"{"minutes": 5, "reason": "weather"}"#).header("version", "3"),
    ];
    broker.produce("delays", events).await?;
    let app = broker.app().handler(on_delay {});
    run_until(app, broker.caught_up("board", "delays")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_a_plain_function() {
        assert_eq!(in_minutes(DelayV1 { hours: 1.5 }).minutes, 90);
        assert_eq!(without_reason(DelayV2 { minutes: 20 }).reason, "unknown");
    }

    #[test]
    fn the_example_runs() {
        main().expect("all three are handled");
    }
}

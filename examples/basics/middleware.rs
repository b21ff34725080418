//! A middleware of your own: it lets only one region's records through.
//!
//! ```text
//! cargo run -p basics --example middleware
//! ```

#![allow(clippy::print_stdout, reason = "an example prints")]

use onceward::middleware::{Delivery, Next, RecordMiddleware};
use onceward::prelude::*;
use onceward::testing::{TestBroker, TestRecord, run_until};

/// Skips records whose header `region` names another one.
struct OnlyRegion(&'static str);

impl RecordMiddleware for OnlyRegion {
    async fn call<'a, N: Next<'a>>(&'a self, delivery: Delivery<'a>, next: N) -> HandlerResult<Outcome> {
        match delivery.record().headers().get_str("region") {
            Some(region) if region != self.0 => Ok(Outcome::skipped("of another region")),
            _ => next.run(delivery).await,
        }
    }
}

#[handler(topic = "orders", group = "printer")]
async fn print(Key(id): Key<&str>, amount: &[u8]) -> HandlerResult {
    println!("order {id}: {} EUR", std::str::from_utf8(amount).permanent()?);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), onceward::Error> {
    // Logs INFO and above. Without a subscriber, Onceward logs nothing.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let broker = TestBroker::start()?;
    broker.topic("orders", 1)?;
    let order = |id, amount, region| TestRecord::new(amount).key(id).header("region", region);
    let orders = [order("a", "12", "eu"), order("b", "7", "us"), order("c", "31", "eu")];
    broker.produce("orders", orders).await?;

    let app = broker.app().handler(print {}.middleware(OnlyRegion("eu")));
    run_until(app, broker.caught_up("printer", "orders")).await
}

// A record to publish from a handler with a transaction.
use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flight(tx: &mut Tx) -> HandlerResult<ProducerRecord> {
    let _ = tx;
    Ok(ProducerRecord::to("departures"))
}

fn main() {}

// A publisher beside a transaction: neither order of the two is right.
use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flight(publisher: Publisher<'_>, tx: &mut Tx) -> HandlerResult {
    publisher.publish(ProducerRecord::to("departures")).await?;
    let _ = tx;
    Ok(())
}

fn main() {}

// A batch that does not say what of.

use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flights(_flights: Batch) {}

fn main() {}

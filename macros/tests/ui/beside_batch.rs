// A part of one record beside the batch.

use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flights(_payloads: Batch<&[u8]>, Key(_tailnum): Key<&str>, State(_airline): State<String>) {}

fn main() {}

// Two batches.

use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flights(_tailnums: Batch<Key<&str>>, _payloads: Batch<&[u8]>) {}

fn main() {}

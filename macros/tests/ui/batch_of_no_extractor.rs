// A batch of what is no extractor.

use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flights(_distances: Batch<(Key<&str>, f64)>) {}

fn main() {}

// An argument that is no extractor.

use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flight(Key(_tailnum): Key<&str>, _distance: f64) {}

fn main() {}

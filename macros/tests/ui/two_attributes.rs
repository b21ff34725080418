// Two attributes on one function.

use onceward::prelude::*;

#[handler(topic = "arrivals")]
#[handler(topic = "departures")]
async fn on_flight() {}

fn main() {}

// Runs of no records.

use onceward::prelude::*;

#[handler(topic = "flights", max_run_records = 0)]
async fn on_flight() {}

fn main() {}

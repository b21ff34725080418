// An argument is given twice.

use onceward::prelude::*;

#[handler(topic = "flights", group = "totals", group = "sums")]
async fn on_flight() {}

fn main() {}

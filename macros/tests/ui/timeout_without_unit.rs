// A timeout without its unit.

use onceward::prelude::*;

#[handler(topic = "flights", timeout = "30")]
async fn on_flight() {}

fn main() {}

// The former name is the name that the handler has.

use onceward::prelude::*;

#[handler(topic = "flights", formerly = "on_flight")]
async fn on_flight() {}

fn main() {}

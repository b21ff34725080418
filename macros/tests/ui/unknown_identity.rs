// A kind of identity that there is not.

use onceward::prelude::*;

#[handler(topic = "flights", identity = key)]
async fn on_flight() {}

fn main() {}

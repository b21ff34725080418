// An empty text.

use onceward::prelude::*;

#[handler(topic = "flights", group = "")]
async fn on_flight() {}

fn main() {}

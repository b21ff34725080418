// A way to treat tombstones that there is not.

use onceward::prelude::*;

#[handler(topic = "flights", tombstones = "ignore")]
async fn on_flight() {}

fn main() {}

// The topic's name is misspelled: one message, and none about a missing topic.

use onceward::prelude::*;

#[handler(topik = "flights")]
async fn on_flight() {}

fn main() {}

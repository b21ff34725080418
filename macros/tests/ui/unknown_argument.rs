// An argument's name is misspelled.

use onceward::prelude::*;

#[handler(topic = "flights", gruop = "totals")]
async fn on_flight() {}

fn main() {}

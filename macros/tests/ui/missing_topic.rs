// The topic is missing.

use onceward::prelude::*;

#[handler(group = "totals")]
async fn on_flight() {}

fn main() {}

// A number where a text belongs.

use onceward::prelude::*;

#[handler(topic = 5)]
async fn on_flight() {}

fn main() {}

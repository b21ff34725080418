// The function has a lifetime parameter.

use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flight<'r>(_payload: &'r [u8]) {}

fn main() {}

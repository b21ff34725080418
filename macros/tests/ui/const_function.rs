// The function is const.

use onceward::prelude::*;

#[handler(topic = "flights")]
const fn on_flight() {}

fn main() {}

// The function is unsafe.

use onceward::prelude::*;

#[handler(topic = "flights")]
async unsafe fn on_flight() {}

fn main() {}

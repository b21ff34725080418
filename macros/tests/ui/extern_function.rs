// The function has the calling convention of C.

use onceward::prelude::*;

#[handler(topic = "flights")]
async extern "C" fn on_flight() {}

fn main() {}

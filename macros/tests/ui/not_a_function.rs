// The attribute stands on a struct.

use onceward::prelude::*;

#[handler(topic = "flights")]
struct Flight {
    _tailnum: String,
}

fn main() {}

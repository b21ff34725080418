// A result that is none of a handler's.

use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flight(Key(tailnum): Key<&str>) -> usize {
    tailnum.len()
}

fn main() {}

// The function is not async.

use onceward::prelude::*;

#[handler(topic = "flights")]
fn on_flight() -> HandlerResult {
    Ok(())
}

fn main() {}

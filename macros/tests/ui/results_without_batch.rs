// One result a record from a handler of one record.

use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flight(_payload: &[u8]) -> Vec<HandlerResult> {
    vec![Ok(())]
}

fn main() {}

// The identity's function takes something else than a record.

use onceward::prelude::*;

#[handler(topic = "flights", identity = function(identity))]
async fn on_flight() {}

fn identity(key: &[u8]) -> Option<String> {
    Some(String::from_utf8_lossy(key).into_owned())
}

fn main() {}

// The transaction is taken by a shared reference.

use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flight(_tx: &Tx) {}

fn main() {}

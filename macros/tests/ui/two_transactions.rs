// The transaction is taken twice.

use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flight(_one: &mut Tx, Key(_tailnum): Key<&str>, _other: &mut Tx) {}

fn main() {}

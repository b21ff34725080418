// A borrowed argument that does not show it: said of the function, and of what is made of it.

use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flight(_record: Record) {}

fn main() {}

// The payload's type cannot be decoded.

use onceward::prelude::*;

struct Flight;

#[handler(topic = "flights")]
async fn on_flight(Json(_flight): Json<Flight>) {}

fn main() {}

// The function is generic.

use onceward::extract::FromRecord;
use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flight<T: for<'a> FromRecord<'a>>(_flight: T) {}

fn main() {}

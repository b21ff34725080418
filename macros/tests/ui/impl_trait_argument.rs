// An argument of any type that has a trait.

use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flight(Json(_flight): Json<impl serde::de::DeserializeOwned + Send>) {}

fn main() {}

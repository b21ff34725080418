// An extractor of a web framework that has the name of ours.

use axum::Json;
use onceward::prelude::*;

mod axum {
    pub struct Json<T>(pub T);
}

#[handler(topic = "flights")]
async fn on_flight(_flight: Json<i64>) {}

fn main() {}

// Names that Kafka allows no topic to have.

use onceward::prelude::*;

#[handler(topics = ["flights", "all flights", "flights/2013"])]
async fn on_flight() {}

fn main() {}

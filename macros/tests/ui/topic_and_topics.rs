// Topics are given in two ways.

use onceward::prelude::*;

#[handler(topic = "flights", topics = ["arrivals", "departures"])]
async fn on_flight() {}

fn main() {}

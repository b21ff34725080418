// The function is a method.

use onceward::prelude::*;

struct Totals;

impl Totals {
    #[handler(topic = "flights")]
    async fn on_flight(&self) {}
}

fn main() {}

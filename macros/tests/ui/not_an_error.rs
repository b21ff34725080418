// An error that is no error.

use onceward::prelude::*;

struct Late;

#[handler(topic = "flights")]
async fn on_flight() -> Result<(), Late> {
    Err(Late)
}

fn main() {}

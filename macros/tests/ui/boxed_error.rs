// An error in a box that cannot go from thread to thread.

use onceward::prelude::*;
use std::error::Error;

#[handler(topic = "flights")]
async fn on_flight() -> Result<(), Box<dyn Error>> {
    Ok(())
}

fn main() {}

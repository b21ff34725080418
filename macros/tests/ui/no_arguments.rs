// No arguments at all.

use onceward::prelude::*;

#[handler]
async fn on_flight() {}

fn main() {}

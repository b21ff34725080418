// The function is registered, and not the type beside it.

use onceward::prelude::*;

#[handler(topic = "flights")]
async fn on_flight() {}

fn app(app: App) -> App {
    app.handler(on_flight)
}

fn main() {}

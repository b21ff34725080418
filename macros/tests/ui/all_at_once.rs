// Several mistakes are told at once, and the use of the handler is none.

use onceward::prelude::*;

#[handler(topic = "flights", groop = "totals", timeout = 30, timeout = "1s", formerly = ["a", 2])]
fn on_flight<T>(_tx: &Tx, _payloads: Batch<&[u8]>, Key(_tailnum): Key<&str>) {}

fn app(app: App) -> App {
    app.handler(on_flight {})
}

fn main() {}

// The handler holds what no other thread may have, over an await.

use onceward::prelude::*;
use std::rc::Rc;

#[handler(topic = "flights")]
async fn on_flight() {
    let count = Rc::new(1);
    std::future::ready(()).await;
    drop(count);
}

fn main() {}

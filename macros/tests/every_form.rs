//! Every form of a handler, without a warning, and what is made of it.
#![deny(warnings)]

use onceward::Settings;
use onceward::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Flight<'a> {
    tailnum: &'a str,
    distance: i64,
}

/// Borrows all it can, and takes the transaction in the middle.
#[handler(
    topics = ["flights", "^flights-.*"],
    group = "totals",
    name = "totals",
    event = "flight.departed",
    timeout = "500ms",
    identity = function(identity_of),
    formerly = "sums",
    formerly = ["plane_sums", "distances"],
    tombstones = "skip",
    max_run_records = 500,
)]
async fn on_flight(
    Json(flight): Json<Flight<'_>>,
    Key(key): Key<Option<&str>>,
    tx: &mut Tx,
    headers: Headers<'_>,
    record: Record<'_>,
    payload: Option<&[u8]>,
) -> HandlerResult {
    tokio::task::yield_now().await;
    let _ = (flight.tailnum, flight.distance, key, tx, headers, record, payload);
    Ok(())
}

fn identity_of(record: Record<'_>) -> Option<String> {
    record.headers().get_str("id").map(str::to_owned)
}

mod elsewhere {
    use super::*;

    #[derive(Deserialize)]
    pub(super) struct Arrival {
        delay: i64,
    }

    // Named as what the generated code has inside.
    #[handler(topic = "arrivals", identity = header("id"))]
    pub(super) async fn args(Json(arrival): Json<Arrival>) -> Result<Outcome, std::io::Error> {
        let _ = arrival.delay;
        Ok(Outcome::skipped("early"))
    }

    #[handler(topic = "arrivals", identity = position)]
    pub(super) async fn delivery(
        State(limit): State<usize>,
        arrivals: Batch<(Key<&str>, Json<Arrival>)>,
        tx: &mut onceward::Tx,
    ) -> Vec<HandlerResult> {
        let _ = (limit, tx);
        arrivals.iter().map(|_| Ok(())).collect()
    }

    #[handler(topic = "arrivals", identity = in_each_topic(cloudevents))]
    pub(super) async fn context() {}

    #[handler(topic = "arrivals")]
    #[cfg(any())]
    pub(super) async fn left_out() {}
}

macro_rules! handlers {
    ($($name:ident: $topic:expr, $argument:ty, $transaction:ty;)*) => {$(
        #[handler(topic = $topic)]
        async fn $name(_: $argument, _: $transaction) {}
    )*};
}

handlers! {
    of_macro: "flights", Json<Flight<'_>>, &mut Tx;
    of_macro_for_batches: "flights", Batch<&[u8]>, &mut Tx;
}

#[test]
fn every_form_is_taken() {
    #[handler(topic = "flights")]
    async fn r#in() {}

    let _ = App::new()
        .handler(on_flight {})
        .handler(elsewhere::args {})
        .handler(elsewhere::delivery {})
        .handler(elsewhere::context {})
        .handler(of_macro {})
        .handler(of_macro_for_batches {}.route().group("totals"))
        .handler(r#in {});

    assert_eq!(shape(on_flight {}), Shape { batch: false, transaction: true });
    assert_eq!(shape(elsewhere::args {}), Shape { batch: false, transaction: false });
    assert_eq!(shape(elsewhere::delivery {}), Shape { batch: true, transaction: true });
    assert_eq!(format!("{:?}", r#in {}.settings()), format!("{:?}", Settings::new("in").topic("flights")));
}

#[derive(Debug, PartialEq)]
struct Shape {
    batch: bool,
    transaction: bool,
}

fn shape<H: Handler>(_: H) -> Shape {
    Shape { batch: H::BATCH, transaction: H::TRANSACTION }
}

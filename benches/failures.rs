//! What failures cost: the one-record handler in a transaction without any, with 5 %
//! of the records failing once, and with 1 % more dead-lettered.

use crate::effects::{PARTITIONS, UPSERT, database};
use crate::engine::Count;
use crate::topics;
use harness::{Contender, Moment, Took, compare};
use onceward::prelude::*;
use onceward::{CancellationToken, TopicPartition};
use std::sync::{Arc, OnceLock};
use support::{Stack, unique};
use tokio::runtime::Runtime;

pub fn run(runtime: &Runtime, stack: &Stack, rounds: usize) -> Vec<String> {
    let records = 160_000;
    let topic = topics::full(runtime, stack, PARTITIONS, records, 100);
    let topic = &*topic;
    let rate = |rate| Box::new(move || ours(runtime, stack, topic, records, rate));
    let contenders: Vec<Contender<'_>> = vec![
        ("no failures", rate(Rate { transient: 0, permanent: 0 })),
        ("5 % fail once", rate(Rate { transient: 5, permanent: 0 })),
        ("5 % fail once, 1 % for good", rate(Rate { transient: 5, permanent: 1 })),
    ];
    vec![compare("failures, PostgreSQL as it is", rounds, contenders)]
}

/// How many of a hundred records fail.
#[derive(Clone, Copy)]
struct Rate {
    transient: i64,
    permanent: i64,
}

#[handler(topic = "overridden", name = "failures")]
async fn one(
    Key(key): Key<&str>,
    position: Position,
    Attempt(attempt): Attempt,
    rate: State<Rate>,
    tx: &mut Tx,
) -> HandlerResult {
    sqlx::query(UPSERT).bind(key).execute(tx).await?;
    // Spread over the hundred.
    let place = position.offset * 37 % 100;
    if place < rate.0.permanent {
        return Err(HandlerError::new("for good").permanent());
    }
    let fails_once = place < rate.0.permanent + rate.0.transient;
    if fails_once && attempt == 1 { Err(HandlerError::new("once")) } else { Ok(()) }
}

fn ours(runtime: &Runtime, stack: &Stack, topic: &str, records: u64, rate: Rate) -> Took {
    runtime.block_on(async {
        let database = database(stack).await;
        let (start, end, stop) =
            (Arc::new(OnceLock::new()), CancellationToken::new(), CancellationToken::new());
        let (started, done) = (start.clone(), end.clone());
        let count = Count { handled: Arc::default(), until: records, done };
        let route = one {}.route().topic(topic).group(unique("bench")).dead_letter(unique("letters"));
        let app = App::new()
            .brokers(&stack.brokers)
            .database_url(&database.url)
            .migrate(true)
            .state(rate)
            .shutdown_on(stop.clone())
            .on_assigned(move |_: &[TopicPartition]| {
                started.get_or_init(Moment::now);
            })
            .handler(route.around(count));
        let running = tokio::spawn(app.run());
        end.cancelled().await;
        let took = start.get().expect("assigned before done").took(records);
        stop.cancel();
        running.await.expect("no panic").expect("a clean end");
        took
    })
}

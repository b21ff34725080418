//! A handler that does nothing, with tracked commits, against plain loops and
//! against librdkafka's batch call, which is the limit.

use crate::topics;
use harness::{Contender, Moment, Took, compare};
use onceward::prelude::*;
use onceward::{CancellationToken, DedupeKind, TopicPartition};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::message::Message;
use rdkafka_sys as sys;
use std::ffi::CString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use support::{Stack, unique};
use tokio::runtime::Runtime;

pub fn run(runtime: &Runtime, stack: &Stack, rounds: usize) -> Vec<String> {
    let mut results = Vec::new();
    for (size, partitions, records) in
        [(100, 8, 2_000_000), (100, 1, 1_500_000), (512, 8, 800_000), (512, 1, 800_000)]
    {
        let topic = topics::full(runtime, stack, partitions, records, size);
        let (topic, stack) = (&*topic, stack);
        let contenders: Vec<Contender<'_>> = vec![
            ("librdkafka batch", Box::new(move || batch_loop(stack, topic, partitions, records))),
            ("onceward", Box::new(move || ours(runtime, stack, topic, records))),
            ("plain loop, tuned", Box::new(move || plain_loop(stack, topic, records, true))),
        ];
        results.push(compare(&format!("no-op, {size} B, {partitions} partitions"), rounds, contenders));
        if (size, partitions) == (100, 8) {
            let contenders: Vec<Contender<'_>> = vec![
                ("plain loop, defaults", Box::new(move || plain_loop(stack, topic, records, false))),
                ("onceward", Box::new(move || ours(runtime, stack, topic, records))),
            ];
            results.push(compare("no-op, 100 B, 8 partitions, defaults", rounds.div_ceil(3), contenders));
        }
    }
    results
}

/// Counts runs, not records, so that counting costs nothing that others do not pay.
#[derive(Clone)]
pub struct Count {
    pub handled: Arc<AtomicU64>,
    pub until: u64,
    pub done: CancellationToken,
}

impl Middleware for Count {
    async fn call<'a, N: NextRun>(&'a self, run: Run<'a>, next: &'a N) -> Outcomes {
        let outcomes = next.run(run).await;
        self.add(outcomes.iter().filter(|outcome| outcome.is_finished()).count() as u64);
        outcomes
    }
}

impl Count {
    /// Counts so many more.
    pub fn add(&self, count: u64) {
        if self.handled.fetch_add(count, Ordering::Relaxed) + count >= self.until {
            self.done.cancel();
        }
    }
}

#[handler(topic = "overridden", name = "noop")]
async fn noop(payload: &[u8]) -> HandlerResult {
    std::hint::black_box(payload[0]);
    Ok(())
}

fn ours(runtime: &Runtime, stack: &Stack, topic: &str, records: u64) -> Took {
    measure(runtime, stack, records, |app, count| {
        app.handler(noop {}.route().topic(topic).group(unique("bench")).around(count))
    })
}

/// An application with a handler, from its first assignment to the last record.
pub fn measure(runtime: &Runtime, stack: &Stack, records: u64, add: impl FnOnce(App, Count) -> App) -> Took {
    let (start, end) = (Arc::new(OnceLock::new()), CancellationToken::new());
    let (started, done) = (start.clone(), end.clone());
    let count = Count { handled: Arc::default(), until: records, done };
    let stop = CancellationToken::new();
    let app = App::new()
        .brokers(&stack.brokers)
        .kafka("check.crcs", "false")
        .dedupe(DedupeKind::Off)
        .shutdown_on(stop.clone())
        .on_assigned(move |_: &[TopicPartition]| {
            started.get_or_init(Moment::now);
        });
    let app = add(app, count);
    runtime.block_on(async {
        let running = tokio::spawn(app.run());
        end.cancelled().await;
        let took = start.get().expect("assigned before done").took(records);
        stop.cancel();
        running.await.expect("no panic").expect("a clean end");
        took
    })
}

/// What our consumer sets, for the others.
fn config(stack: &Stack, tuned: bool) -> ClientConfig {
    let mut config = stack.client();
    config
        .set("group.id", unique("bench"))
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("check.crcs", "false");
    if tuned {
        config
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.wait.max.ms", "100")
            .set("queued.min.messages", "20000")
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.max.bytes", "52428800");
    }
    config
}

struct Assigned(OnceLock<Moment>);

impl ClientContext for Assigned {}

impl ConsumerContext for Assigned {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance
            && list.count() > 0
        {
            self.0.get_or_init(Moment::now);
        }
    }
}

pub fn plain_loop(stack: &Stack, topic: &str, records: u64, tuned: bool) -> Took {
    let consumer: BaseConsumer<Assigned> =
        config(stack, tuned).create_with_context(Assigned(OnceLock::new())).expect("a consumer");
    consumer.subscribe(&[topic]).expect("subscribed");
    let mut count = 0;
    while count < records {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            std::hint::black_box(message.payload().expect("a payload")[0]);
            count += 1;
        }
    }
    consumer.context().0.get().expect("assigned").took(records)
}

struct Splits {
    queues: std::sync::Mutex<Vec<usize>>,
    assigned: OnceLock<Moment>,
}

impl ClientContext for Splits {}

impl ConsumerContext for Splits {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(list) = rebalance else { return };
        for element in list.elements() {
            let topic = CString::new(element.topic()).expect("no zero");
            // SAFETY: the client is alive; the queues are destroyed before it.
            unsafe {
                let queue = sys::rd_kafka_queue_get_partition(
                    consumer.client().native_ptr(),
                    topic.as_ptr(),
                    element.partition(),
                );
                sys::rd_kafka_queue_forward(queue, std::ptr::null_mut());
                self.queues.lock().expect("no panic").push(queue as usize);
            }
        }
        if list.count() > 0 {
            self.assigned.get_or_init(Moment::now);
        }
    }
}

/// librdkafka's own limit: one thread, batches from split queues, nothing else.
fn batch_loop(stack: &Stack, topic: &str, partitions: i32, records: u64) -> Took {
    let splits = Splits { queues: Default::default(), assigned: OnceLock::new() };
    let consumer: BaseConsumer<Splits> = config(stack, true).create_with_context(splits).expect("a consumer");
    consumer.subscribe(&[topic]).expect("subscribed");
    let mut batch: Vec<*mut sys::rd_kafka_message_t> = vec![std::ptr::null_mut(); 512];
    let mut count = 0;
    while count < records {
        assert!(consumer.poll(Duration::ZERO).is_none_or(|polled| polled.is_ok()));
        let queues: Vec<usize> = consumer.context().queues.lock().expect("no panic").clone();
        assert!(queues.len() <= partitions as usize);
        let mut idle = true;
        for queue in queues {
            // SAFETY: the queue lives, the array has room, each message is read and
            // destroyed once.
            let read = unsafe {
                let read =
                    sys::rd_kafka_consume_batch_queue(queue as *mut _, 0, batch.as_mut_ptr(), batch.len());
                for &message in &batch[..usize::try_from(read).unwrap_or(0)] {
                    std::hint::black_box(*(*message).payload.cast::<u8>());
                    sys::rd_kafka_message_destroy(message);
                }
                read
            };
            count += u64::try_from(read).unwrap_or(0);
            idle &= read <= 0;
        }
        if idle {
            std::thread::park_timeout(Duration::from_micros(200));
        }
    }
    let took = consumer.context().assigned.get().expect("assigned").took(records);
    for queue in consumer.context().queues.lock().expect("no panic").drain(..) {
        // SAFETY: ours, and used no more.
        unsafe { sys::rd_kafka_queue_destroy(queue as *mut _) };
    }
    took
}

/// For other cases: an application with the no-op handler.
pub fn noop_app(stack: &Stack, topic: &str, count: Count) -> App {
    App::new()
        .brokers(&stack.brokers)
        .dedupe(DedupeKind::Off)
        .handler(noop {}.route().topic(topic).group(unique("bench")).around(count))
}

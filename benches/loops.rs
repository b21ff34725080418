//! Hand-written loops on librdkafka and nothing else. They commit nothing.

use crate::bench::Bench;
use harness::{Moment, Took};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::message::Message;
use rdkafka_sys as sys;
use std::ffi::CString;
use std::hint::black_box;
use std::sync::Mutex;
use std::time::Duration;
use support::unique;

/// What our consumer sets, for the others: that of librdkafka's properties which makes it quick.
pub const TUNED: [(&str, &str); 6] = [
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.wait.max.ms", "100"),
    ("queued.min.messages", "20000"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.max.bytes", "52428800"),
    ("check.crcs", "true"),
];

/// How a loop's consumer is set.
#[derive(Clone, Copy)]
pub enum Settings {
    /// As ours.
    Tuned,
    /// librdkafka's defaults.
    Defaults,
}

impl Settings {
    pub fn client(self, bench: &Bench) -> ClientConfig {
        let mut config = bench.stack.client();
        config.set("group.id", unique("bench")).set("auto.offset.reset", "earliest");
        if let Self::Tuned = self {
            config
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("enable.auto.commit", "false")
                .set("enable.auto.offset.store", "false");
            for (property, value) in TUNED {
                config.set(property, value);
            }
        }
        config
    }
}

/// Polls one record after the other.
pub fn plain(
    bench: &Bench,
    topic: &str,
    records: u64,
    settings: Settings,
    mut handle: impl FnMut(&[u8]),
) -> Took {
    let consumer: BaseConsumer = settings.client(bench).create().expect("a consumer");
    consumer.subscribe(&[topic]).expect("subscribed");
    let mut clock = Clock::default();
    while clock.count < records {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            clock.count(1);
            handle(message.payload().expect("a payload"));
        }
    }
    clock.took()
}

/// Awaits one record after the other.
pub fn stream(
    bench: &Bench,
    topic: &str,
    records: u64,
    settings: Settings,
    mut handle: impl FnMut(&[u8]) + Send + 'static,
) -> Took {
    let _inside = bench.runtime.enter();
    let consumer: StreamConsumer = settings.client(bench).create().expect("a consumer");
    consumer.subscribe(&[topic]).expect("subscribed");
    // On a worker, as a service would; the calling thread is none.
    let task = bench.runtime.spawn(async move {
        let mut clock = Clock::default();
        while clock.count < records {
            if let Ok(message) = consumer.recv().await {
                clock.count(1);
                handle(message.payload().expect("a payload"));
            }
        }
        clock.took()
    });
    bench.runtime.block_on(task).expect("no panic")
}

/// librdkafka's own limit: one thread, batches from split queues, nothing else.
pub fn batch(bench: &Bench, topic: &str, records: u64) -> Took {
    let consumer: BaseConsumer<Splits> =
        Settings::Tuned.client(bench).create_with_context(Splits::default()).expect("a consumer");
    consumer.subscribe(&[topic]).expect("subscribed");
    let mut batch: Vec<*mut sys::rd_kafka_message_t> = vec![std::ptr::null_mut(); 512];
    let mut clock = Clock::default();
    while clock.count < records {
        assert!(consumer.poll(Duration::ZERO).is_none_or(|polled| polled.is_ok()));
        let queues: Vec<usize> = consumer.context().0.lock().expect("no panic").clone();
        let mut idle = true;
        for queue in queues {
            // SAFETY: the queue lives, the array has room, each message is read and
            // destroyed once.
            let read = unsafe {
                let read =
                    sys::rd_kafka_consume_batch_queue(queue as *mut _, 0, batch.as_mut_ptr(), batch.len());
                clock.count(u64::try_from(read).unwrap_or(0));
                for &message in &batch[..usize::try_from(read).unwrap_or(0)] {
                    black_box(*(*message).payload.cast::<u8>());
                    sys::rd_kafka_message_destroy(message);
                }
                read
            };
            idle &= read <= 0;
        }
        if idle {
            std::thread::park_timeout(Duration::from_micros(200));
        }
    }
    let took = clock.took();
    for queue in consumer.context().0.lock().expect("no panic").drain(..) {
        // SAFETY: ours, and used no more.
        unsafe { sys::rd_kafka_queue_destroy(queue as *mut _) };
    }
    took
}

/// The handler that does nothing.
pub fn touch(payload: &[u8]) {
    black_box(payload[0]);
}

/// Counts records; the first one starts it.
#[derive(Default)]
struct Clock {
    start: Option<Moment>,
    count: u64,
}

impl Clock {
    fn count(&mut self, records: u64) {
        if self.count == 0 && records > 0 {
            self.start = Some(Moment::now());
        }
        self.count += records;
    }

    fn took(&self) -> Took {
        self.start.expect("there are records").took(self.count)
    }
}

/// The queues of the partitions, split from the consumer's own.
#[derive(Default)]
struct Splits(Mutex<Vec<usize>>);

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
                self.0.lock().expect("no panic").push(queue as usize);
            }
        }
    }
}

//! The latency of a record to its handler, at 1,000 and 5,000 records a second: from the
//! producer's call, with Kafka in between, and from librdkafka's wake-up. A loop that polls is
//! woken up inside librdkafka, where that cannot be seen.

use crate::application::timed;
use crate::bench::Bench;
use crate::loops::{self, Settings};
use crate::wake_up;
use harness::Report;
use onceward::prelude::*;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::unique;

const PARTITIONS: u64 = 8;
/// What p99 from the wake-up shall be at most, in microseconds.
const AIM: f64 = 100.0;

/// Latencies in nanoseconds.
#[derive(Clone, Default)]
struct Samples(Arc<Mutex<Latencies>>);

#[derive(Default)]
struct Latencies {
    /// Records that were sent before are not counted: the consumer starts.
    from: u64,
    of_producer: Vec<u64>,
    of_wake_up: Vec<u64>,
}

impl Samples {
    fn begin(&self, from: u64) {
        self.0.lock().expect("no panic").from = from;
    }

    /// Notes that a record is with its handler.
    fn note(&self, payload: &[u8]) {
        let (now, woken) = (wake_up::now(), wake_up::take());
        let sent = u64::from_be_bytes(payload[..8].try_into().expect("8 bytes"));
        let mut latencies = self.0.lock().expect("no panic");
        if sent < latencies.from {
            return;
        }
        latencies.of_producer.push(now - sent);
        latencies.of_wake_up.extend(woken.map(|woken| now - woken));
    }
}

#[handler(topic = "overridden")]
async fn arrives(payload: &[u8], samples: State<Samples>) -> HandlerResult {
    samples.0.note(payload);
    Ok(())
}

pub fn one_thousand(bench: &Bench, report: &mut Report) {
    at_rate(bench, report, 1000);
}

pub fn five_thousand(bench: &Bench, report: &mut Report) {
    at_rate(bench, report, 5000);
}

fn at_rate(bench: &Bench, report: &mut Report, rate: u64) {
    type Run<'r> = &'r dyn Fn(&str, u64, Samples);
    let plain: Run<'_> = &|topic, records, samples| {
        loops::plain(bench, topic, records, Settings::Tuned, |payload| samples.note(payload));
    };
    let stream: Run<'_> = &|topic, records, samples| {
        loops::stream(bench, topic, records, Settings::Tuned, move |payload| samples.note(payload));
    };
    let onceward: Run<'_> = &|topic, records, samples| {
        timed(bench, records, |count| {
            let route = arrives {}.route().topic(topic).group(unique("bench")).around(count);
            bench.app().state(samples).handler(route)
        });
    };
    let contenders = [("plain loop", plain), ("stream loop", stream), ("onceward", onceward)];
    let samples: [Samples; 3] = Default::default();
    for round in 0..report.rounds() {
        for place in 0..contenders.len() {
            let index = (place + round) % contenders.len();
            run(bench, rate, &samples[index], contenders[index].1);
        }
    }
    let case = format!("latency at {rate} records/s, 100 B, 8 partitions");
    for ((name, _), samples) in contenders.iter().zip(&samples) {
        let mut latencies = samples.0.lock().expect("no panic");
        let of_producer = percentiles(&mut latencies.of_producer);
        let mut figures = vec![
            ("from the producer, p50", of_producer[0], "us"),
            ("from the producer, p99", of_producer[1], "us"),
            ("from the producer, p99.9", of_producer[2], "us"),
        ];
        if !latencies.of_wake_up.is_empty() {
            let of_wake_up = percentiles(&mut latencies.of_wake_up);
            figures.extend([
                ("from the wake-up, p50", of_wake_up[0], "us"),
                ("from the wake-up, p99", of_wake_up[1], "us"),
                ("from the wake-up, p99.9", of_wake_up[2], "us"),
            ]);
            if *name == "onceward" {
                report.at_most(&case, "us from the wake-up, p99", of_wake_up[1], AIM);
            }
        }
        report.figures(&case, name, &figures);
    }
}

/// One contender once, beside a producer.
fn run(bench: &Bench, rate: u64, samples: &Samples, consume: &dyn Fn(&str, u64, Samples)) {
    let (start, measured) = (bench.seconds(2), bench.seconds(2));
    let records = (rate as f64 * (start + measured).as_secs_f64()) as u64;
    let topic = bench.runtime.block_on(bench.stack.topic("latency", PARTITIONS as i32));
    let producer = bench.stack.client().set("linger.ms", "0").create().expect("a producer");
    samples.begin(wake_up::now() + start.as_nanos() as u64);
    wake_up::turn(true);
    std::thread::scope(|scope| {
        scope.spawn(|| send(producer, &topic, rate, records));
        consume(&topic, records, samples.clone());
    });
    wake_up::turn(false);
}

fn send(producer: ThreadedProducer<DefaultProducerContext>, topic: &str, rate: u64, records: u64) {
    let start = Instant::now();
    let mut payload = [b'x'; 100];
    for number in 0..records {
        let due = start + Duration::from_nanos(number * 1_000_000_000 / rate);
        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
        payload[..8].copy_from_slice(&wake_up::now().to_be_bytes());
        let record = BaseRecord::<(), _>::to(topic).payload(&payload).partition((number % PARTITIONS) as i32);
        producer.send(record).map_err(|(error, _)| error).expect("room in the queue");
    }
    producer.flush(Duration::from_secs(30)).expect("all records are acknowledged");
}

/// p50, p99 and p99.9 in microseconds.
fn percentiles(nanos: &mut [u64]) -> [f64; 3] {
    nanos.sort_unstable();
    [0.5, 0.99, 0.999].map(|part| nanos[(nanos.len() as f64 * part) as usize] as f64 / 1000.0)
}

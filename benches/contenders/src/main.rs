//! One run of another framework, with a handler that does nothing:
//! `contenders NAME BROKERS TOPIC GROUP RECORDS PROPERTY=VALUE..`
//!
//! It ends after so many records, and prints what they took as a line of JSON. The
//! properties are librdkafka's.

mod arroyo;
mod ruststream;

#[cfg(feature = "mimalloc")]
use mimalloc as _;
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

struct Arguments {
    name: String,
    brokers: String,
    topic: String,
    group: String,
    records: u64,
    properties: HashMap<String, String>,
}

fn main() {
    match &*arguments().name {
        "ruststream" => ruststream::run(),
        "arroyo" => arroyo::run(),
        other => panic!("no contender is called {other}"),
    }
}

/// What the program was started with.
fn arguments() -> &'static Arguments {
    static ARGUMENTS: OnceLock<Arguments> = OnceLock::new();
    ARGUMENTS.get_or_init(|| {
        let mut words = std::env::args().skip(1);
        let mut next = |what| words.next().unwrap_or_else(|| panic!("{what} is missing"));
        let (name, brokers, topic) = (next("NAME"), next("BROKERS"), next("TOPIC"));
        let (group, records) = (next("GROUP"), next("RECORDS").parse().expect("a number"));
        let properties = words.map(|word| {
            let (property, value) = word.split_once('=').expect("PROPERTY=VALUE");
            (property.to_owned(), value.to_owned())
        });
        Arguments { name, brokers, topic, group, records, properties: properties.collect() }
    })
}

/// What the handler does. The first record starts the clock, the last one ends the program.
fn handle(payload: &[u8]) {
    static START: OnceLock<(Instant, Duration)> = OnceLock::new();
    static HANDLED: AtomicU64 = AtomicU64::new(0);
    black_box(payload[0]);
    let (start, cpu_before) = START.get_or_init(|| (Instant::now(), cpu()));
    let records = HANDLED.fetch_add(1, Ordering::Relaxed) + 1;
    if records == arguments().records {
        let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu() - *cpu_before);
        let cpu_ns = u64::try_from(cpu.as_nanos()).expect("less than centuries");
        println!("{}", serde_json::json!({ "records": records, "seconds": seconds, "cpu_ns": cpu_ns }));
        std::process::exit(0);
    }
}

/// The CPU time of this process so far.
fn cpu() -> Duration {
    // SAFETY: a zeroed rusage is valid, and getrusage fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

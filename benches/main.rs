//! `make bench`, or `make bench CASES="engine latency-1k"`: a word picks the cases whose name
//! begins with it. `ROUNDS=15` is for numbers to publish.
//!
//! Run by `cargo test`, it is a smoke: all cases once, with few records, and nothing is written.

mod allocations;
mod application;
mod bench;
mod by_hand;
mod decode;
mod dedupe;
mod engine;
mod failures;
mod handlers;
mod idle;
mod latency;
mod loops;
mod memory;
mod middleware;
mod order;
mod others;
mod payloads;
mod postgres;
mod rebalance;
mod settings;
mod topics;
mod transactions;
mod wake_up;

use bench::Bench;
use harness::Report;
// Takes the place of C's `malloc`, which the counting allocator and librdkafka call.
#[cfg(feature = "mimalloc")]
use mimalloc as _;
use std::cell::RefCell;
use std::path::Path;

type Case = (&'static str, fn(&Bench, &mut Report));

/// In the order in which they run. Each takes about a minute with five rounds.
const CASES: [Case; 25] = [
    ("engine-8", engine::eight),
    ("engine-1", engine::one),
    ("engine-lz4-8", engine::lz4_eight),
    ("engine-lz4-1", engine::lz4_one),
    ("engine-defaults", engine::defaults),
    ("engine-sizes", engine::sizes),
    ("settings", settings::run),
    ("json", payloads::json),
    ("avro", payloads::avro),
    ("handlers-compute", handlers::computing),
    ("handlers-wait", handlers::waiting),
    ("order", order::run),
    ("middleware", middleware::run),
    ("dedupe", dedupe::run),
    ("window", dedupe::window),
    ("transactions", transactions::as_it_is),
    ("transactions-delayed", transactions::delayed),
    ("failures", failures::run),
    ("decode", decode::run),
    ("latency-1k", latency::one_thousand),
    ("latency-5k", latency::five_thousand),
    ("allocations", allocations::run),
    ("idle", idle::run),
    ("memory", memory::run),
    ("rebalance", rebalance::run),
];

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

fn main() {
    let (flags, words): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|word| word.starts_with('-'));
    // Only `cargo bench` says so.
    let smoke = !flags.iter().any(|flag| flag == "--bench");
    let Some(stack) = support::Stack::from_env() else {
        println!("left out: benchmarks need a Kafka and a PostgreSQL (`make bench` starts them)");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let bench = Bench { runtime, stack, smoke, topics: RefCell::default() };
    let rounds = std::env::var("ROUNDS").map_or(5, |rounds| rounds.parse().expect("ROUNDS is a number"));
    let mut report = if smoke { Report::new(1, false) } else { Report::new(rounds, true) };
    let is_wanted = |case: &str| words.is_empty() || words.iter().any(|word| case.starts_with(&**word));
    let wanted: Vec<Case> = CASES.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    if wanted.is_empty() && !smoke {
        panic!("no case begins with one of {words:?}; there are {:?}", CASES.map(|(name, _)| name));
    }
    for (name, run) in wanted {
        eprintln!("{name}");
        run(&bench, &mut report);
    }
    if !smoke {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target/bench");
        report.write(&folder, &bench.environment()).expect("the report is written");
        println!("{}", folder.join("report.md").display());
    }
}

//! `make bench`, or `make bench CASES="engine effects"`.
//!
//! Cases: `engine` (no-op handler against plain loops and librdkafka's batch call),
//! `order` (the same by key, and a handler that sleeps), `effects` and `failures` (PostgreSQL), `decode` (JSON and Avro), `allocations`, `idle`, `memory`, `rebalance`. `ROUNDS=15` by default.

mod allocations;
mod decode;
mod effects;
mod engine;
mod failures;
mod idle;
mod memory;
mod order;
mod rebalance;
mod topics;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let wanted = |case: &str| arguments.is_empty() || arguments.iter().any(|word| word == case);
    let rounds = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(15);
    let Some(stack) = support::Stack::from_env() else {
        println!("left out: benchmarks need a Kafka and a PostgreSQL (`make bench` starts them)");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut results = Vec::new();
    if wanted("engine") {
        results.extend(engine::run(&runtime, &stack, rounds));
    }
    if wanted("order") {
        results.extend(order::run(&runtime, &stack, rounds));
    }
    if wanted("effects") {
        results.extend(effects::run(&runtime, &stack, rounds));
    }
    if wanted("failures") {
        results.extend(failures::run(&runtime, &stack, rounds));
    }
    if wanted("decode") {
        results.extend(decode::run(&runtime, &stack, rounds));
    }
    if wanted("allocations") {
        allocations::run(&runtime, &stack);
    }
    if wanted("idle") {
        idle::run(&runtime, &stack);
    }
    if wanted("memory") {
        memory::run(&runtime, &stack);
    }
    if wanted("rebalance") {
        rebalance::run(&runtime, &stack);
    }
    if !results.is_empty() {
        std::fs::create_dir_all("target/bench").expect("a folder for the results");
        std::fs::write("target/bench/results.json", format!("[\n{}\n]\n", results.join(",\n")))
            .expect("results");
    }
}

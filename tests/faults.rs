//! The flights service under a driver that kills it, its servers and the network between them, takes its
//! rights away and changes its topic and its offsets, at named points and at random moments; after each run
//! nothing may be lost, doubled or reordered, and the dead letters are exactly the poison.
//!
//! Everything that is drawn comes from a seed. `FAULTS_RUNS=n` makes so many runs (3 by
//! default), with the seeds from `FAULTS_SEED` (1) on; a failure names the one that repeats it.
#![allow(clippy::unwrap_used)] // In tests a panic is the report.

#[path = "faults/between.rs"]
mod between;
#[path = "faults/plan.rs"]
mod plan;
#[path = "faults/run.rs"]
mod run;
#[path = "faults/servers.rs"]
mod servers;

use fastrand::Rng;
use plan::Plan;
use run::{POISON, Run};
use servers::Servers;
use std::collections::BTreeSet;
use std::time::Instant;
use support::stack_or_leave_out;

#[allow(clippy::print_stdout)] // The report.
async fn run_of(servers: &Servers, seed: u64) -> Vec<&'static str> {
    let started = Instant::now();
    let mut random = Rng::with_seed(seed);
    let plan = Plan::draw(seed, &mut random);
    let (first, between, then) = (plan.first.clone(), plan.between, plan.then.clone());
    let mut run = Run::new(servers, seed, plan).await;
    println!("{run}");
    run.join(None);
    run.half(true, &first, &mut random).await;
    run.between(between, &mut random).await;
    run.half(false, &then, &mut random).await;
    let reached = run.verify().await;
    println!(
        "FAULTS_SEED={seed}: lost 0, doubled 0, reordered 0, {POISON} dead letters; ended at {reached:?}; {:?}",
        started.elapsed()
    );
    reached
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_doubled_or_reordered_whatever_breaks() {
    let servers = Servers::start(stack_or_leave_out!()).await;
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let first = number("FAULTS_SEED").unwrap_or(1);
    let runs = number("FAULTS_RUNS").unwrap_or(if number("FAULTS_SEED").is_some() { 1 } else { 3 });
    let mut reached = BTreeSet::new();
    for seed in first..first + runs {
        reached.extend(run_of(&servers, seed).await);
    }
    // Else it would be no matrix.
    assert!(runs < 8 || reached.len() >= 3, "of all points only {reached:?} were reached");
}

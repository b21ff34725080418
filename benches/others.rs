//! Other frameworks, each in a process of its own: the program in `contenders/`, if it was built.

use crate::bench::Bench;
use crate::loops::TUNED;
use harness::{Case, Took};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::unique;

/// What the program prints.
#[derive(Deserialize)]
struct Line {
    records: u64,
    seconds: f64,
    cpu_ns: u64,
}

/// Adds them to a case, or says that they were left out.
pub fn add<'c>(case: Case<'c>, bench: &'c Bench, topic: &'c str, records: u64) -> Case<'c> {
    let program = program();
    if !program.exists() {
        println!("left out: ruststream and arroyo, which `make bench` builds into {}", program.display());
        return case;
    }
    ["ruststream", "arroyo"]
        .into_iter()
        .fold(case, |case, name| case.contender(name, move || run(name, bench, topic, records)))
}

fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target/contenders/release/contenders")
}

fn run(name: &str, bench: &Bench, topic: &str, records: u64) -> Took {
    let output = Command::new(program())
        .args([name, &bench.stack.brokers, topic, &unique("bench"), &records.to_string()])
        .args(TUNED.map(|(property, value)| format!("{property}={value}")))
        .stderr(Stdio::inherit())
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{name}: {}", output.status);
    let line: Line = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    let (time, cpu) = (Duration::from_secs_f64(line.seconds), Duration::from_nanos(line.cpu_ns));
    Took { records: line.records, time, cpu }
}

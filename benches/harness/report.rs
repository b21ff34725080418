//! Writes a report in Markdown, and results in JSON.

use crate::case::{Aim, Case, Of, ratio};
use crate::{Spread, Took};
use serde_json::{Value, json};
use std::path::Path;

/// The measurements so far.
#[derive(Debug)]
pub struct Report {
    rounds: usize,
    warm_up: bool,
    markdown: String,
    results: Vec<Value>,
    aims: Vec<String>,
    /// The title of the last table.
    last: String,
}

impl Report {
    /// An empty one. Without a warm-up, the first run of each contender counts.
    pub fn new(rounds: usize, warm_up: bool) -> Self {
        Self {
            rounds,
            warm_up,
            markdown: String::new(),
            results: Vec::new(),
            aims: Vec::new(),
            last: String::new(),
        }
    }

    /// How often each contender runs.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// Runs a case. `ONLY=word` in the environment leaves out contenders without it in their name.
    pub fn compare(&mut self, mut case: Case<'_>) {
        if let Ok(only) = std::env::var("ONLY") {
            case.retain(&only);
        }
        if case.contenders.is_empty() {
            return;
        }
        let all = case.run(self.rounds, self.warm_up);
        let plain = &case.contenders[0].0;
        let mut table = format!(
            "| contender | records/s | CPU ns a record | records/s, ratio to `{plain}` | CPU, ratio to `{plain}` |\n\
             |---|---|---|---|---|\n"
        );
        for ((name, _), runs) in case.contenders.iter().zip(&all) {
            let of = |value: fn(&Took) -> f64| Spread::of(runs.iter().map(value));
            let (rate, cpu) = (of(Took::rate), of(Took::cpu_ns));
            let to_plain = ratio(runs, &all[0], Took::rate);
            let cpu_to_plain = ratio(runs, &all[0], Took::cpu_ns);
            table += &format!("| {name} | {rate} | {cpu} | {to_plain:.2} | {cpu_to_plain:.2} |\n");
            self.results.push(json!({
                "case": case.name,
                "contender": name,
                "records_per_s": rate.median.round(),
                "spread": [rate.least.round(), rate.most.round()],
                "cpu_ns_per_record": cpu.median.round(),
                "ratio_to_plain": (to_plain.median * 1000.0).round() / 1000.0,
            }));
        }
        self.section(&format!("{} ({} rounds)", case.name, self.rounds), &table);
        for aim in &case.aims {
            self.aims.extend(line(&case, aim, &all));
        }
    }

    /// Adds numbers of a contender that are no records a second, each with its unit.
    pub fn figures(&mut self, case: &str, contender: &str, figures: &[(&str, f64, &str)]) {
        let mut rows = String::new();
        for (name, value, unit) in figures {
            rows += &format!("| {contender} | {name} | {} {unit} |\n", short(*value));
            self.results.push(json!({
                "case": case, "contender": contender, "figure": name, "value": value, "unit": unit,
            }));
        }
        if self.last == case {
            self.print(&rows);
        } else {
            self.section(case, &format!("| | | |\n|---|---|---|\n{rows}"));
        }
    }

    /// Compares a number with its aim, an upper limit.
    pub fn at_most(&mut self, case: &str, what: &str, value: f64, limit: f64) {
        let verdict = verdict(value <= limit);
        self.aims.push(format!("| {case} | {what} <= {limit} | {} | {verdict} |", short(value)));
    }

    /// Writes the report and the results into a folder.
    pub fn write(&self, folder: &Path, environment: &str) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut report = format!("# Measured\n\n{environment}\n{}", self.markdown);
        if !self.aims.is_empty() {
            let aims = self.aims.join("\n");
            report += &format!("\n### aims\n\n| case | aim | measured | |\n|---|---|---|---|\n{aims}\n");
        }
        std::fs::write(folder.join("report.md"), report)?;
        let results = serde_json::to_string_pretty(&self.results)?;
        std::fs::write(folder.join("results.json"), results + "\n")
    }

    fn section(&mut self, title: &str, body: &str) {
        self.print(&format!("\n### {title}\n\n{body}"));
        self.last = title.to_owned();
    }

    fn print(&mut self, text: &str) {
        print!("{text}");
        self.markdown += text;
    }
}

/// What became of an aim; nothing where one of its contenders was left out.
fn line(case: &Case<'_>, aim: &Aim, all: &[Vec<Took>]) -> Option<String> {
    let Aim { contender, factor, of } = aim;
    let runs = &all[case.place(contender)?];
    let (text, measured, holds) = match of {
        Of::Rate(other) => {
            let measured = ratio(runs, &all[case.place(other)?], Took::rate);
            (format!("records/s of {contender} >= {factor} x {other}"), measured, measured.median >= *factor)
        }
        Of::Cpu(other) => {
            let measured = ratio(runs, &all[case.place(other)?], Took::cpu_ns);
            (format!("CPU of {contender} <= {factor} x {other}"), measured, measured.median <= *factor)
        }
        Of::RecordsPerSecond => {
            let measured = Spread::of(runs.iter().map(Took::rate));
            let text = format!("records/s of {contender} >= {factor}");
            return Some(format!(
                "| {} | {text} | {measured} | {} |",
                case.name,
                verdict(measured.median >= *factor)
            ));
        }
    };
    Some(format!("| {} | {text} | {measured:.2} | {} |", case.name, verdict(holds)))
}

fn verdict(holds: bool) -> &'static str {
    if holds { "met" } else { "missed" }
}

/// With as many digits as say something.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        100.0.. => format!("{value:.0}"),
        1.0.. => format!("{value:.1}"),
        _ => format!("{value:.4}"),
    }
}

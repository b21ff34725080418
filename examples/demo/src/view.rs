//! Prints the progress while the service runs: two middleware.

use anstyle::{AnsiColor, Style};
use onceward::middleware::{Delivery, Middleware, Next, NextRun, Outcomes, RecordMiddleware, Run};
use onceward::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
pub(crate) const RED: Style = AnsiColor::Red.on_default();
const CYAN: Style = AnsiColor::Cyan.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();

/// The colour of an outcome.
pub(crate) fn colour(outcome: &str) -> Style {
    match outcome {
        "completed" => GREEN,
        "duplicate" => CYAN,
        "skipped" => YELLOW,
        _ => RED,
    }
}

/// Prints a line: in colour on a terminal, unless NO_COLOR is set.
pub(crate) fn say(line: &str) {
    // Nobody reads it any more, as in `make demo | head`: no reason to fail.
    let _ = writeln!(anstream::stdout(), "{line}");
}

/// Counts the outcomes of each run, and prints the records that failed for good.
pub(crate) struct Progress(pub(crate) Arc<View>);

impl Middleware for Progress {
    async fn call<'a, N: NextRun>(&'a self, run: Run<'a>, next: &'a N) -> Outcomes {
        let outcomes = next.run(run).await;
        for (record, outcome) in run.iter().zip(&outcomes) {
            if let Outcome::DeadLettered(reason) = outcome {
                self.0.tell(
                    record,
                    RED,
                    &format!("given up ({}): its copy is in the dead-letter topic", reason.as_str()),
                );
            }
        }
        self.0.count(&outcomes);
        outcomes
    }
}

/// Prints records that need more than one attempt.
pub(crate) struct Attempts(pub(crate) Arc<View>);

impl RecordMiddleware for Attempts {
    async fn call<'a, N: Next<'a>>(&'a self, delivery: Delivery<'a>, next: N) -> HandlerResult<Outcome> {
        let record = delivery.record();
        let result = next.run(delivery).await;
        match &result {
            Err(error) if error.is_permanent() => self.0.tell(record, RED, &format!("failed: {error}")),
            Err(error) => self.0.tell(record, RED, &format!("failed: {error}; trying again")),
            Ok(outcome) if record.attempt() > 1 => {
                self.0.tell(record, colour(outcome.name()), outcome.name())
            }
            Ok(_) => {}
        }
        result
    }
}

/// The number of records by outcome and reason.
pub(crate) type Tally = BTreeMap<(&'static str, String), usize>;

/// The output of both middleware.
pub(crate) struct View {
    start: Instant,
    records: usize,
    tally: Mutex<Tally>,
}

impl View {
    pub(crate) fn new(records: usize) -> Self {
        Self { start: Instant::now(), records, tally: Mutex::default() }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts outcomes, and prints the progress after each tenth.
    fn count(&self, outcomes: &Outcomes) {
        let mut tally = self.locked();
        let tenths = |tally: &Tally| finished(tally) * 10 / self.records;
        let before = tenths(&tally);
        for outcome in outcomes {
            let reason = match outcome {
                Outcome::NotReached => continue,
                Outcome::Skipped(reason) => reason.to_string(),
                Outcome::Failed(error) => error.to_string(),
                Outcome::DeadLettered(reason) => reason.as_str().to_owned(),
                _ => String::new(),
            };
            *tally.entry((outcome.name(), reason)).or_default() += 1;
        }
        if tenths(&tally) > before {
            self.line(&progress(&tally, self.records));
        }
    }

    fn tell(&self, record: Record<'_>, style: Style, what: &str) {
        let plane = String::from_utf8_lossy(record.key().unwrap_or_default());
        self.line(&format!("      {style}{plane}: attempt {} {what}{style:#}", record.attempt()));
    }

    fn line(&self, text: &str) {
        say(&format!("{DIM}{:5.2} s{DIM:#}  {text}", self.start.elapsed().as_secs_f64()));
    }
}

/// The records that need nothing more.
pub(crate) fn finished(tally: &Tally) -> usize {
    tally.values().sum::<usize>() - ended_as(tally, "failed")
}

/// The records that ended with this outcome.
pub(crate) fn ended_as(tally: &Tally, outcome: &str) -> usize {
    tally.iter().filter(|((name, _), _)| *name == outcome).map(|(_, count)| count).sum()
}

/// The outcomes with which a record ends, and what the demo calls them.
pub(crate) const OUTCOMES: [(&str, &str); 4] = [
    ("completed", "completed"),
    ("duplicate", "duplicate"),
    ("skipped", "skipped"),
    ("dead_lettered", "dead letter"),
];

fn progress(tally: &Tally, records: usize) -> String {
    let mut line = format!("{:5} of {records}", finished(tally));
    for (outcome, name) in OUTCOMES {
        let style = colour(outcome);
        // A String takes whatever is written.
        let _ = write!(line, "   {style}{name} {:4}{style:#}", ended_as(tally, outcome));
    }
    line
}

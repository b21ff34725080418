//! The end: the outcomes of all records, and whether the result is right.

use crate::departure::Departure;
use crate::service::{Logbook, Planes, TOPIC};
use crate::view::{BOLD, DIM, GREEN, OUTCOMES, RED, Tally, colour, ended_as, finished, say};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Prints the tables, and says whether each event counted once.
pub(crate) fn report(departures: &[Departure], sent: usize, tally: &Tally, logbook: &Logbook) -> bool {
    outcomes(tally, sent);
    top_planes(&logbook.planes());
    let problems = problems(departures, sent, tally, logbook);
    for problem in problems.iter().take(5) {
        say(&format!("{RED}wrong: {problem}{RED:#}"));
    }
    if problems.is_empty() {
        let events = departures.len();
        say(&format!(
            "{GREEN}Checked against the file: each of the {events} events counted once, none was lost, each plane's came \
             in order, and what cannot be handled is in the topic {TOPIC}.dlq.{GREEN:#}"
        ));
    }
    problems.is_empty()
}

fn outcomes(tally: &Tally, sent: usize) {
    say(&format!("\n{BOLD}outcome      records  reason{BOLD:#}"));
    for ((outcome, reason), count) in tally.iter().filter(|((outcome, _), _)| *outcome != "failed") {
        let style = colour(outcome);
        let name = OUTCOMES.iter().find(|(known, _)| known == outcome).map_or(*outcome, |(_, name)| *name);
        let reason = match (*outcome, &**reason) {
            ("duplicate", _) => "the same event was handled before",
            ("dead_lettered", "rejected") => "its bytes do not decode",
            ("dead_lettered", "permanent") => "the handler says that trying again will not help",
            (_, reason) => reason,
        };
        say(format!("{style}{name:11}{style:#}  {count:7}  {reason}").trim_end());
    }
    say(&format!("{DIM}in all       {:7}  of {sent} sent{DIM:#}", finished(tally)));
}

fn top_planes(planes: &Planes) {
    let mut planes: Vec<_> = planes.iter().collect();
    planes.sort_by_key(|(_, plane)| Reverse((plane.departures.len(), plane.miles)));
    say(&format!("\n{BOLD}plane   departures   miles{BOLD:#}"));
    for (tailnum, plane) in planes.into_iter().take(5) {
        say(&format!("{tailnum:6}  {:10}  {:6}", plane.departures.len(), plane.miles));
    }
    say("");
}

/// The differences between the result and the records that were sent.
fn problems(departures: &[Departure], sent: usize, tally: &Tally, logbook: &Logbook) -> Vec<String> {
    let (hopeless, others): (Vec<_>, Vec<_>) =
        departures.iter().partition(|departure| departure.is_hopeless());
    let (cancelled, flown): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|departure| departure.is_cancelled());
    let expected = [
        ("completed", flown.len()),
        ("skipped", cancelled.len()),
        ("dead_lettered", hopeless.len()),
        ("duplicate", sent - departures.len()),
    ];
    if finished(tally) < sent {
        return vec![format!("only {} of {sent} records were handled", finished(tally))];
    }
    let mut problems = Vec::new();
    for (outcome, expected) in expected {
        let found = ended_as(tally, outcome);
        if found != expected {
            problems.push(format!("{found} records are {outcome}, and {expected} should be"));
        }
    }
    let truth = Logbook::default();
    flown.into_iter().for_each(|departure| truth.add(departure));
    let (truth, found) = (truth.planes(), logbook.planes());
    let expected_or_found: BTreeSet<_> = truth.keys().chain(found.keys()).collect();
    for plane in expected_or_found {
        if truth.get(plane) != found.get(plane) {
            problems.push(format!(
                "{plane} has {:?}, and should have {:?}",
                found.get(plane),
                truth.get(plane)
            ));
        }
    }
    problems
}

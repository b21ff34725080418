//! `flights verify`: compares the table with the truth, row by row.

use crate::args::{Args, Options};
use crate::selection::Selection;
use crate::settings::{DATA, TRUTH};
use crate::totals::{self, Planes, Totals};
use crate::{Result, table};
use std::collections::BTreeSet;
use std::process::ExitCode;

pub(crate) const OPTIONS: Options = Options {
    operand: Some("TRUTH"),
    flags: &["--unordered"],
    values: &["--data", "--from", "--to", "--sample", "--seed"],
};

const SHOWN: usize = 20;

/// Prints the rows that differ, the first of them, and how many there are. A row
/// that is missing and one too many differ too.
pub(crate) async fn verify(args: &Args) -> Result<ExitCode> {
    let (mut truth, mut table) = (truth(args)?, table::read().await?);
    if args.has("--unordered") {
        truth.forget_order();
        table.forget_order();
    }
    let differing = differing(&truth, &table);
    for key in differing.iter().take(SHOWN) {
        println!("{key}: expected {}; found {}", shown(truth.get(key)), shown(table.get(key)));
    }
    if differing.len() > SHOWN {
        println!("and {} more", differing.len() - SHOWN);
    }
    println!("keys differ: {}", differing.len());
    Ok(if differing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// From the file of truth, or computed where data or a selection of it is named.
fn truth(args: &Args) -> Result<Planes> {
    let computed = OPTIONS.values.iter().find(|option| args.has(option));
    match (args.operand(), computed) {
        (Some(path), None) => totals::read(path),
        (None, None) => totals::read(TRUTH),
        (None, Some(_)) => totals::of(&Selection::from_args(args)?, args.text("--data").unwrap_or(DATA)),
        (Some(path), Some(option)) => {
            Err(format!("`{path}` is the truth already, so `{option}` has no effect: leave one of them out"))
        }
    }
}

fn differing<'a>(truth: &'a Planes, table: &'a Planes) -> Vec<&'a String> {
    let keys: BTreeSet<_> = truth.keys().chain(table.keys()).collect();
    keys.into_iter().filter(|key| truth.get(key) != table.get(key)).collect()
}

fn shown(row: Option<&Totals>) -> String {
    row.map_or_else(|| "no row".into(), Totals::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, i64)]) -> Planes {
        rows.iter().map(|(key, flights)| Totals { flights: *flights, ..Totals::new(key) }).collect()
    }

    #[test]
    fn missing_extra_and_changed_rows_differ() {
        let truth = table(&[("a", 1), ("b", 1), ("c", 1)]);
        assert!(differing(&truth, &truth).is_empty());
        assert_eq!(differing(&truth, &table(&[("a", 1), ("b", 2), ("d", 1)])), ["b", "c", "d"]);
    }
}

//! The right result: one row per plane.

use crate::Result;
use crate::args::{Args, Options};
use crate::flight::Flight;
use crate::selection::Selection;
use crate::settings::DATA;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;

pub(crate) const OPTIONS: Options =
    Options { operand: Some("FILE"), flags: &[], values: &["--from", "--to", "--sample", "--seed"] };

/// A row of the truth, and of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub(crate) struct Totals {
    pub(crate) tailnum: String,
    pub(crate) flights: i64,
    pub(crate) cancelled: i64,
    pub(crate) dep_delay_sum: i64,
    pub(crate) distance_sum: i64,
    /// A hash of the flights and their order: see `data/README.md`.
    pub(crate) chain: String,
}

impl Totals {
    pub(crate) fn new(tailnum: &str) -> Self {
        Self { tailnum: tailnum.to_owned(), ..Self::default() }
    }

    /// Adds the plane's next flight.
    fn add(&mut self, flight: &Flight) {
        self.flights += 1;
        self.cancelled += i64::from(flight.is_cancelled());
        self.dep_delay_sum += flight.delay();
        self.distance_sum += i64::from(flight.distance);
        self.chain =
            format!("{:x}", Md5::new().chain_update(&self.chain).chain_update(&flight.event_id).finalize());
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tailnum: _, flights, cancelled, dep_delay_sum, distance_sum, chain } = self;
        write!(
            f,
            "flights {flights}, cancelled {cancelled}, dep_delay_sum {dep_delay_sum}, \
             distance_sum {distance_sum}, chain {chain}"
        )
    }
}

/// Totals by plane, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Planes(BTreeMap<String, Totals>);

impl Planes {
    /// Clears the hash of the order.
    pub(crate) fn forget_order(&mut self) {
        self.0.values_mut().for_each(|plane| plane.chain.clear());
    }

    /// Adds a flight to its plane.
    pub(crate) fn add(&mut self, flight: &Flight) {
        self.0.entry(flight.tailnum.clone()).or_insert_with_key(|plane| Totals::new(plane)).add(flight);
    }

    pub(crate) fn get(&self, plane: &str) -> Option<&Totals> {
        self.0.get(plane)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &Totals> {
        self.0.values()
    }
}

impl FromIterator<Totals> for Planes {
    fn from_iter<I: IntoIterator<Item = Totals>>(rows: I) -> Self {
        Self(rows.into_iter().map(|row| (row.tailnum.clone(), row)).collect())
    }
}

/// Computes the truth of the selected rows of a file.
pub(crate) fn of(selection: &Selection, path: &str) -> Result<Planes> {
    let mut truth = Planes::default();
    selection.each(path, |row| {
        truth.add(&row.into_flight());
        Ok(())
    })?;
    Ok(truth)
}

/// Reads a truth from a CSV file.
pub(crate) fn read(path: &str) -> Result<Planes> {
    csv::Reader::from_path(path)
        .and_then(|reader| reader.into_deserialize().collect())
        .map_err(|error| format!("cannot read the truth {path}: {error}"))
}

/// `flights truth`: prints the truth of the selected rows.
pub(crate) fn print(args: &Args) -> Result<()> {
    let truth = of(&Selection::from_args(args)?, args.operand().unwrap_or(DATA))?;
    write(&truth, std::io::stdout().lock()).map_err(|error| format!("cannot print the truth: {error}"))
}

fn write(truth: &Planes, to: impl Write) -> csv::Result<()> {
    let mut writer = csv::Writer::from_writer(to);
    for row in truth.rows() {
        writer.serialize(row)?;
    }
    Ok(writer.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::TRUTH;

    #[test]
    fn the_bundled_truth_is_that_of_the_bundled_flights() {
        let mut computed = Vec::new();
        write(&of(&Selection::ALL, DATA).unwrap(), &mut computed).unwrap();
        assert!(computed == std::fs::read(TRUTH).unwrap());
        assert_eq!(format!("{:x}", Md5::digest(&computed)), "1411c3521d8e2fff681af1a6b32e9354");
    }

    #[test]
    fn the_order_of_two_flights_changes_the_chain() {
        let flight = |event_id: &str| Flight {
            event_id: event_id.into(),
            tailnum: "N1".into(),
            dep_time: None,
            dep_delay: None,
            distance: 1,
        };
        let mut there_and_back = Totals::new("N1");
        there_and_back.add(&flight("a"));
        there_and_back.add(&flight("b"));
        let mut back_and_there = Totals::new("N1");
        back_and_there.add(&flight("b"));
        back_and_there.add(&flight("a"));
        assert_ne!(there_and_back.chain, back_and_there.chain);
        assert_eq!(there_and_back.cancelled, 2);
    }
}

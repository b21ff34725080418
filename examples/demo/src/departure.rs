//! A departure: a row of the file, and the payload of a record.

use liblzma::read::XzDecoder;
use onceward::BoxError;
use serde::{Deserialize, Serialize};
use std::fs::File;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../flights/data/flights.csv.xz");

/// A flight that left New York in 2013, or was meant to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Departure {
    year: u16,
    month: u8,
    day: u8,
    carrier: String,
    pub(crate) flight: u32,
    /// The plane.
    pub(crate) tailnum: String,
    origin: String,
    sched_dep_time: u16,
    /// `None` (`NA` in the file): it was cancelled.
    #[serde(deserialize_with = "csv::invalid_option")]
    pub(crate) dep_time: Option<u16>,
    /// In miles.
    pub(crate) distance: u64,
}

impl Departure {
    /// Its identity.
    pub(crate) fn id(&self) -> String {
        let Self { year, month, day, carrier, flight, origin, sched_dep_time, .. } = self;
        format!("{year}-{month:02}-{day:02}/{carrier}{flight}/{origin}/{sched_dep_time}")
    }

    /// True for departures whose payload the producer truncates.
    pub(crate) fn is_garbled(&self) -> bool {
        self.flight % 500 == 31
    }

    /// True for departures whose plane is unknown, at every attempt.
    pub(crate) fn is_of_no_known_plane(&self) -> bool {
        self.flight % 500 == 77
    }

    /// True for departures that no attempt can handle.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.is_garbled() || (self.is_of_no_known_plane() && !self.is_cancelled())
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.dep_time.is_none()
    }
}

/// The first departures of the file.
pub(crate) fn read(count: usize) -> Result<Vec<Departure>, BoxError> {
    let file = File::open(FILE).map_err(|error| format!("cannot open {FILE}: {error}"))?;
    let rows = csv::Reader::from_reader(XzDecoder::new(file));
    Ok(rows.into_deserialize().take(count).collect::<Result<_, csv::Error>>()?)
}

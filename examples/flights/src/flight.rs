//! A flight: as a row of the CSV file, and as the handlers see it.

use crate::Result;
use csv::StringRecord;
use liblzma::read::XzDecoder;
use onceward::ReadsAvro;
use serde::{Deserialize, Deserializer, Serialize};
use std::fs::File;
use std::io::{BufReader, Read};

/// The fields of an event that the handlers need. The others are not decoded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ReadsAvro)]
#[avro_schema("schemas/flight.v1.avsc")]
#[avro_schema("schemas/flight.v2.avsc")]
#[avro_schema("schemas/flight.v3.avsc")]
pub(crate) struct Flight {
    pub(crate) event_id: String,
    pub(crate) tailnum: String,
    /// `None`: it was cancelled.
    pub(crate) dep_time: Option<i32>,
    pub(crate) dep_delay: Option<i32>,
    /// In miles, as the newest of the Avro schemas calls it.
    #[serde(alias = "miles")]
    pub(crate) distance: i32,
}

impl Flight {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.dep_time.is_none()
    }

    /// In minutes; a cancelled flight has none.
    pub(crate) fn delay(&self) -> i64 {
        self.dep_delay.unwrap_or(0).into()
    }
}

/// A row of the file. As JSON it is the event's payload: every column by its
/// name, `NA` as null, and `event_id`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row<'r> {
    #[serde(skip_deserializing)]
    pub(crate) event_id: String,
    year: i32,
    pub(crate) month: u8,
    day: u8,
    #[serde(deserialize_with = "number_or_na")]
    dep_time: Option<i32>,
    sched_dep_time: i32,
    #[serde(deserialize_with = "number_or_na")]
    dep_delay: Option<i32>,
    #[serde(deserialize_with = "number_or_na")]
    arr_time: Option<i32>,
    #[serde(deserialize_with = "number_or_na")]
    sched_arr_time: Option<i32>,
    #[serde(deserialize_with = "number_or_na")]
    arr_delay: Option<i32>,
    carrier: &'r str,
    flight: i32,
    /// The key. `NA` stays: it is a key like any other.
    pub(crate) tailnum: &'r str,
    pub(crate) origin: &'r str,
    dest: &'r str,
    #[serde(deserialize_with = "number_or_na")]
    air_time: Option<i32>,
    distance: i32,
    #[serde(deserialize_with = "number_or_na")]
    hour: Option<i32>,
    #[serde(deserialize_with = "number_or_na")]
    minute: Option<i32>,
    time_hour: &'r str,
}

impl Row<'_> {
    fn identified(mut self) -> Self {
        let Self { year, month, day, carrier, flight, origin, sched_dep_time, .. } = &self;
        self.event_id = format!("{year}-{month:02}-{day:02}/{carrier}{flight}/{origin}/{sched_dep_time}");
        self
    }

    pub(crate) fn into_flight(self) -> Flight {
        let Self { event_id, tailnum, dep_time, dep_delay, distance, .. } = self;
        Flight { event_id, tailnum: tailnum.to_owned(), dep_time, dep_delay, distance }
    }
}

/// The rows of a CSV file in their order, one at a time.
pub(crate) struct Rows {
    path: String,
    reader: csv::Reader<Box<dyn Read>>,
    columns: StringRecord,
    row: StringRecord,
}

impl Rows {
    /// Opens a file. One whose name ends in `.xz` is unpacked.
    pub(crate) fn open(path: &str) -> Result<Self> {
        let file = File::open(path).map_err(|error| format!("cannot open {path}: {error}"))?;
        let file: Box<dyn Read> = if path.ends_with(".xz") {
            Box::new(XzDecoder::new_multi_decoder(BufReader::new(file)))
        } else {
            Box::new(file)
        };
        let mut reader = csv::Reader::from_reader(file);
        let columns = reader.headers().map_err(|error| format!("cannot read {path}: {error}"))?.clone();
        Ok(Self { path: path.to_owned(), reader, columns, row: StringRecord::new() })
    }

    /// The next row. It borrows the line, so it is no iterator's item.
    pub(crate) fn next(&mut self) -> Result<Option<Row<'_>>> {
        let cannot = |error| format!("cannot read {}: {error}", self.path);
        if !self.reader.read_record(&mut self.row).map_err(cannot)? {
            return Ok(None);
        }
        let row: Row<'_> = self.row.deserialize(Some(&self.columns)).map_err(cannot)?;
        Ok(Some(row.identified()))
    }
}

fn number_or_na<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<i32>, D::Error> {
    let text = <&str>::deserialize(deserializer)?;
    if text == "NA" {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| serde::de::Error::custom(format!("`{text}` is neither a whole number nor NA")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::DATA;

    #[test]
    fn a_row_is_a_json_event_that_the_handlers_can_read() {
        let mut rows = Rows::open(DATA).unwrap();
        let row = rows.next().unwrap().unwrap();
        let json = serde_json::to_string(&row).unwrap();
        assert_eq!(
            json,
            r#"{"event_id":"2013-01-01/UA1545/EWR/515","year":2013,"month":1,"day":1,"dep_time":517,"#
                .to_owned()
                + r#""sched_dep_time":515,"dep_delay":2,"arr_time":830,"sched_arr_time":819,"#
                + r#""arr_delay":11,"carrier":"UA","flight":1545,"tailnum":"N14228","origin":"EWR","#
                + r#""dest":"IAH","air_time":227,"distance":1400,"hour":5,"minute":15,"#
                + r#""time_hour":"2013-01-01T10:00:00Z"}"#
        );
        assert_eq!(serde_json::from_str::<Flight>(&json).unwrap(), row.into_flight());
    }

    #[test]
    fn na_is_null_except_in_the_key() {
        let mut rows = Rows::open(DATA).unwrap();
        loop {
            let row = rows.next().unwrap().unwrap();
            if row.tailnum == "NA" {
                let json = serde_json::to_value(&row).unwrap();
                assert_eq!(json["tailnum"], "NA");
                assert!(json["dep_time"].is_null() && json["arr_delay"].is_null());
                assert!(row.into_flight().is_cancelled());
                return;
            }
        }
    }

    #[test]
    fn an_unreadable_field_is_named() {
        assert!(Rows::open("/nowhere.csv").err().unwrap().starts_with("cannot open /nowhere.csv: "));
        let text = serde::de::value::BorrowedStrDeserializer::<serde::de::value::Error>::new("5x");
        let error = number_or_na(text).unwrap_err();
        assert_eq!(error.to_string(), "`5x` is neither a whole number nor NA");
    }
}

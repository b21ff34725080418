//! Flights in Avro, by the three schemas that their producer has had in the year.

use crate::flight::Row;
use crate::{Result, settings};
use onceward::{AvroEncoder, SchemaRegistryConfig};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// One version of the producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    First,
    /// With a `gate`, which has a default.
    WithGate,
    /// The `distance` is called `miles`, and has the old name as an alias.
    InMiles,
}

impl Version {
    const ALL: [Self; 3] = [Self::First, Self::WithGate, Self::InMiles];

    /// The months stand in the file as 1, 10, 11, 12, 2, 3 and so on.
    fn of_month(month: u8) -> Self {
        match month {
            1 | 10 | 11 => Self::First,
            12 | 2..=5 => Self::WithGate,
            _ => Self::InMiles,
        }
    }

    fn schema(self) -> &'static str {
        match self {
            Self::First => include_str!("../schemas/flight.v1.avsc"),
            Self::WithGate => include_str!("../schemas/flight.v2.avsc"),
            Self::InMiles => include_str!("../schemas/flight.v3.avsc"),
        }
    }

    /// The columns that the schema has.
    fn columns(self) -> Result<Vec<String>> {
        let schema: Value = serde_json::from_str(self.schema()).map_err(|error| error.to_string())?;
        let fields = schema["fields"].as_array().into_iter().flatten();
        Ok(fields.filter_map(|field| field["name"].as_str()).map(str::to_owned).collect())
    }
}

/// Encodes rows by the schema of their time.
pub(crate) struct Encoders(Vec<(AvroEncoder, Vec<String>)>);

impl Encoders {
    pub(crate) fn new() -> Result<Self> {
        let registry = SchemaRegistryConfig::at(settings::registry()?);
        let encoder = |version: Version| {
            let encoder = AvroEncoder::new(&registry, version.schema());
            let encoder = encoder.map(AvroEncoder::registering).map_err(|error| format!("{error:?}"))?;
            Ok((encoder, version.columns()?))
        };
        Version::ALL.into_iter().map(encoder).collect::<Result<_>>().map(Self)
    }

    pub(crate) fn encode(&self, topic: &str, row: &Row<'_>) -> Result<Vec<u8>> {
        let cannot =
            |error: &dyn std::fmt::Display| format!("cannot write {} as Avro: {error}", row.event_id);
        let version = Version::of_month(row.month);
        let (encoder, columns) = &self.0[version as usize];
        let mut event = serde_json::to_value(row).map_err(|error| cannot(&error))?;
        event["miles"] = event["distance"].clone();
        event["gate"] = format!("{}{}", row.origin, row.month).into();
        // What it has and the schema lacks would be refused.
        if let Value::Object(fields) = &mut event {
            fields.retain(|name, _| columns.contains(name));
        }
        // Rows are read by a thread that does nothing else.
        let encoded = block_in_place(|| Handle::current().block_on(encoder.value(topic, &event)));
        encoded.map_err(|error| cannot(&error))
    }
}

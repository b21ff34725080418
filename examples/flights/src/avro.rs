//! Flights in Avro, by the three schemas that their producer has had in the year.

use crate::flight::Row;
use crate::{Result, settings};
use onceward::{AvroEncoder, SchemaRegistryConfig};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// What the schemas have in common.
const COLUMNS: [(&str, &str); 14] = [
    ("event_id", "string"),
    ("year", "int"),
    ("month", "int"),
    ("day", "int"),
    ("sched_dep_time", "int"),
    ("carrier", "string"),
    ("flight", "int"),
    ("tailnum", "string"),
    ("origin", "string"),
    ("dest", "string"),
    ("time_hour", "string"),
    ("dep_time", "int?"),
    ("dep_delay", "int?"),
    ("air_time", "int?"),
];

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

    fn schema(self) -> String {
        let column = |(name, kind): (&str, &str)| match kind.strip_suffix('?') {
            Some(kind) => json!({ "name": name, "type": ["null", kind], "default": null }),
            None => json!({ "name": name, "type": kind }),
        };
        let mut fields: Vec<Value> = COLUMNS.into_iter().map(column).collect();
        if self != Self::First {
            fields.push(json!({ "name": "gate", "type": "string", "default": "" }));
        }
        fields.push(match self {
            Self::InMiles => json!({ "name": "miles", "type": "int", "aliases": ["distance"] }),
            _ => json!({ "name": "distance", "type": "int" }),
        });
        json!({ "type": "record", "name": "Flight", "namespace": "airport", "fields": fields }).to_string()
    }
}

/// Encodes rows by the schema of their time.
pub(crate) struct Encoders([AvroEncoder; 3]);

impl Encoders {
    pub(crate) fn new() -> Result<Self> {
        let registry = SchemaRegistryConfig::at(settings::registry()?);
        let encoder = |version: Version| {
            let encoder = AvroEncoder::new(&registry, &version.schema());
            encoder.map(AvroEncoder::registering).map_err(|error| format!("{error:?}"))
        };
        let [first, second, third] = Version::ALL.map(encoder);
        Ok(Self([first?, second?, third?]))
    }

    pub(crate) fn encode(&self, topic: &str, row: &Row<'_>) -> Result<Vec<u8>> {
        let cannot =
            |error: &dyn std::fmt::Display| format!("cannot write {} as Avro: {error}", row.event_id);
        let version = Version::of_month(row.month);
        let mut event = serde_json::to_value(row).map_err(|error| cannot(&error))?;
        // What it has and the schema lacks would be refused.
        let (columns, mut fields) = (event.as_object_mut(), serde_json::Map::new());
        for (name, value) in columns.into_iter().flatten() {
            match (&**name, version) {
                ("distance", Version::InMiles) => drop(fields.insert("miles".into(), value.take())),
                ("distance", _) => drop(fields.insert("distance".into(), value.take())),
                _ if COLUMNS.iter().any(|(column, _)| column == name) => {
                    fields.insert(name.clone(), value.take());
                }
                _ => {}
            }
        }
        if version != Version::First {
            fields.insert("gate".into(), format!("{}{}", row.origin, row.month).into());
        }
        // Rows are read by a thread that does nothing else.
        let encoded = block_in_place(|| {
            Handle::current().block_on(self.0[version as usize].value(topic, &Value::Object(fields)))
        });
        encoded.map_err(|error| cannot(&error))
    }
}

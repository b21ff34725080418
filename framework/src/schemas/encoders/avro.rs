//! Writes Avro by a schema of the registry.

use crate::config::schema_registry::SchemaRegistryConfig;
use crate::error::lookup::Part;
use crate::error::{Error, HandlerResult, ResultExt};
use crate::schemas::avro;
use crate::schemas::references::Referenced;
use crate::schemas::registration::{Registration, encoder};
use serde::Serialize;
use std::fmt;

/// Encodes values as Avro in Confluent's wire format, by one schema.
///
/// The schema's id is asked for at the first value and kept. A schema that the registry does
/// not have is an error, unless [`registering`](Self::registering) is set.
///
/// ```no_run
/// use onceward::prelude::*;
/// use onceward::{AvroEncoder, SchemaRegistryConfig};
/// use serde::Serialize;
/// use std::sync::Arc;
///
/// #[derive(Serialize)]
/// struct Delay {
///     tailnum: String,
///     minutes: i64,
/// }
///
/// const DELAY: &str = r#"{"type": "record", "name": "Delay", "namespace": "airport", "fields": [
///     {"name": "tailnum", "type": "string"}, {"name": "minutes", "type": "long"}]}"#;
///
/// #[handler(topic = "flights", group = "delays")]
/// async fn on_flight(record: Bytes, delays: State<Arc<AvroEncoder>>) -> HandlerResult<ProducerRecord> {
///     let delay = Delay { tailnum: "N14228".into(), minutes: 2 };
///     Ok(ProducerRecord::to("delays").payload(delays.value("delays", &delay).await?))
/// }
///
/// # async fn run() -> Result<(), onceward::Error> {
/// let registry = SchemaRegistryConfig::at("http://127.0.0.1:8081");
/// let delays = AvroEncoder::new(&registry, DELAY)?.registering();
/// App::from_env()?.state(Arc::new(delays)).handler(on_flight {}).run().await
/// # }
/// ```
pub struct AvroEncoder {
    registration: Registration,
    schema: avro::Schema,
    /// Its full name.
    record_type: String,
}

impl AvroEncoder {
    /// Makes an encoder; nothing is asked for yet.
    ///
    /// # Errors
    /// Where no registry is set, a setting of it is wrong, or the schema is none.
    pub fn new(registry: &SchemaRegistryConfig, schema: &str) -> Result<Self, Error> {
        let registration = Registration::new(registry, "AVRO", schema)?;
        let parsed = avro::parse(schema, &Referenced::default());
        let record_type = crate::schemas::record_type_of(schema);
        Ok(Self {
            registration,
            schema: parsed.map_err(|problem| Error::config("schema", problem))?,
            record_type: record_type.unwrap_or_else(|| schema.trim().trim_matches('"').to_owned()),
        })
    }

    async fn encode<T: Serialize + ?Sized>(
        &self,
        part: Part,
        topic: &str,
        value: &T,
    ) -> HandlerResult<Vec<u8>> {
        let mut bytes = self.registration.prefix(part, topic, &self.record_type).await?;
        avro::encode(&self.schema, value, &mut bytes).permanent()?;
        Ok(bytes)
    }
}

encoder!(AvroEncoder for Serialize + ?Sized);

impl fmt::Debug for AvroEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AvroEncoder({}, {:?})", self.record_type, self.registration)
    }
}

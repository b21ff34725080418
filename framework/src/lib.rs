//! Consumer-side processing for Apache Kafka: no event lost, no effect twice, in
//! order.
//!
//! ```no_run
//! use onceward::prelude::*;
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct Flight {
//!     tailnum: String,
//!     distance: i64,
//! }
//!
//! /// Adds a departure to its plane's totals, once.
//! #[handler(topic = "flights", group = "totals")]
//! async fn on_flight(Json(flight): Json<Flight>, tx: &mut Tx) -> HandlerResult {
//!     sqlx::query(
//!         "insert into totals (tailnum, distance) values ($1, $2)
//!          on conflict (tailnum) do update set distance = totals.distance + excluded.distance",
//!     )
//!     .bind(&flight.tailnum)
//!     .bind(flight.distance)
//!     .execute(tx)
//!     .await?;
//!     Ok(())
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), onceward::Error> {
//!     App::from_env()?.handler(on_flight {}).run().await
//! }
//! ```
//!
//! The folders are in the order of a record's way, from the broker to the handler and back to
//! the committed offset. ARCHITECTURE.md describes it file by file.

#![cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "what only PostgreSQL needs"))]

mod app;
mod config;
mod consumer;
mod kafka;
mod record;
mod worker;
mod routing;
pub mod middleware;
pub mod extract;
mod handler;
mod dedupe;
mod failure;
mod publish;
#[cfg(feature = "schemas")]
mod schemas;
mod telemetry;
mod error;
mod base;
#[cfg(feature = "testing")]
pub mod testing;
pub mod prelude;
#[doc(hidden)]
pub mod __private;

pub use app::builder::App;
#[cfg(feature = "schemas")]
pub use config::schema_registry::{JsonSchemaDraft, SchemaCheck, SchemaRegistryConfig};
pub use config::{
    Config, DeadLetterConfig, DeadLetterPartition, DedupeKind, GroupProtocol, Guarantee, HandlerConfig,
    HeaderFamily, Order, OutOfRange, Start, TraceMode,
};
#[cfg(all(feature = "faults", feature = "postgres"))]
#[doc(hidden)]
pub use dedupe::by_hand;
#[cfg(feature = "postgres")]
pub use dedupe::migrate::migrate;
pub use dedupe::tx::Tx;
pub use error::reason::Reason;
pub use error::{BoxError, Error, ErrorKind, HandlerError, HandlerResult, ResultExt};
#[cfg(feature = "avro")]
pub use extract::ReaderSchema;
pub use extract::batch::Rejected;
pub use failure::policy::{ErrorPolicy, RetryPolicy};
pub use handler::delivery::Delivery;
pub use handler::{Handled, Handler, IntoHandled, Settings, Tombstones};
pub use middleware::{Middleware, Next, NextRun, RecordMiddleware};
#[cfg(all(feature = "macros", feature = "avro"))]
#[doc = include_str!("docs/reader_schema.md")]
pub use onceward_macros::ReaderSchema;
#[cfg(all(feature = "macros", feature = "avro"))]
#[doc = include_str!("docs/reads_avro.md")]
pub use onceward_macros::ReadsAvro;
#[cfg(feature = "macros")]
#[doc = include_str!("docs/handler.md")]
pub use onceward_macros::handler;
pub use publish::{HOPS_HEADER, ProducerRecord, Published, Publisher};
pub use record::identity::{IDENTITY_HEADER, IdentityFunction, IdentitySource, REDRIVEN_HEADER};
pub use record::outcome::{Outcome, Outcomes};
pub use record::run::Run;
pub use record::{Header, Headers, Record, TopicPartition};
pub use routing::event_type::{EventFunction, EventType};
pub use routing::route::{BoxRoute, HandlerExt, IntoRoute, Route};
pub use routing::router::Unmatched;
#[cfg(any(feature = "avro", feature = "json-schema", feature = "protobuf"))]
pub use schemas::SubjectName;
#[cfg(feature = "avro")]
pub use schemas::encoders::AvroEncoder;
#[cfg(feature = "json-schema")]
pub use schemas::encoders::JsonSchemaEncoder;
#[cfg(feature = "protobuf")]
pub use schemas::encoders::ProtobufEncoder;
pub use telemetry::condition::{Condition, ConditionKind, Severity};
pub use telemetry::health::{Health, Unfinished};
#[cfg(feature = "otlp")]
pub use telemetry::otlp;
pub use tokio_util::sync::CancellationToken;

/// The snippets of the guides, compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
// It tells how to send spans, too.
#[cfg_attr(feature = "otlp", doc = include_str!("../../docs/operations.md"))]
struct Guides;

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
//! The modules stand in the order of a record's way from the broker to the handler
//! and back to the committed offset; ARCHITECTURE.md tells it file by file.

#![cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "what only PostgreSQL needs"))]

mod app;
mod checks;
mod binding;
mod config;
mod record;
mod run;

mod queue;
mod read_lock;
mod inbox;
mod partition;
mod remaining;
mod side_by_side;
mod desk;
mod lanes;
mod order;
mod router;
mod route;
#[cfg(feature = "schemas")]
mod schemas;
pub mod middleware;
mod tx;
pub mod extract;
mod handler;
mod outcome;
mod offsets;
mod memo;
mod commit;

mod publish;

mod poll;
mod assignment;
mod owned;
mod positions;
mod topic_watch;
mod shutdown;
mod tail;

mod admin;
mod backoff;
#[cfg(feature = "postgres")]
mod breaks;
mod client_events;
mod cloud_event;
mod condition;
mod contact;
mod dead_letter;
mod dedupe;
mod drain;
mod error;
mod event_type;
mod failure;
mod fault;
mod fetching;
mod health;
mod hooks;
mod identity;
#[cfg(feature = "json")]
mod json_field;
mod left_out;
mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
mod outage;
mod pace;
mod producer;
#[cfg(feature = "postgres")]
mod sql;
mod starts;
mod subscription;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod topics;
mod trace;
mod trials;
mod trouble;
mod unreachable;
#[cfg(test)]
mod worker_tests;
mod wake;

#[doc(hidden)]
pub mod __private;

pub use app::App;
pub use condition::{Condition, ConditionKind, Severity};
pub use config::{
    Config, DeadLetterConfig, DeadLetterPartition, DedupeKind, GroupProtocol, HandlerConfig, HeaderFamily,
    OutOfRange, Start,
};
#[cfg(feature = "postgres")]
pub use dedupe::migrate::migrate;
pub use error::{BoxError, Error, ErrorKind, HandlerError, HandlerResult, ResultExt};
pub use event_type::{EventFunction, EventType};
#[cfg(feature = "avro")]
pub use extract::ReaderSchema;
pub use failure::{ErrorPolicy, Reason, RetryPolicy};
pub use handler::{Handled, Handler, IntoHandled, Rejected, Settings, Tombstones};
pub use health::{Health, Unfinished};
pub use identity::{IDENTITY_HEADER, IdentityFunction, IdentitySource, REDRIVEN_HEADER};
pub use middleware::{Delivery, Middleware, Next, NextRun, RecordMiddleware};
#[cfg(all(feature = "macros", feature = "avro"))]
#[doc = include_str!("docs/reader_schema.md")]
pub use onceward_macros::ReaderSchema;
#[cfg(all(feature = "macros", feature = "avro"))]
#[doc = include_str!("docs/reads_avro.md")]
pub use onceward_macros::ReadsAvro;
#[cfg(feature = "macros")]
#[doc = include_str!("docs/handler.md")]
pub use onceward_macros::handler;
pub use order::{Guarantee, Order};
pub use outcome::{Outcome, Outcomes};
pub use publish::{HOPS_HEADER, ProducerRecord, Published, Publisher};
pub use record::{Header, Headers, Record, TopicPartition};
pub use route::{IntoRoute, Route};
pub use router::Unmatched;
pub use run::Run;
#[cfg(any(feature = "avro", feature = "json-schema", feature = "protobuf"))]
pub use schemas::SubjectName;
#[cfg(feature = "avro")]
pub use schemas::encoders::AvroEncoder;
#[cfg(feature = "json-schema")]
pub use schemas::encoders::JsonSchemaEncoder;
#[cfg(feature = "protobuf")]
pub use schemas::encoders::ProtobufEncoder;
#[cfg(feature = "schemas")]
pub use schemas::{JsonSchemaDraft, SchemaCheck, SchemaRegistryConfig};
pub use tokio_util::sync::CancellationToken;
pub use trace::TraceMode;
pub use tx::Tx;

/// What most services use.
pub mod prelude {
    #[cfg(feature = "json-schema")]
    pub use crate::extract::JsonSchema;
    #[cfg(feature = "protobuf")]
    pub use crate::extract::Protobuf;
    pub use crate::extract::{
        Attempt, Batch, Bytes, Headers, Key, Position, Publisher, Record, State, Upcast,
    };
    #[cfg(feature = "avro")]
    pub use crate::extract::{Avro, ResolvedAvro};
    #[cfg(feature = "json")]
    pub use crate::extract::{CloudEvent, Json};
    #[cfg(feature = "macros")]
    pub use crate::handler;
    pub use crate::{
        App, Delivery, ErrorPolicy, EventType, Handler, HandlerError, HandlerResult, IdentitySource,
        Middleware, Next, NextRun, Outcome, Outcomes, ProducerRecord, RecordMiddleware, ResultExt, Run, Tx,
        Unmatched,
    };
}

/// The snippets of the guides, compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
// It tells how to send spans, too.
#[cfg_attr(feature = "otlp", doc = include_str!("../../docs/operations.md"))]
struct Guides;

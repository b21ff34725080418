//! The names that most services use.

#[cfg(feature = "json-schema")]
pub use crate::extract::JsonSchema;
#[cfg(feature = "protobuf")]
pub use crate::extract::Protobuf;
pub use crate::extract::{Attempt, Batch, Bytes, Headers, Key, Position, Publisher, Record, State, Upcast};
#[cfg(feature = "avro")]
pub use crate::extract::{Avro, ResolvedAvro};
#[cfg(feature = "json")]
pub use crate::extract::{CloudEvent, Json};
#[cfg(feature = "macros")]
pub use crate::handler;
pub use crate::{
    App, Delivery, ErrorPolicy, EventType, Handler, HandlerError, HandlerExt, HandlerResult, IdentitySource,
    Middleware, Next, NextRun, Outcome, Outcomes, ProducerRecord, RecordMiddleware, ResultExt, Run, Tx,
    Unmatched,
};

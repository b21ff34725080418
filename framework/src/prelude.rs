//! The names that most services use. Middleware need names of [`middleware`](crate::middleware) too.
//!
//! A name that is imported by itself hides the one of a prelude: beside `use axum::Json;` a handler
//! that takes `Json<T>` takes axum's, and the compiler refuses it. Write `onceward::extract::Json<T>`
//! there, or keep handlers and web pages in modules of their own.

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
    App, BoxError, ErrorPolicy, EventType, Handler, HandlerError, HandlerExt, HandlerResult, IdentitySource,
    Outcome, ProducerRecord, ResultExt, Tx, Unmatched,
};

//! What a handler publishes because of a record.

mod producer_record;
mod publisher;
mod publishing;

pub use producer_record::ProducerRecord;
pub use publisher::{Published, Publisher};
pub(crate) use publishing::Publishing;

/// How many handlers a chain of records has gone through. Onceward counts it up on each record
/// that a handler publishes, whatever the handler itself puts there.
pub const HOPS_HEADER: &str = "onceward.hops";

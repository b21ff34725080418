//! Records that a handler publishes because of a record.

mod producer_record;
mod publisher;
mod publishing;

pub use producer_record::ProducerRecord;
pub use publisher::{Published, Publisher};
pub(crate) use publishing::Publishing;

/// The number of handlers that a chain of records has passed. Onceward sets it on each record
/// that a handler publishes, whatever value the handler sets.
pub const HOPS_HEADER: &str = "onceward.hops";

//! For demos and quick tests of applications: Kafka in this process.
//!
//! Needs the feature `testing`. [`TestBroker`] says what it can test and what it cannot.

mod broker;
mod extraction;
mod record;
mod run_until;

pub use broker::TestBroker;
pub use extraction::InMemoryRecord;
#[cfg(feature = "schemas")]
pub use extraction::context_with_registry;
pub use record::TestRecord;
pub use run_until::run_until;

//! For demos and quick tests of applications: Kafka in this process.
//!
//! Needs the feature `testing`. [`TestBroker`] says what it can test and what it cannot. To call a handler
//! that takes `&mut Tx`, use [`tx`], with a real PostgreSQL.

mod broker;
mod extraction;
mod read;
mod record;
mod run_until;
#[cfg(feature = "postgres")]
mod transaction;

pub use broker::TestBroker;
pub use extraction::InMemoryRecord;
#[cfg(feature = "schemas")]
pub use extraction::context_with_registry;
pub use record::TestRecord;
pub use run_until::run_until;
#[cfg(feature = "postgres")]
pub use transaction::tx;

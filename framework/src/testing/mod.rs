//! For demos and quick tests of applications: Kafka in this process.
//!
//! Needs the feature `testing`. [`TestBroker`] says what it is good for, and what
//! it is not.

mod broker;
mod record;
mod run_until;

pub use broker::TestBroker;
pub use record::TestRecord;
pub use run_until::run_until;

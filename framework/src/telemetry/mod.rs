//! Health, metrics and traces.

pub(crate) mod condition;
pub(crate) mod group;
pub(crate) mod health;
pub(crate) mod left_out;
pub(crate) mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub(crate) mod trace;

//! All of librdkafka, and all unsafe code but that of the signal handler (`app/signals.rs`).

pub(crate) mod client;
pub(crate) mod client_config;
pub(crate) mod message;
pub(crate) mod queue;
pub(crate) mod offsets;
#[cfg(test)]
pub(crate) mod in_memory;
pub(crate) mod read_lock;
pub(crate) mod producer;
pub(crate) mod topics;
pub(crate) mod pattern;
pub(crate) mod admin;
pub(crate) mod look;
pub(crate) mod contact;
pub(crate) mod outage;
pub(crate) mod unreachable;

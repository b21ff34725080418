//! All of librdkafka, and all unsafe code.

pub(crate) mod client_config;
pub(crate) mod queue;
pub(crate) mod read_lock;
pub(crate) mod producer;
pub(crate) mod topics;
pub(crate) mod admin;
pub(crate) mod look;
pub(crate) mod contact;
pub(crate) mod outage;
pub(crate) mod unreachable;

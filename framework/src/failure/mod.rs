//! Records that failed: retries, the end of retries, and dead letters.

pub(crate) mod policy;
pub(crate) mod trials;
pub(crate) mod dead_letter;

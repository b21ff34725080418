//! Records that failed: how often they are tried again, when they are given up, and where they go then.

pub(crate) mod policy;
pub(crate) mod trials;
pub(crate) mod dead_letter;

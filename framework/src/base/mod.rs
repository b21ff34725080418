//! Small helpers that everyone may use, and that use nothing of the rest.

pub(crate) mod backoff;
pub(crate) mod drain;
pub(crate) mod fault;
pub(crate) mod sync;
pub(crate) mod wake;

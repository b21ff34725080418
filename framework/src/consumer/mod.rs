//! One thread per consumer group: it serves rebalances, commits and errors, and reads no
//! records.

pub(crate) mod poll;
pub(crate) mod subscription;
pub(crate) mod assignment;
pub(crate) mod owned;
pub(crate) mod positions;
pub(crate) mod commit;
pub(crate) mod committed;
pub(crate) mod memo;
pub(crate) mod tail;
pub(crate) mod topic_watch;
pub(crate) mod client_events;
pub(crate) mod hooks;
pub(crate) mod shutdown;

//! One task a partition: reads its records, has them handled, and keeps the books on their offsets.

pub(crate) mod inbox;
pub(crate) mod shared;
pub(crate) mod partition;
pub(crate) mod remaining;
pub(crate) mod side_by_side;
pub(crate) mod desk;
pub(crate) mod lanes;
pub(crate) mod pace;
pub(crate) mod offsets;
pub(crate) mod ahead;
pub(crate) mod starts;
pub(crate) mod fetching;
#[cfg(test)]
mod tests;

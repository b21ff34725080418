//! One task per partition: reads its records, lets them be handled, and tracks their offsets.

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

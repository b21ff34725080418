//! Start and end of an application: its settings, their checks, and the consumers made from
//! them.

pub(crate) mod builder;
pub(crate) mod checks;
pub(crate) mod command;
pub(crate) mod binding;

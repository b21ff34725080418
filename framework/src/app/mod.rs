//! Start and end of an application: its settings, their checks, and the consumers made from
//! them.

pub(crate) mod builder;
mod start;
mod command;
mod checks;
mod store;
mod binding;
mod prepared;
mod signals;

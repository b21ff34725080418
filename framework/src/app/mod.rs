//! Start and end of an application: its settings, what is wrong with them, and what comes out of them.

pub(crate) mod builder;
mod start;
mod checks;
mod store;
mod binding;
mod prepared;

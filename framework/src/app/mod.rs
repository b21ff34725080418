//! Start and end of an application: its settings, what is wrong with them, and what comes out of them.

pub(crate) mod builder;
pub(crate) mod checks;
pub(crate) mod command;
pub(crate) mod binding;

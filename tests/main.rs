//! Tests of the promises, each against the real servers that it is about.

mod delivery;
mod flights;
mod ui_runner;

//! Tests of the promises, each against the real servers that it is about.
#![allow(clippy::unwrap_used)] // In tests a panic is the report.

mod bad_input;
mod delivery;
mod flights;
mod guide;

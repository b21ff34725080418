//! Rounds, medians, tables and results.

mod case;
mod environment;
mod measure;
mod report;

pub use case::Case;
pub use environment::environment;
pub use measure::{Moment, Spread, Took};
pub use report::Report;

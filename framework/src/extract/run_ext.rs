//! Extractors for a handler that is written by hand.

use super::batch::{Batch, Rejected};
use super::{Context, FromRecord};
use crate::Run;

/// Decodes the records of a call, in a [`Handler::extract`](crate::Handler::extract) that is
/// written by hand.
pub trait RunExt<'a> {
    /// Takes an extractor, or a tuple of them, from the one record of a call. Most handlers
    /// need nothing else.
    ///
    /// # Errors
    /// If the record does not have it.
    fn extract<E: FromRecord<'a>>(self, context: &'a Context) -> Result<E, Rejected>;

    /// Takes the same from each record of a call, for a [`BATCH`](crate::Handler::BATCH) handler.
    ///
    /// # Errors
    /// If a record does not have it.
    fn extract_each<E: FromRecord<'a>>(self, context: &'a Context) -> Result<Batch<E>, Rejected>;
}

impl<'a> RunExt<'a> for Run<'a> {
    fn extract<E: FromRecord<'a>>(self, context: &'a Context) -> Result<E, Rejected> {
        E::from_record(self.records()[0], context).map_err(|error| Rejected { index: 0, error: error.into() })
    }

    fn extract_each<E: FromRecord<'a>>(self, context: &'a Context) -> Result<Batch<E>, Rejected> {
        Batch::from_run(self, context)
    }
}

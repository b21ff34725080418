//! One extractor per record of a run.

use super::{Context, FromRecord};
use crate::{HandlerError, Run};
use std::ops::Deref;

/// A record of a run that could not be decoded.
#[derive(Debug)]
pub struct Rejected {
    /// Its index in the run.
    pub index: usize,
    /// Why.
    pub error: HandlerError,
}

/// The records of a run, for a batch handler: one `E` per record, in offset order.
///
/// `E` is any extractor, or a tuple of them: `Batch<(Key<String>, Json<Flight>)>`. Duplicates
/// are removed before.
///
/// A batch handler that returns `HandlerResult` gives one outcome for all records. If it fails,
/// the run is halved until the failing record is found. With `Vec<HandlerResult>` it names the
/// failing records itself.
#[derive(Debug)]
pub struct Batch<E>(Vec<E>);

impl<E> Batch<E> {
    pub(crate) fn from_run<'a>(run: Run<'a>, context: &'a Context) -> Result<Self, Rejected>
    where
        E: FromRecord<'a>,
    {
        let extract = |(index, record)| {
            E::from_record(record, context).map_err(|error| Rejected { index, error: error.into() })
        };
        run.iter().enumerate().map(extract).collect::<Result<_, _>>().map(Self)
    }
}

impl<E> Deref for Batch<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        &self.0
    }
}

impl<E> IntoIterator for Batch<E> {
    type Item = E;
    type IntoIter = std::vec::IntoIter<E>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

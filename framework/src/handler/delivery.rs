//! A record on its way to the handler, with what the handler may use.

use crate::dedupe::tx::Tx;
use crate::telemetry::trace::Spans;
use crate::{Record, Run};
use std::time::Duration;

/// A record on its way to the handler, with its transaction and time limit. For a batch
/// handler, all records of the call.
#[derive(Debug)]
pub struct Delivery<'a> {
    // Moved at each step of each record, so it is small.
    call: &'a Call<'a>,
    tx: Option<&'a mut Tx>,
}

/// What of a delivery stays the same on its way.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) run: Run<'a>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) spans: &'a Spans,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(call: &'a Call<'a>, tx: Option<&'a mut Tx>) -> Self {
        Self { call, tx }
    }

    /// The record; the first one of a batch.
    pub fn record(&self) -> Record<'a> {
        self.call.run.records()[0]
    }

    /// All records of the call: one, unless the handler takes a batch.
    pub fn run(&self) -> Run<'a> {
        self.call.run
    }

    /// The transaction in which the record is handled, if the handler takes one.
    pub fn tx(&mut self) -> Option<&mut Tx> {
        self.tx.as_deref_mut()
    }

    /// The route's time limit for the handler.
    pub fn timeout(&self) -> Option<Duration> {
        self.call.timeout
    }

    pub(crate) fn spans(&self) -> &'a Spans {
        self.call.spans
    }

    #[doc(hidden)]
    pub fn into_tx(self) -> &'a mut Tx {
        self.tx.expect("a handler that takes a transaction is called with one")
    }
}

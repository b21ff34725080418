//! The payload as it is.

use super::{Bytes, Context, FromRecord, Rejection};
use crate::Record;

fn payload(record: Record<'_>) -> Result<&[u8], Rejection> {
    record.payload().ok_or_else(|| {
        Rejection::new(
            "the value is null (a tombstone); take an `Option`, or set `tombstones = \"skip\"` of the handler",
        )
    })
}

/// The payload, borrowed from the client's buffer.
impl<'a> FromRecord<'a> for &'a [u8] {
    fn from_record(record: Record<'a>, _: &'a Context) -> Result<Self, Rejection> {
        payload(record)
    }
}

impl<'a> FromRecord<'a> for Option<&'a [u8]> {
    fn from_record(record: Record<'a>, _: &'a Context) -> Result<Self, Rejection> {
        Ok(record.payload())
    }
}

/// The payload, copied: what is kept would else pin the whole fetch buffer.
impl<'a> FromRecord<'a> for Bytes {
    fn from_record(record: Record<'a>, _: &'a Context) -> Result<Self, Rejection> {
        payload(record).map(Bytes::copy_from_slice)
    }
}

impl<'a> FromRecord<'a> for Option<Bytes> {
    fn from_record(record: Record<'a>, _: &'a Context) -> Result<Self, Rejection> {
        Ok(record.payload().map(Bytes::copy_from_slice))
    }
}

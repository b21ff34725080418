//! The publisher, as a handler's argument.

use super::{Context, FromRecord, Rejection};
use crate::Record;
use crate::publish::Publisher;

impl<'a> FromRecord<'a> for Publisher<'a> {
    const PUBLISHES: bool = true;

    fn from_record(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        let publishing =
            context.publishing().ok_or_else(|| Rejection::new("nothing can be published here"))?;
        Ok(Self::because_of(record, publishing))
    }
}

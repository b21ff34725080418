//! A schema that a type declares to be read by.

use super::resolve::Resolution;
use super::samples;
use super::text::Role;
use super::{Fault, Referenced, Schema, decode, parse_as};
use arc_swap::ArcSwap;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// A reader's schema, and what data of one writer's becomes by it.
struct Reader {
    schema: Schema,
    resolution: Resolution,
}

impl Reader {
    fn new(text: &str, writer: &Schema) -> Result<Self, String> {
        let schema = parse_as(Role::Reader, text, &Referenced::default())
            .map_err(|problem| format!("of the schema that the handler reads by: {problem}"))?;
        let resolution = Resolution::of(&writer.plan, &schema.plan)
            .map_err(|problem| format!("its Avro schema does not resolve to the handler's: {problem}"))?;
        Ok(Self { schema, resolution })
    }

    fn decode<T: DeserializeOwned>(&self, writer: &Schema, datum: &[u8]) -> Result<T, Fault> {
        let resolved;
        let datum = match self.resolution {
            Resolution::Same => datum,
            Resolution::By(_) => {
                let datum = self.resolution.resolve(writer, datum);
                resolved = datum.map_err(|wrong| Fault::of_bytes(*wrong))?;
                &resolved
            }
        };
        decode(&self.schema, datum)
    }
}

/// The readers of a writer's schema, as far as they were asked for, each by where its text is.
#[derive(Default)]
pub(super) struct Readers(ArcSwap<Vec<(usize, Entry)>>);

type Entry = Arc<Result<Reader, String>>;

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} readers", self.0.load().len())
    }
}

impl Readers {
    /// Finds out once, and keeps, how a reader reads.
    fn with<T>(
        &self,
        text: &'static str,
        writer: &Schema,
        use_it: impl FnOnce(&Reader) -> Result<T, String>,
    ) -> Result<T, String> {
        let key = text.as_ptr().addr();
        let known = self.0.load();
        if let Some((_, reader)) = known.iter().find(|(known, _)| *known == key) {
            return use_it(Result::as_ref(reader).map_err(Clone::clone)?);
        }
        let reader = Arc::new(Reader::new(text, writer));
        self.0.rcu(|known| known.iter().cloned().chain([(key, reader.clone())]).collect::<Vec<_>>());
        use_it(Result::as_ref(&reader).map_err(Clone::clone)?)
    }
}

/// Decodes a datum that was written with `writer`, resolved to the reader's schema.
pub(crate) fn decode_as<T: DeserializeOwned>(
    reader: &'static str,
    writer: &Schema,
    datum: &[u8],
) -> Result<T, String> {
    writer
        .readers
        .with(reader, writer, |reader| reader.decode(writer, datum).map_err(|fault| fault.to_string()))
}

/// As [`samples::reads`], by a reader's schema.
pub(crate) fn reads_as<T: DeserializeOwned>(reader: &'static str, writer: &Schema) -> Result<(), String> {
    writer.readers.with(reader, writer, |reader| {
        samples::all_read(writer, |sample| reader.decode::<T>(writer, sample).map(drop))
    })
}

#[cfg(any(test, fuzzing))]
pub(crate) fn decode_by<T: DeserializeOwned>(text: &str, writer: &Schema, datum: &[u8]) -> Result<T, String> {
    Reader::new(text, writer)?.decode(writer, datum).map_err(|fault| fault.to_string())
}

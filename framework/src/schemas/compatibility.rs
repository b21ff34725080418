//! Whether handlers can read what stands in the registry, found out before anything is
//! consumed.

use super::{Schema, Schemas, SubjectVersion};
use crate::Error;
use crate::error::lookup::Part;
use std::sync::Arc;

/// What a handler's type makes of records that were written by a schema, which is this version of
/// its subject.
pub(crate) type Reads = Arc<dyn Fn(&Schema, u32) -> Result<(), String> + Send + Sync>;

/// A type that a handler reads by schemas.
pub(crate) struct Reader {
    pub(crate) handler: String,
    /// Each with its topic.
    pub(crate) subjects: Vec<(String, String)>,
    pub(crate) part: Part,
    pub(crate) reads: Reads,
}

/// Subjects have few versions; of one that has many the newest count.
const MOST_VERSIONS: usize = 50;

impl Schemas {
    /// Reads each version of the topics' subjects with the handler's type, and keeps the
    /// schemas. What the registry does not have is no error: a record will tell.
    ///
    /// # Errors
    /// Names the handler, the version and the field that does not fit; or the registry cannot
    /// be asked.
    pub(crate) async fn check(&self, reader: &Reader) -> Result<(), Error> {
        for (topic, subject) in &reader.subjects {
            let versions = self.client.versions(subject, MOST_VERSIONS).await.map_err(|source| {
                Error::Registry { action: format!("read subject `{subject}` of the schema registry"), source }
            })?;
            for (version, schema) in versions {
                let read = (reader.reads)(&schema, version);
                let found = SubjectVersion { subject: subject.as_str().into(), version };
                self.keep_version(schema.id, reader.part, topic.as_str().into(), None, found);
                self.keep(schema);
                read.map_err(|problem| {
                    let problem = format!(
                        "cannot read what version {version} of subject `{subject}` writes: {problem}; change its \
                         type, or set its `schema_check` to `off`"
                    );
                    Error::handler(&reader.handler, problem)
                })?;
            }
        }
        Ok(())
    }
}

/// What the versions of an event, the oldest first, read together.
pub(crate) fn joined(versions: Vec<(u32, Reads)>, are_by_schema: bool) -> Reads {
    Arc::new(move |schema, version| {
        if are_by_schema {
            let reads = versions.iter().rev().find(|(first, _)| *first <= version);
            let (_, reads) = reads.ok_or("it is older than all versions that the type has")?;
            return reads(schema, version);
        }
        let mut newest_first = versions.iter().rev().map(|(_, reads)| reads(schema, version));
        let newest = newest_first.next().unwrap_or(Ok(()));
        newest.or_else(|problem| if newest_first.any(|read| read.is_ok()) { Ok(()) } else { Err(problem) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::lookup::SchemaId;
    use crate::schemas::{Parsed, SchemaFormat};

    /// Reads the schemas of these numbers.
    fn only(ids: &'static [u32]) -> Reads {
        Arc::new(move |schema, _| match schema.id {
            SchemaId::Number(number) if ids.contains(&number) => Ok(()),
            _ => Err(format!("reads {ids:?} only")),
        })
    }

    fn reads(joined: &Reads, id: u32, version: u32) -> Result<(), String> {
        let (id, format) = (SchemaId::Number(id), SchemaFormat::Avro);
        joined(&Schema { id, format, record_types: Vec::new(), parsed: Ok(Parsed::Not) }, version)
    }

    #[test]
    fn by_schema_a_version_is_read_by_the_type_that_is_its_own_and_no_other() {
        let joined = joined(vec![(2, only(&[7])), (4, only(&[9]))], true);
        for (id, version) in [(7, 2), (7, 3), (9, 4), (9, 5)] {
            assert_eq!(reads(&joined, id, version), Ok(()), "version {version}");
        }
        assert_eq!(reads(&joined, 9, 3).unwrap_err(), "reads [7] only");
        assert_eq!(reads(&joined, 7, 4).unwrap_err(), "reads [9] only");
        assert!(reads(&joined, 7, 1).unwrap_err().contains("older than all versions"));
    }

    #[test]
    fn where_the_record_says_its_version_any_type_may_be_the_one() {
        let joined = joined(vec![(1, only(&[7])), (2, only(&[8, 9]))], false);
        for id in [7, 8, 9] {
            assert_eq!(reads(&joined, id, 1), Ok(()), "schema {id}");
        }
        assert_eq!(reads(&joined, 10, 1).unwrap_err(), "reads [8, 9] only", "what the newest lacks is said");
    }
}

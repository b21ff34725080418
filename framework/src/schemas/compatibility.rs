//! Whether handlers can read what stands in the registry, found out before anything is
//! consumed.

use super::{Schema, Schemas};
use crate::Error;
use crate::extract::Part;

/// What a handler's type makes of records that were written by a schema.
pub(crate) type Reads = fn(&Schema) -> Result<(), String>;

/// A type that a handler reads by schemas.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) handler: String,
    pub(crate) topics: Vec<String>,
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
        for topic in reader.topics.iter().filter(|topic| !topic.starts_with('^')) {
            let subject = format!("{topic}-{}", reader.part.name());
            let versions = self.client.versions(&subject, MOST_VERSIONS).await.map_err(|source| {
                Error::Registry { action: format!("read subject `{subject}` of the schema registry"), source }
            })?;
            for (version, schema) in versions {
                let read = (reader.reads)(&schema);
                self.keep(schema);
                read.map_err(|problem| {
                    let problem = format!(
                        "cannot read what version {version} of subject `{subject}` writes: {problem}; change its \
                         type, or set `schema_registry.check` to `off`"
                    );
                    Error::handler(&reader.handler, problem)
                })?;
            }
        }
        Ok(())
    }
}

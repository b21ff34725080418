//! Schemas that another one refers to.

/// Schemas by the name under which they are referred to.
#[derive(Debug, Default)]
pub(crate) struct Referenced(Vec<One>);

#[derive(Debug)]
struct One {
    name: String,
    subject: String,
    version: u32,
    text: String,
}

/// Nobody refers to more; a circle would have no end.
const MOST: usize = 256;

impl Referenced {
    pub(super) fn has(&self, subject: &str, version: u32) -> bool {
        self.0.iter().any(|one| one.subject == subject && one.version == version)
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MOST
    }

    pub(super) fn add(&mut self, name: String, subject: String, version: u32, text: String) {
        self.0.push(One { name, subject, version, text });
    }

    #[cfg(feature = "avro")]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All, by their names.
    #[cfg(feature = "json-schema")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|one| (&*one.name, &*one.text))
    }

    /// The schema of this name.
    #[cfg(feature = "avro")]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|one| one.name == name).map(|one| &*one.text)
    }
}

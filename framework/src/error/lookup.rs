//! What has to be looked up in a schema registry before anything can be said of a record.

#[cfg(feature = "schemas")]
use std::fmt;
#[cfg(feature = "schemas")]
use std::sync::Arc;

/// The part of a record that is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Its key.
    Key,
    /// Its payload.
    Value,
}

impl Part {
    #[cfg(any(feature = "json", feature = "schemas"))]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Value => "value",
        }
    }
}

/// By what a record names its schema.
#[cfg(feature = "schemas")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SchemaId {
    /// The registry's number for it.
    Number(u32),
    /// Its globally unique id (registries from version 8 on).
    Guid([u8; 16]),
}

#[cfg(feature = "schemas")]
impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Guid(bytes) => {
                for (place, byte) in bytes.iter().enumerate() {
                    f.write_str(if matches!(place, 4 | 6 | 8 | 10) { "-" } else { "" })?;
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

/// What is asked of the registry.
#[cfg(feature = "schemas")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Lookup {
    /// A schema.
    Schema(SchemaId),
    /// Which version of a subject of this topic a schema is.
    Version { id: SchemaId, part: Part, topic: Arc<str>, record_type: Option<Arc<str>> },
}

/// The schema by which something was to be decoded.
#[cfg(feature = "schemas")]
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// This has to be looked up first.
    Lookup(Lookup),
    /// It is at hand.
    By { id: SchemaId, subject: Option<Arc<str>> },
}

//! One assignment of a partition to this process, with what is kept for as long as it lasts.

use super::notes::Notes;
use super::unmarked::Unmarked;
use super::written::Written;
use super::{Origin, TopicPartition, identity};
use crate::error::trouble::Troubles;
use std::ops::Deref;
use std::sync::Arc;

/// One assignment of a partition to this process. A partition that comes back
/// after a revoke is another `Source`.
#[derive(Debug)]
pub(crate) struct Source {
    origin: Origin,
    /// The fence's token, once raised; see `dedupe/postgres.rs`.
    pub(crate) fence: tokio::sync::Mutex<Option<i64>>,
    /// Its records during whose calls connections broke.
    #[cfg(feature = "postgres")]
    pub(crate) breaks: super::breaks::Breaks,
    /// Its dead letters that owners before have written; see `failure/dead_letter/written.rs`.
    pub(crate) written: Written,
    /// The notes of starts beside its committed offset.
    pub(crate) notes: Notes,
    /// Why it does not go on.
    pub(crate) troubles: Troubles,
    /// What handlers have done and that could not be noted yet.
    pub(crate) unmarked: Unmarked,
}

impl Source {
    pub(crate) fn new(partition: TopicPartition, group: Arc<str>) -> Self {
        Self {
            origin: Origin { place: identity::place(&partition), partition, group },
            fence: tokio::sync::Mutex::new(None),
            #[cfg(feature = "postgres")]
            breaks: Default::default(),
            written: Written::default(),
            notes: Notes::default(),
            troubles: Troubles::default(),
            unmarked: Unmarked::default(),
        }
    }
}

impl Deref for Source {
    type Target = Origin;

    fn deref(&self) -> &Origin {
        &self.origin
    }
}

//! Patterns of topics: what starts with `^`, and which topics it means.

use regex::bytes::{Regex, RegexBuilder};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Whether a handler's topic is a pattern.
pub(crate) fn is_pattern(topic: &str) -> bool {
    topic.starts_with('^')
}

/// A pattern as a regular expression. Names of topics are ASCII.
pub(crate) fn regex(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).unicode(false).build()
}

/// Whether a name is a pattern of topics that this one is among. No pattern reads dead letters.
pub(crate) fn matches(pattern: &str, topic: &str) -> bool {
    let matches = || regex(pattern).is_ok_and(|pattern| pattern.is_match(topic.as_bytes()));
    is_pattern(pattern) && !Letters::default().has(topic) && matches()
}

/// The topics that no pattern reads: dead letters would go in a circle.
#[derive(Debug, Clone, Default)]
pub(crate) struct Letters(pub(crate) Arc<BTreeSet<String>>);

impl Letters {
    /// Whether a topic is one of these, or looks like another service's.
    pub(crate) fn has(&self, topic: &str) -> bool {
        topic.ends_with(".dlq") || self.0.contains(topic)
    }
}

//! The texts from a file and the environment, before they are read as settings.

use super::reader::{self, Node};
use super::{Config, Origin, Origins, handlers, properties};
use crate::error::Error;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The text of a setting.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Written {
    /// A text, letter by letter; also a number or a boolean of a file.
    Text(String),
    /// A list of a file.
    List(Vec<String>),
    /// A section with nothing in it.
    Empty,
}

/// The settings of a file and of the environment, by their whole names.
#[derive(Default)]
pub(super) struct Given(BTreeMap<Vec<String>, (Written, Origin)>);

impl Given {
    /// Takes a setting that is weaker than none that is there.
    ///
    /// # Errors
    /// Where a source as strong as this one has said something else.
    pub(super) fn set(
        &mut self,
        path: Vec<String>,
        written: Written,
        origin: Origin,
        is_as_strong: impl Fn(&Origin) -> bool,
    ) -> Result<(), Error> {
        match self.0.entry(self.known(path)) {
            Entry::Vacant(free) => {
                free.insert((written, origin));
            }
            Entry::Occupied(mut there) => {
                let (before, other) = there.get();
                if is_as_strong(other) && *before != written {
                    let problem = format!("is set to something else by {other}; take one out");
                    return Err(Error::config(there.key().join("."), problem).at(&origin));
                }
                there.insert((written, origin));
            }
        }
        Ok(())
    }

    /// A handler by the name that a file has for it.
    fn known(&self, mut path: Vec<String>) -> Vec<String> {
        if let [section, name, _] = &path[..]
            && section == "handlers"
        {
            let is_there = |known: &Vec<String>| known.len() == 3 && known[0] == *section;
            let mut same = self.0.keys().filter(|known| is_there(known)).map(|known| &known[1]);
            if !same.clone().any(|known| known == name)
                && let Some(same) = same.find(|known| handlers::is_same(known, name))
            {
                path[1] = same.clone();
            }
        }
        path
    }

    /// Reads each as what it is.
    pub(super) fn config(self) -> Result<Config, Error> {
        let mut origins = Origins::default();
        let mut root = Node::section();
        for (path, (written, origin)) in self.0 {
            origins.note(path.join("."), origin.clone());
            root.insert(&path, written, &origin).map_err(Error::from)?;
        }
        let config: Config = reader::read(&root)?;
        Ok(Config { origins, ..config })
    }
}

/// The parts of a setting's name. The names of librdkafka's properties have dots, and a handler's
/// may have some.
pub(super) fn path(setting: &str) -> Vec<String> {
    let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
    match setting.split_once('.') {
        Some(("kafka", property)) => owned(&["kafka", properties::canonical(property)]),
        Some(("handlers", rest)) => match rest.rsplit_once('.') {
            Some((name, setting)) => owned(&["handlers", name, setting]),
            None => owned(&["handlers", rest]),
        },
        _ => owned(&setting.split('.').collect::<Vec<_>>()),
    }
}

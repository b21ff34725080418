//! Where a setting was given, so that an error can say so.

use crate::error::Error;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In an environment variable.
    Variable(String),
    /// In a line of a file, counted from 1.
    Line(Arc<Path>, usize),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "variable `{name}`"),
            Self::Line(path, line) => write!(f, "line {line} of `{}`", path.display()),
        }
    }
}

/// Where each setting was given that did not come from code.
#[derive(Clone, Default)]
pub(crate) struct Origins(BTreeMap<String, Origin>);

impl Origins {
    pub(super) fn note(&mut self, setting: String, origin: Origin) {
        self.0.insert(setting, origin);
    }

    /// Takes what is not noted here.
    pub(super) fn over(mut self, weaker: Self) -> Self {
        for (setting, origin) in weaker.0 {
            self.0.entry(setting).or_insert(origin);
        }
        self
    }

    pub(crate) fn of(&self, setting: &str) -> Option<&Origin> {
        self.0.get(setting)
    }

    /// Where the first setting of a section was given.
    pub(crate) fn of_section(&self, section: &str) -> Option<&Origin> {
        let inside = |name: &str| name.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'));
        self.0.iter().find(|(name, _)| inside(name)).map(|(_, origin)| origin)
    }

    /// Has an error say where the setting was given that it is about.
    pub(crate) fn place(&self, error: Error) -> Error {
        match error {
            Error::Config { setting, problem, origin: None } => {
                let found = self.of(&setting).or_else(|| {
                    // Of another section, the first setting may be an innocent one.
                    self.of_section(&setting).filter(|_| setting.starts_with("handlers."))
                });
                let origin = found.map(ToString::to_string);
                Error::Config { setting, problem, origin }
            }
            Error::Handler { handler, problem } => {
                let problem = self.with_origins(&handler, problem);
                Error::Handler { handler, problem }
            }
            error => error,
        }
    }

    /// The settings of a handler that a problem names, each with where it was given.
    fn with_origins(&self, handler: &str, mut problem: String) -> String {
        let given = self.0.iter().filter_map(|(name, origin)| {
            let (section, setting) = name.rsplit_once('.')?;
            let of = section.strip_prefix("handlers.")?;
            super::handlers::is_same(of, handler).then_some((setting, origin))
        });
        for (setting, origin) in given {
            if problem.contains(&format!("`{setting}`")) || problem.contains(&format!("`{setting} ")) {
                problem.push_str(&format!(" (`{setting}`: {origin})"));
            }
        }
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_of_a_handler_says_where_the_setting_was_given() {
        let mut origins = Origins::default();
        for (setting, variable) in [("max_attempts", "A"), ("topic", "B")] {
            origins.note(format!("handlers.onit.{setting}"), Origin::Variable(variable.to_owned()));
        }
        let place = |handler: &str| {
            origins.place(Error::handler(handler, "`max_attempts` is 0; it must be at least 1")).to_string()
        };
        assert!(place("OnIt").ends_with("at least 1 (`max_attempts`: variable `A`)"), "{}", place("OnIt"));
        assert!(place("other").ends_with("at least 1"));
    }
}

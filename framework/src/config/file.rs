//! Reads a TOML file, with the line of each setting.

use super::Origin;
use super::given::{Given, Written, path};
use crate::error::Error;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

impl Given {
    /// Takes what a file says. `setting` is what names the file.
    pub(super) fn add_file(&mut self, setting: &'static str, path: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::config(setting, format!("cannot read the file `{}`: {error}", path.display()))
        })?;
        let file = File { path: path.into(), text: &text };
        let table = DeTable::parse(&text).map_err(|error| file.refused(setting, &error))?;
        file.add(self, "", table.get_ref())
    }
}

struct File<'t> {
    path: Arc<Path>,
    text: &'t str,
}

impl File<'_> {
    fn origin(&self, span: &Range<usize>) -> Origin {
        let before = self.text.as_bytes().iter().take(span.start);
        Origin::Line(self.path.clone(), 1 + before.filter(|byte| **byte == b'\n').count())
    }

    /// The parser's own text would quote the line, which may hold a secret.
    fn refused(&self, setting: &'static str, error: &toml::de::Error) -> Error {
        let problem = format!(
            "is not TOML: {}; write a text in quotes, also one of digits such as \"007\"",
            error.message()
        );
        let refused = Error::config(setting, problem);
        refused.at(&self.origin(&error.span().unwrap_or_default()))
    }

    fn add(&self, given: &mut Given, section: &str, table: &DeTable<'_>) -> Result<(), Error> {
        for (name, value) in table {
            let (name, origin) = (name.get_ref(), self.origin(&name.span()));
            let setting = if section.is_empty() { name.to_string() } else { format!("{section}.{name}") };
            match value.get_ref() {
                DeValue::Table(inside) if !inside.is_empty() => {
                    self.add(given, &setting, inside)?;
                    continue;
                }
                DeValue::Table(_) => {
                    given.set(path(&setting), Written::Empty, origin, |_| false)?;
                    continue;
                }
                _ => {}
            }
            let written = self
                .written(value)
                .ok_or_else(|| Error::config(setting.clone(), "must be a list of texts").at(&origin))?;
            given.set(path(&setting), written, origin, |_| true)?;
        }
        Ok(())
    }

    fn written(&self, value: &Spanned<DeValue<'_>>) -> Option<Written> {
        Some(match value.get_ref() {
            DeValue::Array(items) => Written::List(
                items
                    .iter()
                    .map(|item| match self.written(item)? {
                        Written::Text(text) => Some(text),
                        _ => None,
                    })
                    .collect::<Option<_>>()?,
            ),
            DeValue::Table(_) => return None,
            DeValue::String(text) => Written::Text(text.to_string()),
            // As it was written: what the setting is says how it is read.
            _ => Written::Text(self.text[value.span()].to_owned()),
        })
    }
}

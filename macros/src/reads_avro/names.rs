//! The types of an Avro schema, by their names.

use serde_json::{Map, Value};
use std::collections::HashMap;

/// The named types of a schema, with their namespaces.
#[derive(Default)]
pub(super) struct Names<'s>(pub(super) HashMap<String, (&'s Value, String)>);

impl<'s> Names<'s> {
    pub(super) fn collect(&mut self, schema: &'s Value, namespace: &str) {
        match schema {
            Value::Array(branches) => branches.iter().for_each(|branch| self.collect(branch, namespace)),
            Value::Object(fields) => {
                let namespace = namespace_of(fields, namespace);
                if let Some(name) = text(fields, "name") {
                    self.0.insert(full_name(name, &namespace), (schema, namespace.clone()));
                }
                for field in fields.get("fields").and_then(Value::as_array).into_iter().flatten() {
                    field.get("type").into_iter().for_each(|inner| self.collect(inner, &namespace));
                }
                for inner in ["items", "values", "type"].into_iter().filter_map(|name| fields.get(name)) {
                    self.collect(inner, &namespace);
                }
            }
            _ => {}
        }
    }

    /// By its full name, or where that is the only one, by the last part of it.
    pub(super) fn find(&self, name: &str) -> Option<(&'s Value, String)> {
        let is_it = |full: &&String| *full == name || full.rsplit('.').next() == Some(name);
        let mut found = self.0.keys().filter(is_it);
        match (found.next(), found.next()) {
            (Some(only), None) => self.0.get(only).cloned(),
            _ => self.0.get(name).cloned(),
        }
    }

    /// By a name as it stands in a namespace.
    pub(super) fn within(&self, name: &str, namespace: &str) -> Option<(&'s Value, String)> {
        self.0.get(&full_name(name, namespace)).or_else(|| self.0.get(name)).cloned()
    }
}

pub(super) fn text<'s>(fields: &'s Map<String, Value>, name: &str) -> Option<&'s str> {
    fields.get(name).and_then(Value::as_str)
}

pub(super) fn namespace_of(fields: &Map<String, Value>, around: &str) -> String {
    match (text(fields, "name").and_then(|name| name.rsplit_once('.')), text(fields, "namespace")) {
        (Some((namespace, _)), _) | (None, Some(namespace)) => namespace.to_owned(),
        (None, None) => around.to_owned(),
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

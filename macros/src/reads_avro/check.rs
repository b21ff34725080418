//! Holds a type against a part of a schema, field by field.

use super::known::Known;
use super::listed;
use super::names::{Names, namespace_of, text};
use super::serde::{Case, Serde};
use crate::errors::Errors;
use serde_json::Value;
use syn::{DeriveInput, Field, Fields, Type, Variant};

pub(super) struct Check<'s> {
    pub(super) names: &'s Names<'s>,
    pub(super) file: String,
}

impl Check<'_> {
    pub(super) fn record(
        &self,
        input: &DeriveInput,
        fields: &Fields,
        schema: &Value,
        namespace: &str,
        errors: &mut Errors,
    ) {
        let container = Serde::of(&input.attrs);
        let Fields::Named(fields) = fields else {
            return errors.push(&input.ident, "only structs with named fields can be checked");
        };
        if container.is_converted {
            return errors
                .push(&input.ident, "what serde makes of it is not its fields, so it cannot be checked");
        }
        let members = schema.as_object().filter(|schema| text(schema, "type") == Some("record"));
        let Some(members) = members.and_then(|schema| schema.get("fields")).and_then(Value::as_array) else {
            return errors.push(
                &input.ident,
                format!(
                    "the schema in `{}` is no record; choose one in it with `record = \"..\"`",
                    self.file
                ),
            );
        };
        let namespace =
            schema.as_object().map_or(namespace.to_owned(), |fields| namespace_of(fields, namespace));
        let members: Vec<(&str, &Value)> = members
            .iter()
            .filter_map(|member| Some((member.get("name")?.as_str()?, member.get("type")?)))
            .collect();
        let mut is_flattened = false;
        let mut known = Vec::new();
        for field in &fields.named {
            let serde = Serde::of(&field.attrs);
            is_flattened |= serde.is_flattened;
            if serde.is_skipped || serde.is_flattened {
                continue;
            }
            let names = serde.names(field.ident.as_ref(), container.rename_all.as_deref(), Case::Snake);
            match members.iter().find(|(name, _)| names.iter().any(|known| known == name)) {
                Some((name, schema)) if !serde.is_converted => {
                    if let Err(problem) = self.fits(&field.ty, schema, &namespace) {
                        errors.push(&field.ty, format!("field `{name}` of `{}` {problem}", self.file));
                    }
                }
                Some(_) => {}
                None if serde.has_default || container.has_default || may_be_missing(field, &serde) => {}
                None => errors.push(
                    &field.ident,
                    format!(
                        "`{}` has no such field, and there is no `#[serde(default)]`; it has {}",
                        self.file,
                        listed(members.iter().map(|(name, _)| name))
                    ),
                ),
            }
            known.extend(names);
        }
        let unknown = members.iter().find(|(name, _)| !known.iter().any(|known| known == name));
        if let Some((name, _)) = unknown.filter(|_| container.denies_unknown && !is_flattened) {
            errors.push(
                &input.ident,
                format!(
                    "`{}` has a field `{name}`, which is not among these, and unknown ones are denied",
                    self.file
                ),
            );
        }
    }

    pub(super) fn symbols<'v>(
        &self,
        input: &DeriveInput,
        variants: impl Iterator<Item = &'v Variant>,
        schema: &Value,
        errors: &mut Errors,
    ) {
        let container = Serde::of(&input.attrs);
        let mut known = Vec::new();
        for variant in variants {
            let serde = Serde::of(&variant.attrs);
            if serde.is_other {
                return;
            }
            if !serde.is_skipped {
                known.extend(serde.names(
                    Some(&variant.ident),
                    container.rename_all.as_deref(),
                    Case::Pascal,
                ));
            }
        }
        let Some(symbols) = schema.get("symbols").and_then(Value::as_array) else {
            return errors.push(
                &input.ident,
                format!("the schema in `{}` is no enum; choose one in it with `record = \"..\"`", self.file),
            );
        };
        let missing = symbols
            .iter()
            .filter_map(Value::as_str)
            .filter(|symbol| !known.iter().any(|name| name == symbol));
        let missing: Vec<&str> = missing.collect();
        if !missing.is_empty() {
            errors.push(
                &input.ident,
                format!(
                    "no variant has the name of {}, which `{}` has; `#[serde(other)]` would stand for it",
                    listed(missing),
                    self.file
                ),
            );
        }
    }

    /// Whether a type reads a schema; one that is not known here does.
    fn fits(&self, ty: &Type, schema: &Value, namespace: &str) -> Result<(), String> {
        let known = Known::of(ty);
        let (schema, namespace) = self.resolved(schema, namespace);
        if let Value::Array(branches) = &schema {
            let inner = if let Known::Option(inner) = known { inner } else { ty };
            for branch in branches {
                match (branch.as_str(), &known) {
                    (Some("null"), Known::Option(_) | Known::Other) => {}
                    (Some("null"), _) => return Err("may be null; take an `Option`".to_owned()),
                    _ => self.fits(inner, branch, &namespace)?,
                }
            }
            return Ok(());
        }
        let logical = schema.as_object().and_then(logical_of);
        let kind = match &schema {
            Value::String(kind) => kind,
            Value::Object(fields) => text(fields, "type").unwrap_or_default(),
            _ => return Ok(()),
        };
        let is_bytes = kind == "bytes" || kind == "fixed";
        let is_read = match known {
            Known::Option(_) if kind == "null" => return Ok(()),
            Known::Option(inner) => return self.fits(inner, &schema, &namespace),
            Known::Wrapped(inner) => return self.fits(inner, &schema, &namespace),
            Known::List(inner) => match schema.get("items") {
                Some(items) if kind == "array" => return self.fits(inner, items, &namespace),
                _ => is_bytes,
            },
            Known::Array(inner, length) => {
                match (schema.get("items"), schema.get("size").and_then(Value::as_u64)) {
                    (Some(items), _) if kind == "array" => return self.fits(inner, items, &namespace),
                    (_, Some(size)) if kind == "fixed" => length
                        .is_none_or(|length| length == size || (logical == Some("duration") && length == 3)),
                    _ => is_bytes,
                }
            }
            Known::Tuple(length) => match logical {
                Some("duration") => length == 3,
                _ => kind == "array" || is_bytes || (kind == "null" && length == 0),
            },
            Known::Map(inner) => match schema.get("values") {
                Some(values) if kind == "map" => return self.fits(inner, values, &namespace),
                _ => kind == "record",
            },
            // The number that stands for it, or its text.
            Known::One(kinds) => match logical {
                Some("duration") => false,
                Some("moment") => kinds.contains(&"moment") || kinds.contains(&kind),
                Some(logical) => kinds.contains(&logical),
                None => kinds.contains(&kind),
            },
            Known::Other => true,
        };
        if is_read {
            Ok(())
        } else {
            Err(format!("is {} {kind}, which this type does not read", article(kind)))
        }
    }

    /// What a name stands for, and `{"type": ..}` around it.
    fn resolved(&self, schema: &Value, namespace: &str) -> (Value, String) {
        match schema {
            Value::String(name) => match self.names.within(name, namespace) {
                Some((schema, namespace)) => (schema.clone(), namespace),
                None => (schema.clone(), namespace.to_owned()),
            },
            Value::Object(fields) if logical_of(fields).is_none() => match fields.get("type") {
                Some(inner @ (Value::Object(_) | Value::Array(_))) => self.resolved(inner, namespace),
                _ => (schema.clone(), namespace_of(fields, namespace)),
            },
            _ => (schema.clone(), namespace.to_owned()),
        }
    }
}

/// What a type stands for, by a logical type that is valid for it: the others are ignored.
fn logical_of(fields: &serde_json::Map<String, Value>) -> Option<&'static str> {
    let number = |name| fields.get(name).map(Value::as_u64);
    match (text(fields, "logicalType")?, text(fields, "type")?) {
        ("decimal", "bytes" | "fixed") => {
            let (precision, scale) = (number("precision")??, number("scale").unwrap_or(Some(0))?);
            (precision > 0 && scale <= precision).then_some(if scale == 0 {
                "whole decimal"
            } else {
                "decimal"
            })
        }
        ("big-decimal", "bytes") => Some("decimal"),
        ("uuid", "string") => Some("uuid"),
        ("uuid", "fixed") if number("size") == Some(Some(16)) => Some("uuid"),
        ("duration", "fixed") if number("size") == Some(Some(12)) => Some("duration"),
        ("date" | "time-millis", "int") => Some("moment"),
        (
            "time-micros"
            | "timestamp-millis"
            | "timestamp-micros"
            | "timestamp-nanos"
            | "local-timestamp-millis"
            | "local-timestamp-micros"
            | "local-timestamp-nanos",
            "long",
        ) => Some("moment"),
        _ => None,
    }
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" }
}

/// serde takes a missing `Option` for `None`.
fn may_be_missing(field: &Field, serde: &Serde) -> bool {
    !serde.is_converted && matches!(Known::of(&field.ty), Known::Option(_))
}

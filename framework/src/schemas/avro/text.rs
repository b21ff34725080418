//! The text of a schema, made such that `apache-avro` takes it.
//!
//! It holds schemas to more than the specification and other serializers do: every default and
//! alias, also where nobody reads by it, and the letters of a name. What a writer's schema says
//! beside how its bytes lie is left out here, and odd letters are written as others.

use crate::schemas::references::Referenced;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// As deep as a JSON text may be.
const DEEPEST: usize = 120;

/// Who a schema is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Data was written by it.
    Writer,
    /// Data is read by it: its defaults and aliases count.
    Reader,
}

/// A schema with all that it refers to. Each type stands where it is first used, and is named in
/// full: other parsers take a name before it is defined, or defined once more.
pub(super) fn whole(text: &str, referenced: &Referenced, role: Role) -> Result<Value, String> {
    let mut schema = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if !referenced.is_empty() {
        Inliner { referenced, defined: HashSet::new() }.inline(&mut schema, "", 0)?;
    }
    let mut tidy = Tidy { role, definitions: HashMap::new(), defined: HashSet::new() };
    tidy.collect(&schema, "");
    tidy.type_of(&schema, "", 0)
}

/// Writes each type in its simplest form.
struct Tidy<'s> {
    role: Role,
    /// Each named type, with the namespace that it stands in.
    definitions: HashMap<String, (&'s Value, String)>,
    defined: HashSet<String>,
}

const PRIMITIVE: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

impl<'s> Tidy<'s> {
    fn collect(&mut self, schema: &'s Value, namespace: &str) {
        match schema {
            Value::Array(branches) => branches.iter().for_each(|branch| self.collect(branch, namespace)),
            Value::Object(fields) => {
                let mut own = namespace.to_owned();
                if let Some(name) = defined_name(fields) {
                    own = namespace_of(fields, namespace);
                    let definition = (schema, namespace.to_owned());
                    self.definitions.entry(full_name(name, &own)).or_insert(definition);
                }
                let members = fields.get("fields").and_then(Value::as_array).into_iter().flatten();
                let members = members.filter_map(|field| field.get("type"));
                let inner = ["items", "values", "type"].into_iter().filter_map(|part| fields.get(part));
                members.chain(inner).for_each(|inner| self.collect(inner, &own));
            }
            _ => {}
        }
    }

    fn type_of(&mut self, schema: &'s Value, namespace: &str, depth: usize) -> Result<Value, String> {
        if depth > DEEPEST {
            return Err(format!("its types lead from one to the next more than {DEEPEST} times"));
        }
        Ok(match schema {
            Value::String(name) => return self.named(name, namespace, depth),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.type_of(branch, namespace, depth + 1));
                branches.collect::<Result<_, _>>()?
            }
            Value::Object(fields) => return self.object(fields, namespace, depth),
            _ => return Err("a type is neither a name, nor an object, nor a list".to_owned()),
        })
    }

    /// The name, or what it is defined as further behind.
    fn named(&mut self, name: &str, namespace: &str, depth: usize) -> Result<Value, String> {
        if PRIMITIVE.contains(&name) {
            return Ok(name.into());
        }
        let (full, bare) = (full_name(name, namespace), name.trim_start_matches('.').to_owned());
        let known = [&full, &bare].into_iter().find(|name| self.defined.contains(*name));
        if let Some(known) = known {
            return Ok(reference(known));
        }
        match [&full, &bare].into_iter().find_map(|name| self.definitions.get(name)).cloned() {
            Some((definition, around)) => self.type_of(definition, &around, depth + 1),
            None => Ok(reference(&full)),
        }
    }

    fn object(
        &mut self,
        fields: &'s Map<String, Value>,
        namespace: &str,
        depth: usize,
    ) -> Result<Value, String> {
        let kind = match fields.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            Some(inner) => return Ok(logical(fields, self.type_of(inner, namespace, depth + 1)?)),
            None => return Err("a type does not say what it is (`type`)".to_owned()),
        };
        let mut tidy = Map::new();
        match (defined_name(fields), kind) {
            (Some(name), _) => {
                let own = namespace_of(fields, namespace);
                let full = full_name(name, &own);
                if !self.defined.insert(full.clone()) {
                    return Ok(reference(&full));
                }
                self.define(fields, &full, &mut tidy);
                if kind == "record" || kind == "error" {
                    let members = fields.get("fields").and_then(Value::as_array);
                    let members = members.ok_or("the fields of a record are no list")?;
                    let members = members.iter().map(|member| self.field(member, &own, depth + 1));
                    tidy.insert("fields".into(), members.collect::<Result<_, _>>()?);
                }
            }
            (None, "array" | "map") => {
                let part = if kind == "array" { "items" } else { "values" };
                let inner = fields.get(part).ok_or_else(|| format!("a type `{kind}` has no `{part}`"))?;
                tidy.insert("type".into(), kind.into());
                tidy.insert(part.into(), self.type_of(inner, namespace, depth + 1)?);
            }
            (None, "record" | "error" | "enum" | "fixed") => {
                return Err(format!("a type `{kind}` has no name, or nothing in it"));
            }
            (None, name) => return Ok(logical(fields, self.named(name, namespace, depth)?)),
        }
        Ok(logical(fields, Value::Object(tidy)))
    }

    /// All of a named type but its fields.
    fn define(&self, fields: &Map<String, Value>, full: &str, tidy: &mut Map<String, Value>) {
        let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
        tidy.insert("type".into(), if kind == "error" { "record" } else { kind }.into());
        tidy.insert("name".into(), escaped(full).into());
        if !full.contains('.') {
            tidy.insert("namespace".into(), "".into());
        }
        if let Some(symbols) = fields.get("symbols").and_then(Value::as_array) {
            tidy.insert("symbols".into(), symbols.iter().map(escaped_value).collect());
        }
        tidy.extend(fields.get("size").map(|size| ("size".to_owned(), size.clone())));
        if self.role == Role::Reader {
            if let Some(aliases) = fields.get("aliases").and_then(Value::as_array) {
                tidy.insert("aliases".into(), aliases.iter().map(escaped_value).collect());
            }
            tidy.extend(fields.get("default").map(|value| ("default".to_owned(), escaped_value(value))));
        }
    }

    fn field(&mut self, field: &'s Value, namespace: &str, depth: usize) -> Result<Value, String> {
        let member =
            |name: &str| field.get(name).ok_or_else(|| format!("a field of a record has no `{name}`"));
        let mut tidy = Map::new();
        tidy.insert("name".into(), escaped_value(member("name")?));
        tidy.insert("type".into(), self.type_of(member("type")?, namespace, depth)?);
        if self.role == Role::Reader {
            let parts = ["default", "aliases"].into_iter();
            tidy.extend(parts.filter_map(|part| Some((part.to_owned(), field.get(part)?.clone()))));
        }
        Ok(Value::Object(tidy))
    }
}

/// What a type is called that is defined here, and not only meant.
fn defined_name(fields: &Map<String, Value>) -> Option<&str> {
    let part = match fields.get("type")?.as_str()? {
        "record" | "error" => "fields",
        "enum" => "symbols",
        "fixed" => "size",
        _ => return None,
    };
    fields.get(part)?;
    fields.get("name")?.as_str()
}

/// A full name as it is taken in any namespace.
fn reference(full: &str) -> Value {
    let dot = if full.contains('.') { "" } else { "." };
    format!("{dot}{}", escaped(full)).into()
}

/// The type with the logical type that is said of it. One that is no text, or whose numbers are
/// none, is ignored, as the specification has it.
fn logical(fields: &Map<String, Value>, inner: Value) -> Value {
    let Some(name @ Value::String(_)) = fields.get("logicalType") else { return inner };
    let mut tidy = match inner {
        Value::Object(inner) if !inner.contains_key("logicalType") => inner,
        Value::String(_) => Map::from_iter([("type".to_owned(), inner)]),
        inner => return inner,
    };
    tidy.insert("logicalType".into(), name.clone());
    for part in ["precision", "scale"] {
        tidy.extend(fields.get(part).map(|value| (part.to_owned(), value.clone())));
    }
    Value::Object(tidy)
}

fn escaped_value(value: &Value) -> Value {
    match value {
        Value::String(name) => Value::String(escaped(name)),
        other => other.clone(),
    }
}

/// What stands before and behind the number of a letter that Avro's names do not have. Java's
/// serializers write the `$` of inner classes.
const ESCAPE: &str = "_onceward";

fn escaped(name: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.');
    let starts_odd = |part: &str| part.starts_with(|letter: char| letter.is_ascii_digit());
    if name.chars().all(is_plain) && !name.split('.').any(starts_odd) {
        return name.to_owned();
    }
    let mut escaped = String::new();
    let mut is_first = true;
    for letter in name.chars() {
        if is_plain(letter) && !(is_first && letter.is_ascii_digit()) {
            escaped.push(letter);
        } else {
            escaped += &format!("{ESCAPE}{:x}_", u32::from(letter));
        }
        is_first = letter == '.';
    }
    escaped
}

/// The name as it was.
pub(super) fn unescaped(name: &str) -> String {
    let mut parts = name.split(ESCAPE);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let letter = part.split_once('_').and_then(|(number, rest)| {
            let letter = u32::from_str_radix(number, 16).ok().and_then(char::from_u32)?;
            Some((letter, rest))
        });
        match letter {
            Some((letter, rest)) => plain.extend([letter.to_string().as_str(), rest]),
            None => plain.extend([ESCAPE, part]),
        }
    }
    plain
}

/// Puts each schema that is referred to where it is first used. Avro has no other way to
/// define a name in the text that uses it.
struct Inliner<'r> {
    referenced: &'r Referenced,
    defined: HashSet<String>,
}

impl Inliner<'_> {
    fn inline(&mut self, schema: &mut Value, namespace: &str, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("it is nested more than {DEEPEST} deep"));
        }
        match schema {
            Value::String(name) => {
                let full = full_name(name, namespace);
                let found =
                    [&*full, name].into_iter().find_map(|name| Some((name, self.referenced.get(name)?)));
                let Some((name, text)) = found.filter(|_| !self.defined.contains(&full)) else {
                    return Ok(());
                };
                // Once, whatever it defines.
                if !self.defined.insert(name.to_owned()) {
                    return Ok(());
                }
                let mut definition = serde_json::from_str(text).map_err(|error| error.to_string())?;
                self.inline(&mut definition, "", depth + 1)?;
                // It must not be named by the text around it.
                if let Value::Object(fields) = &mut definition
                    && !fields.contains_key("namespace")
                {
                    fields.insert("namespace".into(), Value::String(String::new()));
                }
                *schema = definition;
                Ok(())
            }
            Value::Array(variants) => {
                variants.iter_mut().try_for_each(|variant| self.inline(variant, namespace, depth + 1))
            }
            Value::Object(fields) => {
                let namespace = namespace_of(fields, namespace);
                if let Some(name) = fields.get("name").and_then(Value::as_str) {
                    self.defined.insert(full_name(name, &namespace));
                }
                if let Some(Value::Array(members)) = fields.get_mut("fields") {
                    let mut types = members.iter_mut().filter_map(|field| field.get_mut("type"));
                    types.try_for_each(|kind| self.inline(kind, &namespace, depth + 1))?;
                }
                for inner in ["items", "values", "type"] {
                    if let Some(inner) = fields.get_mut(inner) {
                        self.inline(inner, &namespace, depth + 1)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The namespace of a type's own names.
pub(super) fn namespace_of(fields: &serde_json::Map<String, Value>, around: &str) -> String {
    let text = |field| fields.get(field).and_then(Value::as_str);
    match (text("name").and_then(|name| name.rsplit_once('.')), text("namespace")) {
        (Some((namespace, _)), _) | (None, Some(namespace)) => namespace.to_owned(),
        (None, None) => around.to_owned(),
    }
}

pub(super) fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

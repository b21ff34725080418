//! Checks that a type reads what an Avro schema of the crate writes, field by field.

use crate::errors::Errors;
use proc_macro2::TokenStream;
use quote::quote;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::PathBuf;
use syn::ext::IdentExt;
use syn::{
    Attribute, Data, DeriveInput, Field, Fields, GenericArgument, Ident, LitStr, PathArguments, Type, Variant,
};

pub(crate) fn derive(input: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let files = match syn::parse2(input) {
        Ok(input) => check(&input, &mut errors),
        Err(error) => return error.to_compile_error(),
    };
    // So that a changed file is noticed.
    quote!(#(const _: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", #files));)* #errors)
}

/// Checks the type by each file that is named; gives those that are there.
fn check(input: &DeriveInput, errors: &mut Errors) -> Vec<LitStr> {
    let mut files = Vec::new();
    let schemas = input.attrs.iter().filter(|attribute| attribute.path().is_ident("avro_schema"));
    for args in schemas.map(Attribute::parse_args::<Args>) {
        match args {
            Ok(args) => files.extend(check_file(input, &args, errors).then_some(args.path)),
            Err(error) => errors.add(error),
        }
    }
    if files.is_empty() && errors.is_empty() {
        errors.push(&input.ident, "name a schema file: `#[avro_schema(\"schemas/order.avsc\")]`");
    }
    files
}

/// `"schemas/order.avsc"`, and `record = "shop.Line"` for a type within.
struct Args {
    path: LitStr,
    record: Option<LitStr>,
}

impl syn::parse::Parse for Args {
    fn parse(input: syn::parse::ParseStream<'_>) -> syn::Result<Self> {
        let path = input.parse()?;
        let mut record = None;
        if input.parse::<Option<syn::Token![,]>>()?.is_some() && !input.is_empty() {
            let name = input.call(Ident::parse_any)?;
            if name != "record" {
                return Err(syn::Error::new(name.span(), "unknown; there is `record = \"..\"`"));
            }
            input.parse::<syn::Token![=]>()?;
            record = Some(input.parse()?);
            input.parse::<Option<syn::Token![,]>>()?;
        }
        Ok(Self { path, record })
    }
}

/// Says whether there is such a file.
fn check_file(input: &DeriveInput, args: &Args, errors: &mut Errors) -> bool {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    match std::fs::read_to_string(folder.join(args.path.value())) {
        Ok(text) => {
            check_schema(input, args, &text, errors);
            true
        }
        Err(error) => {
            errors.push(&args.path, format!("cannot read it, from the folder of Cargo.toml: {error}"));
            false
        }
    }
}

fn check_schema(input: &DeriveInput, args: &Args, text: &str, errors: &mut Errors) {
    let schema: Value = match serde_json::from_str(text) {
        Ok(schema) => schema,
        Err(error) => return errors.push(&args.path, format!("it is no JSON: {error}")),
    };
    let mut names = Names::default();
    names.collect(&schema, "");
    let found = match &args.record {
        None => Some((&schema, String::new())),
        Some(record) => names.find(&record.value()),
    };
    let Some((found, namespace)) = found else {
        return errors
            .push(&args.record, format!("the schema has no such type; it has {}", listed(names.0.keys())));
    };
    let check = Check { names: &names, file: args.path.value() };
    match &input.data {
        Data::Struct(data) => check.record(input, &data.fields, found, &namespace, errors),
        Data::Enum(data) if data.variants.iter().all(|variant| variant.fields.is_empty()) => {
            check.symbols(input, data.variants.iter(), found, errors);
        }
        _ => {
            errors.push(&input.ident, "only structs with named fields and enums without data can be checked")
        }
    }
}

/// The named types of a schema, with their namespaces.
#[derive(Default)]
struct Names<'s>(HashMap<String, (&'s Value, String)>);

impl<'s> Names<'s> {
    fn collect(&mut self, schema: &'s Value, namespace: &str) {
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
    fn find(&self, name: &str) -> Option<(&'s Value, String)> {
        let is_it = |full: &&String| *full == name || full.rsplit('.').next() == Some(name);
        let mut found = self.0.keys().filter(is_it);
        match (found.next(), found.next()) {
            (Some(only), None) => self.0.get(only).cloned(),
            _ => self.0.get(name).cloned(),
        }
    }

    /// By a name as it stands in a namespace.
    fn within(&self, name: &str, namespace: &str) -> Option<(&'s Value, String)> {
        self.0.get(&full_name(name, namespace)).or_else(|| self.0.get(name)).cloned()
    }
}

fn text<'s>(fields: &'s Map<String, Value>, name: &str) -> Option<&'s str> {
    fields.get(name).and_then(Value::as_str)
}

fn namespace_of(fields: &Map<String, Value>, around: &str) -> String {
    match (text(fields, "name").and_then(|name| name.rsplit_once('.')), text(fields, "namespace")) {
        (Some((namespace, _)), _) | (None, Some(namespace)) => namespace.to_owned(),
        (None, None) => around.to_owned(),
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn listed(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| format!("`{}`", name.as_ref())).collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

struct Check<'s> {
    names: &'s Names<'s>,
    file: String,
}

impl Check<'_> {
    fn record(
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

    fn symbols<'v>(
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
        let kind = match &schema {
            Value::String(kind) => kind,
            Value::Object(fields)
                if fields.contains_key("logicalType") && text(fields, "type") != Some("string") =>
            {
                return Ok(());
            }
            Value::Object(fields) => text(fields, "type").unwrap_or_default(),
            _ => return Ok(()),
        };
        let is_read = match known {
            Known::Option(inner) => return self.fits(inner, &schema, &namespace),
            Known::Wrapped(inner) => return self.fits(inner, &schema, &namespace),
            Known::List(inner) => match schema.get("items") {
                Some(items) if kind == "array" => return self.fits(inner, items, &namespace),
                _ => kind == "bytes" || kind == "fixed",
            },
            Known::Map(inner) => match schema.get("values") {
                Some(values) if kind == "map" => return self.fits(inner, values, &namespace),
                _ => kind == "record",
            },
            Known::One(kinds) => kinds.contains(&kind),
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
            Value::Object(fields) if !fields.contains_key("logicalType") => match fields.get("type") {
                Some(inner @ (Value::Object(_) | Value::Array(_))) => self.resolved(inner, namespace),
                _ => (schema.clone(), namespace_of(fields, namespace)),
            },
            _ => (schema.clone(), namespace.to_owned()),
        }
    }
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" }
}

/// serde takes a missing `Option` for `None`.
fn may_be_missing(field: &Field, serde: &Serde) -> bool {
    !serde.is_converted && matches!(Known::of(&field.ty), Known::Option(_))
}

/// A field's type, by its name.
enum Known<'t> {
    Option(&'t Type),
    /// `Box` and the like.
    Wrapped(&'t Type),
    List(&'t Type),
    Map(&'t Type),
    /// It reads these.
    One(&'static [&'static str]),
    Other,
}

impl<'t> Known<'t> {
    fn of(ty: &'t Type) -> Self {
        const TEXT: Known<'_> = Known::One(&["string", "enum"]);
        let path = match ty {
            Type::Reference(reference) => match &*reference.elem {
                Type::Path(path) if path.path.is_ident("str") => return TEXT,
                _ => return Self::Other,
            },
            Type::Paren(inner) => return Self::of(&inner.elem),
            Type::Group(inner) => return Self::of(&inner.elem),
            Type::Path(path) => path,
            _ => return Self::Other,
        };
        let Some(last) = path.path.segments.last() else { return Self::Other };
        let arguments: Vec<&Type> = match &last.arguments {
            PathArguments::AngleBracketed(arguments) => arguments
                .args
                .iter()
                .filter_map(|argument| if let GenericArgument::Type(ty) = argument { Some(ty) } else { None })
                .collect(),
            _ => Vec::new(),
        };
        match (last.ident.to_string().as_str(), &arguments[..]) {
            ("Option", [inner]) => Self::Option(inner),
            ("Box" | "Arc" | "Rc", [inner]) => match inner {
                Type::Path(path) if path.path.is_ident("str") => TEXT,
                _ => Self::Wrapped(inner),
            },
            ("Vec" | "VecDeque" | "HashSet" | "BTreeSet", [inner]) => Self::List(inner),
            ("HashMap" | "BTreeMap", [_, inner, ..]) => Self::Map(inner),
            ("Cow", [Type::Path(path)]) if path.path.is_ident("str") => TEXT,
            ("String", []) => TEXT,
            ("bool", []) => Self::One(&["boolean"]),
            // What is narrower than the schema's may not fit, so it is none of Avro's promotions.
            ("i32" | "u32", []) => Self::One(&["int"]),
            ("i64" | "u64" | "i128" | "u128" | "isize" | "usize", []) => Self::One(&["int", "long"]),
            ("f32", []) => Self::One(&["float", "int"]),
            ("f64", []) => Self::One(&["float", "double", "int", "long"]),
            ("i8" | "i16" | "u8" | "u16", []) => Self::One(&[]),
            _ => Self::Other,
        }
    }
}

/// What serde's attributes say that matters here.
#[derive(Default)]
struct Serde {
    rename: Option<String>,
    rename_all: Option<String>,
    aliases: Vec<String>,
    has_default: bool,
    is_skipped: bool,
    is_flattened: bool,
    is_other: bool,
    denies_unknown: bool,
    /// By a function or another type.
    is_converted: bool,
}

impl Serde {
    fn of(attributes: &[Attribute]) -> Self {
        let mut found = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("serde")) {
            // What serde does not understand it says itself.
            let _ = attribute.parse_nested_meta(|meta| {
                let name = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
                let mut value = None;
                if meta.input.peek(syn::Token![=]) {
                    value = meta.value()?.parse::<LitStr>().ok().map(|value| value.value());
                } else if meta.input.peek(syn::token::Paren) {
                    meta.parse_nested_meta(|inner| {
                        let text = inner.value()?.parse::<LitStr>()?.value();
                        if inner.path.is_ident("deserialize") {
                            value = Some(text);
                        }
                        Ok(())
                    })?;
                }
                match name.as_str() {
                    "rename" => found.rename = value,
                    "rename_all" => found.rename_all = value,
                    "alias" => found.aliases.extend(value),
                    "default" => found.has_default = true,
                    "skip" | "skip_deserializing" => found.is_skipped = true,
                    "flatten" => found.is_flattened = true,
                    "other" => found.is_other = true,
                    "deny_unknown_fields" => found.denies_unknown = true,
                    "with" | "deserialize_with" | "from" | "try_from" | "transparent" | "tag"
                    | "untagged" | "remote" => {
                        found.is_converted = true;
                    }
                    _ => {}
                }
                Ok(())
            });
        }
        found
    }

    /// Under which names it is found.
    fn names(&self, ident: Option<&Ident>, rename_all: Option<&str>, case: Case) -> Vec<String> {
        let own = ident.map(|ident| ident.unraw().to_string()).unwrap_or_default();
        let name = match (&self.rename, rename_all) {
            (Some(name), _) => name.clone(),
            (None, Some(rule)) => renamed(&own, rule, case),
            (None, None) => own,
        };
        self.aliases.iter().cloned().chain([name]).collect()
    }
}

/// How a name is written before it is renamed.
#[derive(Clone, Copy)]
enum Case {
    Snake,
    Pascal,
}

fn renamed(name: &str, rule: &str, case: Case) -> String {
    let snake = match case {
        Case::Snake => name.to_owned(),
        Case::Pascal => {
            let mut snake = String::new();
            for (place, letter) in name.char_indices() {
                if place > 0 && letter.is_uppercase() {
                    snake.push('_');
                }
                snake.extend(letter.to_lowercase());
            }
            snake
        }
    };
    let pascal: String = snake.split('_').map(capitalised).collect();
    match rule {
        "lowercase" => match case {
            Case::Snake => snake,
            Case::Pascal => name.to_lowercase(),
        },
        "UPPERCASE" => name.to_uppercase(),
        "PascalCase" => pascal,
        "camelCase" => {
            let mut letters = pascal.chars();
            letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
        }
        "snake_case" => snake,
        "SCREAMING_SNAKE_CASE" => snake.to_uppercase(),
        "kebab-case" => snake.replace('_', "-"),
        "SCREAMING-KEBAB-CASE" => snake.to_uppercase().replace('_', "-"),
        _ => name.to_owned(),
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a type.
    fn parsed(item: &str) -> Vec<String> {
        let mut errors = Errors::default();
        check(&syn::parse_str(item).unwrap(), &mut errors);
        errors.into_result().err().into_iter().flatten().map(|error| error.to_string()).collect()
    }

    const FILE: &str = "../framework/src/docs/order.v2.avsc";

    fn said(attribute: &str, item: &str) -> Vec<String> {
        parsed(&format!("#[avro_schema(\"{FILE}\"{attribute})] {item}"))
    }

    #[test]
    fn each_field_that_does_not_fit_is_told() {
        let said = said(
            "",
            "struct Order { id: i64, note: String, total: f64, lines: Vec<String>, #[serde(default)] more: u8 }",
        );
        assert_eq!(
            said,
            [
                format!("field `id` of `{FILE}` is a string, which this type does not read"),
                format!("field `note` of `{FILE}` may be null; take an `Option`"),
                format!(
                    "`{FILE}` has no such field, and there is no `#[serde(default)]`; it has `id`, `lines`, `note`"
                ),
                format!("field `lines` of `{FILE}` is a record, which this type does not read"),
            ]
        );
    }

    #[test]
    fn what_is_unknown_or_narrower_is_told() {
        let of_line = ", record = \"shop.Line\"";
        let line = said(of_line, "#[serde(deny_unknown_fields)] struct Line { unit_price: f32 }");
        assert_eq!(line.len(), 2, "{line:?}");
        assert!(line[0].contains("`unit_price`") && line[0].contains("is a double"), "{line:?}");
        assert!(line[1].contains("a field `kind`"), "{line:?}");
        let kind = said(
            ", record = \"Kind\"",
            "#[serde(rename_all = \"lowercase\")] enum Kind { New, #[serde(alias = \"USED\")] Used }",
        );
        assert_eq!(kind.len(), 1, "{kind:?}");
        assert!(kind[0].starts_with("no variant has the name of `NEW`"), "{kind:?}");
    }

    #[test]
    fn all_that_reads_the_schema_is_passed() {
        for item in [
            "struct Order<'a> { id: Cow<'a, str>, lines: Vec<Box<Line>>, note: Option<&'a str>, no: Option<i64> }",
            "struct Order { #[serde(rename = \"id\")] key: String, #[serde(deserialize_with = \"f\")] note: u8 }",
            "struct Order { id: OrderId, #[serde(flatten)] rest: Rest, #[serde(skip)] seen: u8 }",
            "#[serde(default, rename_all = \"camelCase\")] struct Order { note: Option<Note>, other_name: u8 }",
        ] {
            assert_eq!(said("", item), [""; 0], "{item}");
        }
        let line = "struct Line { #[serde(alias = \"unit_price\")] price: f64, kind: String }";
        assert_eq!(said(", record = \"shop.Line\"", line), [""; 0]);
        assert_eq!(said(", record = \"Kind\"", "enum Kind { NEW, #[serde(other)] Other }"), [""; 0]);
        let upper = "#[serde(rename_all(deserialize = \"UPPERCASE\"))] enum Kind { New, Used }";
        assert_eq!(said(", record = \"shop.Kind\"", upper), [""; 0]);
    }

    #[test]
    fn a_schema_that_is_not_there_is_told() {
        let problem = |text: &str| parsed(text).pop().unwrap();
        assert!(problem("struct Order { id: String }").contains("name a schema file"));
        let missing = problem("#[avro_schema(\"missing.avsc\")] struct Order { id: String }");
        assert!(missing.contains("cannot read it"), "{missing}");
        let one = |attribute, item| said(attribute, item).pop().unwrap();
        assert!(one(", record = \"Bill\"", "struct Bill { id: String }").contains("it has `shop.Kind`, "));
        assert!(one(", name = \"Line\"", "struct Line { id: String }").contains("there is `record = "));
        assert!(one("", "struct Order(String);").contains("only structs with named fields"));
        assert!(one("", "enum Order { A, B }").contains("is no enum"));
        assert!(one(", record = \"Kind\"", "struct Kind { a: String }").contains("is no record"));
    }

    #[test]
    fn names_are_those_of_serde() {
        let renamed = |rule| (renamed("tail_num", rule, Case::Snake), renamed("TailNum", rule, Case::Pascal));
        for (rule, field, variant) in [
            ("lowercase", "tail_num", "tailnum"),
            ("UPPERCASE", "TAIL_NUM", "TAILNUM"),
            ("PascalCase", "TailNum", "TailNum"),
            ("camelCase", "tailNum", "tailNum"),
            ("snake_case", "tail_num", "tail_num"),
            ("SCREAMING_SNAKE_CASE", "TAIL_NUM", "TAIL_NUM"),
            ("kebab-case", "tail-num", "tail-num"),
            ("SCREAMING-KEBAB-CASE", "TAIL-NUM", "TAIL-NUM"),
        ] {
            assert_eq!(renamed(rule), (field.to_owned(), variant.to_owned()), "{rule}");
        }
    }
}

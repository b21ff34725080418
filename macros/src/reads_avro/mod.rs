//! Checks that a type reads what an Avro schema of the crate writes, field by field.

mod check;
mod known;
mod names;
mod serde;

use crate::errors::Errors;
use check::Check;
use names::Names;
use proc_macro2::TokenStream;
use quote::quote;
use serde_json::Value;
use std::path::PathBuf;
use syn::ext::IdentExt;
use syn::{Attribute, Data, DeriveInput, Ident, LitStr};

pub(crate) fn derive(input: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let files = match syn::parse2(input) {
        Ok(input) => check(&input, &mut errors),
        Err(error) => return error.to_compile_error(),
    };
    // So that a changed file is noticed.
    quote!(#(const _: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", #files));)* #errors)
}

/// The schema that a type is read by, of a file, which it is checked against as well.
pub(crate) fn derive_reader(input: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let input: DeriveInput = match syn::parse2(input) {
        Ok(input) => input,
        Err(error) => return error.to_compile_error(),
    };
    let schema = reader(&input, &mut errors).map(|path| {
        let name = &input.ident;
        let (generics, arguments, bounds) = input.generics.split_for_impl();
        quote! {
            impl #generics ::onceward::ReaderSchema for #name #arguments #bounds {
                const SCHEMA: &'static str =
                    ::core::include_str!(::core::concat!(::core::env!("CARGO_MANIFEST_DIR"), "/", #path));
            }
        }
    });
    quote!(#schema #errors)
}

/// The one file, if it is there.
fn reader(input: &DeriveInput, errors: &mut Errors) -> Option<LitStr> {
    let mut schemas = input.attrs.iter().filter(|attribute| attribute.path().is_ident("reader_schema"));
    let (Some(attribute), None) = (schemas.next(), schemas.next()) else {
        errors.push(&input.ident, "name one schema file: `#[reader_schema(\"schemas/order.avsc\")]`");
        return None;
    };
    match attribute.parse_args::<LitStr>() {
        Ok(path) => {
            let args = Args { path, record: None };
            check_file(input, &args, errors).then_some(args.path)
        }
        Err(error) => {
            errors.add(error);
            None
        }
    }
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

fn listed(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| format!("`{}`", name.as_ref())).collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
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

    /// The rows of the framework's own test of decoder and check: whether they read, the schema's
    /// name, the Rust type.
    fn rows() -> Vec<(bool, String, String)> {
        let text = include_str!("../../../framework/src/schemas/avro/types.rs");
        let rows = text.lines().filter_map(|line| {
            let line = line.trim();
            let (reads, row) =
                line.split_once("!(\"").filter(|(word, _)| matches!(*word, "reads" | "refuses"))?;
            let (name, row) = row.split_once("\", ")?;
            // The type ends at a comma that is in no brackets.
            let mut depth = 0_i32;
            let end = row.find(|letter: char| {
                depth += match letter {
                    '<' | '(' | '[' => 1,
                    '>' | ')' | ']' => -1,
                    _ => 0,
                };
                letter == ',' && depth == 0
            })?;
            Some((reads == "reads", name.to_owned(), row[..end].to_owned()))
        });
        rows.collect()
    }

    #[test]
    fn what_is_passed_is_what_the_decoder_and_the_check_at_the_start_read() {
        let text = include_str!("../../../framework/src/schemas/avro/types.jsonl");
        let schemas: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let rows = rows();
        assert!(rows.len() > 60, "{}", rows.len());
        for (reads, name, ty) in rows {
            let case = schemas.iter().find(|case| case["name"] == *name).unwrap();
            let input: DeriveInput =
                syn::parse_str(&format!("struct Around {{ field: {ty}, behind: String }}")).unwrap();
            let mut errors = Errors::default();
            let args = Args { path: syn::parse_str("\"a.avsc\"").unwrap(), record: None };
            check_schema(&input, &args, &case["schema"].to_string(), &mut errors);
            assert_eq!(errors.is_empty(), reads, "{name} into {ty}");
        }
    }
}

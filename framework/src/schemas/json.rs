//! JSON that a schema describes.

use super::json_weight;
use super::references::Referenced;
use crate::config::schema_registry::JsonSchemaDraft;
use jsonschema::{PatternOptions, Registry, RegistryBuilder, Retrieve, Uri, Validator};
use serde_json::Value;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// What checks values against a schema.
pub(crate) struct Schema(Validator);

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

impl Schema {
    /// Says which part of the schema a value does not fit; that names nothing of the value.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        match self.0.validate(value) {
            Ok(()) => Ok(()),
            Err(error) => Err(format!("it does not fit its schema at `{}`", error.schema_path())),
        }
    }
}

/// What a pattern may become, in bytes: `(a{1,99}){1,99}` is short as a text.
const LARGEST_PATTERN: usize = 1 << 20;

/// Where a schema is that names no address of its own.
const ADDRESS: &str = "json-schema:///";

/// Makes of a schema's text, with those that it refers to, what checks values.
pub(crate) fn parse(text: &str, referenced: &Referenced, draft: JsonSchemaDraft) -> Result<Schema, String> {
    let unusable = |error: &dyn fmt::Display| format!("its JSON Schema cannot be used: {error}");
    let schema = of_draft(text, draft).map_err(|error| unusable(&error))?;
    let known = referenced.iter().map(|(name, text)| (plain(name).to_owned(), text.to_owned()));
    let known = OnlyReferenced { known: Arc::new(known.collect()), draft };
    let registry = Registry::new().retriever(known.clone()).add(ADDRESS, &schema);
    let registry = registry.and_then(RegistryBuilder::prepare).map_err(|error| unusable(&error))?;
    let address = Uri::parse(ADDRESS.to_owned()).expect("it is an address");
    json_weight::check(&schema, registry.resolver(address)).map_err(|problem| unusable(&problem))?;
    let options = jsonschema::options().with_retriever(known);
    let patterns = PatternOptions::fancy_regex().size_limit(LARGEST_PATTERN).dfa_size_limit(LARGEST_PATTERN);
    options.with_pattern_options(patterns).build(&schema).map(Schema).map_err(|error| unusable(&error))
}

/// A schema, with the draft that it is read as where it names none.
fn of_draft(text: &str, draft: JsonSchemaDraft) -> Result<Value, serde_json::Error> {
    let mut schema: Value = serde_json::from_str(text)?;
    if let Value::Object(keywords) = &mut schema {
        keywords.entry("$schema").or_insert_with(|| {
            Value::from(match draft {
                JsonSchemaDraft::Draft04 => "http://json-schema.org/draft-04/schema#",
                JsonSchemaDraft::Draft06 => "http://json-schema.org/draft-06/schema#",
                JsonSchemaDraft::Draft07 => "http://json-schema.org/draft-07/schema#",
                JsonSchemaDraft::Draft201909 => "https://json-schema.org/draft/2019-09/schema",
                JsonSchemaDraft::Draft202012 => "https://json-schema.org/draft/2020-12/schema",
            })
        });
    }
    Ok(schema)
}

/// A reference's name without the steps from folder to folder that an address has no more.
fn plain(mut name: &str) -> &str {
    while let Some(rest) = name.strip_prefix("./").or_else(|| name.strip_prefix("../")) {
        name = rest;
    }
    name.trim_start_matches('/')
}

/// Gives the schemas that the registry has for it. Any other address would be asked for
/// something by whoever may write a schema.
#[derive(Clone)]
struct OnlyReferenced {
    known: Arc<HashMap<String, String>>,
    draft: JsonSchemaDraft,
}

impl Retrieve for OnlyReferenced {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let address = uri.as_str();
        // A relative name was put behind the schema's own address: what is left of it is the end.
        let ends = address.match_indices('/').map(|(place, _)| &address[place + 1..]);
        match std::iter::once(address).chain(ends).find_map(|end| self.known.get(end)) {
            Some(text) => Ok(of_draft(text, self.draft)?),
            None => Err("it refers to a schema that is not among its references in the registry".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAFT: JsonSchemaDraft = JsonSchemaDraft::Draft07;

    #[test]
    fn a_value_is_checked_and_a_fault_names_the_schema_only() {
        let text = r#"{"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"],
            "additionalProperties": {"type": "integer"}}"#;
        let schema = parse(text, &Referenced::default(), DRAFT).unwrap();
        assert_eq!(schema.check(&serde_json::json!({"id": "x", "n": 1})), Ok(()));
        let problem = |value| schema.check(&value).unwrap_err();
        assert_eq!(
            problem(serde_json::json!({"id": 7})),
            "it does not fit its schema at `/properties/id/type`"
        );
        assert_eq!(
            problem(serde_json::json!({"id": "x", "hunter2": "y"})),
            "it does not fit its schema at `/additionalProperties/type`"
        );
    }

    #[test]
    fn a_pattern_that_becomes_large_is_refused() {
        let pattern =
            |pattern: &str| parse(&format!(r#"{{"pattern": "{pattern}"}}"#), &Referenced::default(), DRAFT);
        assert!(pattern("^[\\\\w-]{1,64}$").is_ok());
        let memory = allocation_counter::measure(|| assert!(pattern("((a{1,100}){1,100}){1,10}").is_err()));
        assert!(memory.bytes_max < 8 << 20, "{memory:?}");
    }

    #[test]
    fn only_what_the_registry_has_is_referred_to() {
        let mut referenced = Referenced::default();
        referenced.add("money.json".into(), "money".into(), 1, r#"{"type": "integer"}"#.into());
        let text = |address: &str| format!(r#"{{"properties": {{"price": {{"$ref": "{address}"}}}}}}"#);
        let schema = parse(&text("money.json"), &referenced, DRAFT).unwrap();
        assert_eq!(schema.check(&serde_json::json!({"price": 1})), Ok(()));
        assert!(schema.check(&serde_json::json!({"price": "1"})).is_err());
        for elsewhere in ["file:///etc/passwd", "http://127.0.0.1:1/x.json"] {
            let problem = parse(&text(elsewhere), &referenced, DRAFT).unwrap_err();
            assert!(problem.contains("not among its references"), "{problem}");
        }
        assert!(parse(&text("other.json"), &referenced, DRAFT).is_err());
    }

    #[test]
    fn a_reference_is_found_by_its_path_from_wherever_the_schema_is() {
        let mut referenced = Referenced::default();
        for (name, most) in [("common/money.json", 9), ("./small.json", 5), ("../up/one.json", 1)] {
            let text = format!(r#"{{"type": "integer", "maximum": {most}}}"#);
            referenced.add(name.into(), name.into(), 1, text);
        }
        for own in ["", r#""$id": "http://example.com/schemas/order.json","#, r#""$id": "order.json","#] {
            for (reference, most) in [
                ("common/money.json", 9),
                ("./common/money.json", 9),
                ("./small.json", 5),
                ("small.json", 5),
                ("../up/one.json", 1),
            ] {
                let text = format!(r#"{{{own} "properties": {{"n": {{"$ref": "{reference}"}}}}}}"#);
                let schema = parse(&text, &referenced, DRAFT).unwrap();
                assert_eq!(schema.check(&serde_json::json!({"n": most})), Ok(()), "{text}");
                assert!(schema.check(&serde_json::json!({"n": most + 1})).is_err(), "{text}");
            }
        }
        assert!(parse(r#"{"$ref": "money.json"}"#, &referenced, DRAFT).is_err(), "of another folder");
    }

    #[test]
    fn without_a_draft_of_its_own_a_schema_is_of_the_one_that_is_set() {
        let items = r#"{"items": [{"type": "integer"}, {"type": "string"}]}"#;
        let value = serde_json::json!([1, "a", true]);
        for draft in [JsonSchemaDraft::Draft04, DRAFT, JsonSchemaDraft::Draft201909] {
            assert_eq!(parse(items, &Referenced::default(), draft).unwrap().check(&value), Ok(()));
        }
        assert!(parse(items, &Referenced::default(), JsonSchemaDraft::Draft202012).is_err());
        let own = items.replacen('{', r#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "#, 1);
        assert!(parse(&own, &Referenced::default(), DRAFT).is_err(), "what it says itself counts");
    }
}

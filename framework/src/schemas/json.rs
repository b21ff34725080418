//! JSON that a schema describes.

use super::json_weight;
use super::references::Referenced;
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
pub(crate) fn parse(text: &str, referenced: &Referenced) -> Result<Schema, String> {
    let unusable = |error: &dyn fmt::Display| format!("its JSON Schema cannot be used: {error}");
    let schema: Value = serde_json::from_str(text).map_err(|error| unusable(&error))?;
    let known = referenced.iter().map(|(name, text)| (name.to_owned(), text.to_owned()));
    let known = OnlyReferenced(Arc::new(known.collect()));
    let registry = Registry::new().retriever(known.clone()).add(ADDRESS, &schema);
    let registry = registry.and_then(RegistryBuilder::prepare).map_err(|error| unusable(&error))?;
    let address = Uri::parse(ADDRESS.to_owned()).expect("it is an address");
    json_weight::check(&schema, registry.resolver(address)).map_err(|problem| unusable(&problem))?;
    let options = jsonschema::options().with_retriever(known);
    let patterns = PatternOptions::fancy_regex().size_limit(LARGEST_PATTERN).dfa_size_limit(LARGEST_PATTERN);
    options.with_pattern_options(patterns).build(&schema).map(Schema).map_err(|error| unusable(&error))
}

/// Gives the schemas that the registry has for it. Any other address would be asked for
/// something by whoever may write a schema.
#[derive(Clone)]
struct OnlyReferenced(Arc<HashMap<String, String>>);

impl Retrieve for OnlyReferenced {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let address = uri.as_str();
        // A relative name was put behind the schema's own address.
        let name = address.rsplit('/').next().unwrap_or_default();
        match self.0.get(address).or_else(|| self.0.get(name)) {
            Some(text) => Ok(serde_json::from_str(text)?),
            None => Err("it refers to a schema that is not among its references in the registry".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_checked_and_a_fault_names_the_schema_only() {
        let text = r#"{"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"],
            "additionalProperties": {"type": "integer"}}"#;
        let schema = parse(text, &Referenced::default()).unwrap();
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
            |pattern: &str| parse(&format!(r#"{{"pattern": "{pattern}"}}"#), &Referenced::default());
        assert!(pattern("^[\\\\w-]{1,64}$").is_ok());
        let memory = allocation_counter::measure(|| assert!(pattern("((a{1,100}){1,100}){1,10}").is_err()));
        assert!(memory.bytes_max < 8 << 20, "{memory:?}");
    }

    #[test]
    fn only_what_the_registry_has_is_referred_to() {
        let mut referenced = Referenced::default();
        referenced.add("money.json".into(), "money".into(), 1, r#"{"type": "integer"}"#.into());
        let text = |address: &str| format!(r#"{{"properties": {{"price": {{"$ref": "{address}"}}}}}}"#);
        let schema = parse(&text("money.json"), &referenced).unwrap();
        assert_eq!(schema.check(&serde_json::json!({"price": 1})), Ok(()));
        assert!(schema.check(&serde_json::json!({"price": "1"})).is_err());
        for elsewhere in ["file:///etc/passwd", "http://127.0.0.1:1/x.json"] {
            let problem = parse(&text(elsewhere), &referenced).unwrap_err();
            assert!(problem.contains("not among its references"), "{problem}");
        }
        assert!(parse(&text("other.json"), &referenced).is_err());
    }
}

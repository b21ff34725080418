//! What it can cost to check a value by a JSON Schema: found out before any is.
//!
//! A schema that applies another one twice to the same value, which does the same again, doubles
//! with each; of thirty there is no end.

use referencing::{Draft, Resolver, ResourceRef};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Refuses a schema by which one value is checked for ever, or one that ends on the stack.
///
/// One that leads back to itself by way of what is inside of a value, as a tree does, ends with
/// the value.
pub(super) fn check<'s>(schema: &'s Value, resolver: Resolver<'s>) -> Result<(), String> {
    let scope = Scope { resolver, draft: Draft::default().detect(schema) };
    let mut here = Walk { steps: Steps::OfTheSameValue, known: HashMap::new(), left: Vec::new() };
    here.left.push((schema, scope.clone()));
    while let Some((schema, scope)) = here.left.pop() {
        here.weight(schema, &scope, 0)?;
    }
    let mut all = Walk { steps: Steps::All, known: HashMap::new(), left: Vec::new() };
    all.weight(schema, &scope, 0).map(drop)
}

/// So many schemas may be applied for one value that is nowhere more than one item wide.
const HEAVIEST: usize = 100_000;
/// Who makes a validator goes so far from schema to schema; more would end on the stack.
const DEEPEST_WALK: usize = 500;

#[derive(PartialEq)]
enum Steps {
    /// To schemas for the same value. None of these ways may be a circle.
    OfTheSameValue,
    /// Also to those for what is inside of it. A circle counts once.
    All,
}

struct Walk<'s> {
    steps: Steps,
    /// The weight of a schema, once it is known; until then it is being weighed.
    known: HashMap<*const Value, Option<usize>>,
    /// What is inside, not walked to.
    left: Vec<(&'s Value, Scope<'s>)>,
}

/// What a reference means where it stands.
#[derive(Clone)]
struct Scope<'s> {
    resolver: Resolver<'s>,
    draft: Draft,
}

impl<'s> Scope<'s> {
    /// That inside of a schema, which may have an address of its own.
    fn inside_of(&self, schema: &Value) -> Self {
        let draft = self.draft.detect(schema);
        let inside = self.resolver.in_subresource(ResourceRef::new(schema, draft)).ok();
        // Who came by its address is there already.
        let inside = inside.filter(|inside| inside.lookup("#").is_ok());
        Self { resolver: inside.unwrap_or_else(|| self.resolver.clone()), draft }
    }
}

impl<'s> Walk<'s> {
    /// How many schemas are applied, itself among them.
    fn weight(&mut self, schema: &'s Value, scope: &Scope<'s>, depth: usize) -> Result<usize, String> {
        let Value::Object(keywords) = schema else { return Ok(1) };
        match self.known.insert(schema, None) {
            Some(Some(weight)) => {
                self.known.insert(schema, Some(weight));
                return Ok(weight);
            }
            Some(None) if self.steps == Steps::All => return Ok(1),
            Some(None) => return Err("it leads back to itself for the same value".to_owned()),
            None => {}
        }
        if depth > DEEPEST_WALK {
            return Err(format!("its schemas lead from one to the next more than {DEEPEST_WALK} times"));
        }
        let own = scope.inside_of(schema);
        let mut weight = self.of_the_same_value(keywords, &own, depth + 1)?;
        if ["unevaluatedProperties", "unevaluatedItems"].iter().any(|keyword| keywords.contains_key(*keyword))
        {
            // They apply the others again, to see what is left.
            weight = weight.saturating_mul(2);
        }
        weight = weight.saturating_add(self.of_what_is_inside(keywords, &own, depth + 1)?).saturating_add(1);
        if weight > HEAVIEST {
            return Err(format!("more than {HEAVIEST} of its schemas may apply to one value"));
        }
        self.known.insert(schema, Some(weight));
        Ok(weight)
    }

    fn of_the_same_value(
        &mut self,
        keywords: &'s Map<String, Value>,
        scope: &Scope<'s>,
        depth: usize,
    ) -> Result<usize, String> {
        let mut weight = 0_usize;
        for (keyword, inner) in keywords {
            let more = match (&**keyword, inner) {
                ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(reference)) => {
                    // Of one that leads nowhere who makes the validator says it better.
                    match scope.resolver.lookup(reference) {
                        Ok(found) => {
                            let (inner, resolver, draft) = found.into_inner();
                            self.weight(inner, &Scope { resolver, draft }, depth)?
                        }
                        Err(_) => 0,
                    }
                }
                ("not" | "if" | "then" | "else", inner) => self.weight(inner, scope, depth)?,
                ("allOf" | "anyOf" | "oneOf", Value::Array(inner)) => self.sum(inner, scope, depth)?,
                ("dependentSchemas" | "dependencies", Value::Object(inner)) => {
                    self.sum(inner.values(), scope, depth)?
                }
                _ => 0,
            };
            weight = weight.saturating_add(more);
        }
        Ok(weight)
    }

    /// Of what is inside, an item is one of `properties`, but may fit several patterns.
    fn of_what_is_inside(
        &mut self,
        keywords: &'s Map<String, Value>,
        scope: &Scope<'s>,
        depth: usize,
    ) -> Result<usize, String> {
        let mut weight = 0_usize;
        for (keyword, inner) in keywords {
            let inner: Vec<&Value> = match (&**keyword, inner) {
                ("properties" | "patternProperties", Value::Object(inner)) => inner.values().collect(),
                ("items" | "prefixItems", Value::Array(inner)) => inner.iter().collect(),
                (
                    "items"
                    | "additionalItems"
                    | "unevaluatedItems"
                    | "contains"
                    | "additionalProperties"
                    | "unevaluatedProperties"
                    | "propertyNames",
                    inner,
                ) => vec![inner],
                _ => continue,
            };
            if self.steps == Steps::OfTheSameValue {
                self.left.extend(inner.into_iter().map(|inner| (inner, scope.clone())));
            } else if keyword == "patternProperties" {
                weight = weight.saturating_add(self.sum(inner, scope, depth)?);
            } else {
                let mut most = 0;
                for inner in inner {
                    most = most.max(self.weight(inner, scope, depth)?);
                }
                weight = weight.saturating_add(most);
            }
        }
        Ok(weight)
    }

    fn sum(
        &mut self,
        schemas: impl IntoIterator<Item = &'s Value>,
        scope: &Scope<'s>,
        depth: usize,
    ) -> Result<usize, String> {
        schemas
            .into_iter()
            .try_fold(0_usize, |sum, schema| Ok(sum.saturating_add(self.weight(schema, scope, depth)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::super::references::Referenced;
    use super::*;
    use crate::config::schema_registry::JsonSchemaDraft;
    use serde_json::json;

    /// Of the draft that has all of its words.
    fn parse(text: &str, referenced: &Referenced) -> Result<json::Schema, String> {
        json::parse(text, referenced, JsonSchemaDraft::Draft202012)
    }

    fn problem(schema: &Value) -> String {
        parse(&schema.to_string(), &Referenced::default()).unwrap_err()
    }

    /// What is true of `a0`, where each of so many leads to the next and the last is a number.
    fn chain(count: usize, next: impl Fn(Value) -> Value) -> Value {
        let mut defs: Map<String, Value> = (0..count)
            .map(|number| (format!("a{number}"), next(json!({"$ref": format!("#/$defs/a{}", number + 1)}))))
            .collect();
        defs.insert(format!("a{count}"), json!({"type": "integer"}));
        json!({"$ref": "#/$defs/a0", "$defs": defs})
    }

    #[test]
    fn schemas_that_double_with_each_other_are_refused() {
        let ways: [fn(Value) -> Value; 6] = [
            |next| json!({"allOf": [next, next]}),
            |next| json!({"anyOf": [next, next]}),
            |next| json!({"oneOf": [next, {"not": next}]}),
            |next| json!({"if": next, "then": next, "else": next}),
            |next| json!({"allOf": [next], "unevaluatedProperties": false}),
            |next| json!({"allOf": [{"properties": {"x": next}}, {"properties": {"x": next}}]}),
        ];
        for way in ways {
            assert!(parse(&chain(8, way).to_string(), &Referenced::default()).is_ok(), "{}", chain(1, way));
            let said = problem(&chain(30, way));
            assert!(said.contains("may apply to one value"), "{said}");
        }
    }

    #[test]
    fn they_are_refused_by_whatever_name_they_lead_to_each_other() {
        let by_address = |number: usize| {
            let next = json!({"$ref": format!("a{}.json", number + 1)});
            json!({"$id": format!("in/a{number}.json"), "anyOf": [next, next]})
        };
        let by_anchor = |number: usize| {
            let next = json!({"$ref": format!("#a{}", number + 1)});
            json!({"$anchor": format!("a{number}"), "anyOf": [next, next]})
        };
        let defs = |one: &dyn Fn(usize) -> Value| {
            (0..30).map(|number| (number.to_string(), one(number))).collect::<Map<_, _>>()
        };
        let mut by_address = defs(&by_address);
        by_address.insert("30".into(), json!({"$id": "in/a30.json", "type": "integer"}));
        let mut by_anchor = defs(&by_anchor);
        by_anchor.insert("30".into(), json!({"$anchor": "a30", "type": "integer"}));
        for schema in [
            json!({"$id": "http://x/", "$ref": "in/a0.json", "$defs": by_address}),
            json!({"$ref": "#a0", "$defs": by_anchor}),
        ] {
            let said = problem(&schema);
            assert!(said.contains("may apply to one value"), "{said}");
        }
        let mut referenced = Referenced::default();
        for number in 0..30 {
            let next = json!({"$ref": format!("a{}.json", number + 1)});
            let text = json!({"anyOf": [next, next]}).to_string();
            referenced.add(format!("a{number}.json"), format!("a{number}"), 1, text);
        }
        referenced.add("a30.json".into(), "a30".into(), 1, r#"{"type": "integer"}"#.into());
        let said = parse(r#"{"$ref": "a0.json"}"#, &referenced).unwrap_err();
        assert!(said.contains("may apply to one"), "{said}");
    }

    #[test]
    fn what_leads_back_to_itself_inside_of_a_value_is_not_refused() {
        let tree = json!({"type": "object", "required": ["id"], "properties": {
            "id": {"type": "integer"}, "left": {"$ref": "#"}, "right": {"$ref": "#"},
            "children": {"type": "array", "items": {"$ref": "#"}}}});
        let formula = json!({"$ref": "#/$defs/formula", "$defs": {
            "formula": {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/sum"}, {"$ref": "#/$defs/negated"}]},
            "sum": {"type": "object", "required": ["sum"], "additionalProperties": false, "properties": {
                "sum": {"type": "array", "items": {"$ref": "#/$defs/formula"}}}},
            "negated": {"type": "object", "required": ["not"], "properties": {
                "not": {"$ref": "#/$defs/formula"}}}}});
        let wide: Map<String, Value> = (0..200)
            .map(|number| {
                (
                    format!("T{number}"),
                    json!({"type": "object", "properties": {
                "a": {"$ref": format!("#/$defs/T{}", (number + 1) % 200)},
                "b": {"$ref": format!("#/$defs/T{}", (number * 7) % 200)},
                "c": {"type": "array", "items": {"$ref": format!("#/$defs/T{}", (number + 50) % 200)}}}}),
                )
            })
            .collect();
        let wide = json!({"$ref": "#/$defs/T0", "$defs": wide});
        for (schema, right, wrong) in [
            (
                &tree,
                json!({"id": 1, "left": {"id": 2, "children": [{"id": 3}]}}),
                json!({"id": 1, "right": {}}),
            ),
            (&formula, json!({"sum": [1, {"not": {"sum": [2, 3]}}]}), json!({"sum": [1, {"not": "x"}]})),
            (&wide, json!({"a": {"b": {"c": [{}]}}}), json!({"a": {"b": {"c": [1]}}})),
        ] {
            let schema = parse(&schema.to_string(), &Referenced::default()).unwrap();
            assert_eq!(schema.check(&right), Ok(()));
            assert!(schema.check(&wrong).is_err());
        }
    }

    #[test]
    fn what_leads_back_to_itself_for_the_same_value_is_refused() {
        for circle in [
            json!({"$ref": "#"}),
            json!({"properties": {"x": {"anyOf": [{"$ref": "#/properties/x"}, {"type": "integer"}]}}}),
            // Found also where the way there leads inside of a value.
            json!({"$ref": "#/$defs/a", "$defs": {
                "a": {"properties": {"b": {"$ref": "#/$defs/b"}}, "not": {"$ref": "#/$defs/b"}},
                "b": {"allOf": [{"$ref": "#/$defs/a"}]}}}),
        ] {
            assert!(problem(&circle).contains("leads back to itself"), "{circle}");
        }
    }

    #[test]
    fn a_long_way_from_schema_to_schema_ends_before_the_stack_does() {
        let ways: [fn(Value) -> Value; 2] =
            [|next| json!({"allOf": [next]}), |next| json!({"properties": {"x": next}})];
        for way in ways {
            assert!(parse(&chain(200, way).to_string(), &Referenced::default()).is_ok());
            assert!(problem(&chain(20_000, way)).contains("from one to the next"));
        }
    }
}

//! Finds the handler for a name in a file or in the environment.

use super::{HandlerConfig, Origin, Origins};
use crate::error::Error;
use std::collections::BTreeMap;

/// Whether two names are the same as the environment sees them: regardless of case, and with an
/// underscore for what a variable's name cannot have.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    fn words(name: &str) -> impl Iterator<Item = &str> {
        name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
    }
    words(one).map(str::to_ascii_lowercase).eq(words(other).map(str::to_ascii_lowercase))
}

/// Takes from the weaker of two what the stronger does not set, handler by handler.
pub(super) fn over(
    mut stronger: BTreeMap<String, HandlerConfig>,
    weaker: BTreeMap<String, HandlerConfig>,
) -> BTreeMap<String, HandlerConfig> {
    for (name, weak) in weaker {
        let mut same = stronger.keys().filter(|key| is_same(key, &name));
        let key = match (stronger.contains_key(&name), same.next(), same.next()) {
            (false, Some(only), None) => only.clone(),
            _ => name,
        };
        let strong = stronger.remove(&key).unwrap_or_default();
        stronger.insert(key, strong.over(weak));
    }
    stronger
}

/// The handler that each name means: the one that is spelt so, else the one that is spelt so but
/// for its case, else the one that is the same but for `-`, `.` and `_`. The environment has
/// no case.
pub(crate) fn meant<'n>(
    names: impl Iterator<Item = &'n String>,
    handlers: &[String],
    origins: &Origins,
) -> Result<BTreeMap<String, String>, Error> {
    names.map(|name| Ok((name.clone(), one_meant(name, handlers, origins)?))).collect()
}

fn one_meant(name: &str, handlers: &[String], origins: &Origins) -> Result<String, Error> {
    let setting = format!("handlers.{name}");
    let is_typed = !matches!(origins.of_section(&setting), Some(Origin::Variable(_)));
    let exact = |handler: &str| is_typed && handler == name;
    let by_letters = |handler: &str| handler.eq_ignore_ascii_case(name);
    let by_words = |handler: &str| is_same(handler, name);
    let ways: [&dyn Fn(&str) -> bool; 3] = [&exact, &by_letters, &by_words];
    for is_meant in ways {
        let mut found: Vec<&String> = handlers.iter().filter(|handler| is_meant(handler)).collect();
        found.sort();
        found.dedup();
        match found[..] {
            [] => {}
            [handler] => return Ok(handler.clone()),
            _ => {
                let problem = format!(
                    "could mean any of {found:?}, whose names differ by case or `-`, `.` and `_` alone; set it in a \
                     file, as the handler's name is written"
                );
                return Err(Error::config(setting, problem));
            }
        }
    }
    let near = super::suggest::did_you_mean(name, handlers.iter().map(String::as_str));
    Err(Error::config(setting, format!("no handler has this name; there are {handlers:?}{near}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, handlers: &[&str], variable: bool) -> Result<String, String> {
        let mut origins = Origins::default();
        if variable {
            origins.note(format!("handlers.{name}.topic"), Origin::Variable("ONCEWARD_X".into()));
        }
        let handlers: Vec<String> = handlers.iter().map(ToString::to_string).collect();
        one_meant(name, &handlers, &origins).map_err(|error| error.to_string())
    }

    #[test]
    fn a_handler_is_found_regardless_of_case_and_of_what_a_variable_cannot_hold() {
        for (name, handler) in [
            ("on_flight", "on_flight"),
            ("onupper", "OnUpper"),
            ("OnUpper", "OnUpper"),
            ("orders_v2", "orders-v2"),
            ("orders.v2", "orders__v2"),
        ] {
            assert_eq!(of(name, &["other", handler], true).as_deref(), Ok(handler));
            assert_eq!(of(name, &["other", handler], false).as_deref(), Ok(handler));
        }
    }

    #[test]
    fn only_two_that_differ_by_case_alone_are_ambiguous() {
        let both = ["OnIt", "onit"];
        assert!(of("onit", &both, true).unwrap_err().contains("could mean any of"));
        assert_eq!(of("onit", &both, false).as_deref(), Ok("onit"));
        assert_eq!(of("OnIt", &both, false).as_deref(), Ok("OnIt"));
        assert_eq!(of("on_it", &["on_it", "on-it"], true).as_deref(), Ok("on_it"));
        let missing = of("on_fligt", &["on_flight"], false).unwrap_err();
        assert!(missing.contains("did you mean `on_flight`?"), "{missing}");
    }
}

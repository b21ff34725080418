//! A type as serde sees it, by its attributes.

use syn::ext::IdentExt;
use syn::{Attribute, Ident, LitStr};

/// What serde's attributes say that matters here.
#[derive(Default)]
pub(super) struct Serde {
    rename: Option<String>,
    pub(super) rename_all: Option<String>,
    aliases: Vec<String>,
    pub(super) has_default: bool,
    pub(super) is_skipped: bool,
    pub(super) is_flattened: bool,
    pub(super) is_other: bool,
    pub(super) denies_unknown: bool,
    /// By a function or another type.
    pub(super) is_converted: bool,
}

impl Serde {
    pub(super) fn of(attributes: &[Attribute]) -> Self {
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
    pub(super) fn names(&self, ident: Option<&Ident>, rename_all: Option<&str>, case: Case) -> Vec<String> {
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
pub(super) enum Case {
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

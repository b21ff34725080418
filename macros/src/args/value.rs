//! The value of one argument.

use crate::errors::Errors;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{LitInt, LitStr, Path, Token, bracketed, parenthesized};

/// What an argument's setter is called with: once for each.
pub(super) type Values = syn::Result<Vec<TokenStream>>;

/// The value of an argument that there is.
pub(super) struct Value {
    pub(super) name: Ident,
    pub(super) tokens: TokenStream,
    pub(super) form: &'static str,
}

impl Value {
    pub(super) fn text(&self) -> Values {
        one(self.one_text()?)
    }

    /// One text, or a list of texts.
    pub(super) fn texts(&self) -> Values {
        if syn::parse2::<LitStr>(self.tokens.clone()).is_ok() {
            return self.text();
        }
        self.list()?.into_iter().map(|text| nonempty(text).map(LitStr::into_token_stream)).collect()
    }

    pub(super) fn topic(&self) -> Values {
        one(self.one_topic()?)
    }

    /// A topic that is written to, so no pattern.
    pub(super) fn topic_name(&self) -> Values {
        let topic = self.one_topic()?;
        if topic.value().starts_with('^') { Err(self.wrong()) } else { one(topic) }
    }

    pub(super) fn topics(&self) -> Values {
        let mut errors = Errors::default();
        let mut topics: Vec<LitStr> = Vec::new();
        for topic in self.list()? {
            match legal_topic(topic) {
                Ok(topic) if topics.iter().any(|other| other.value() == topic.value()) => {
                    errors.push(&topic, format!("`{}` is in the list twice", topic.value()));
                }
                Ok(topic) => topics.push(topic),
                Err(error) => errors.add(error),
            }
        }
        errors.into_result().map(|()| topics.into_iter().map(LitStr::into_token_stream).collect())
    }

    pub(super) fn duration(&self) -> Values {
        let text = self.read(<LitStr as Parse>::parse)?;
        let duration = parse_duration(&text.value()).ok_or_else(|| self.wrong())?;
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        one(quote!(::core::time::Duration::from_millis(#milliseconds)))
    }

    pub(super) fn identity(&self) -> Values {
        one(self.read(parse_identity)??)
    }

    pub(super) fn tombstones(&self) -> Values {
        self.one_of("Tombstones", &[("skip", "Skip"), ("handle", "Handle")])
    }

    pub(super) fn guarantee(&self) -> Values {
        const NAMES: [(&str, &str); 2] = [
            ("at_least_once", "AtLeastOnce"),
            ("at_most_once_losing_work_in_flight", "AtMostOnceLosingWorkInFlight"),
        ];
        self.one_of("Guarantee", &NAMES)
    }

    pub(super) fn order(&self) -> Values {
        self.one_of("Order", &[("partition", "Partition"), ("key", "Key"), ("none", "None")])
    }

    pub(super) fn count<N: FromStr<Err: Display> + Default + PartialEq + ToTokens>(&self) -> Values {
        let number: Option<N> = self.read(<LitInt as Parse>::parse)?.base10_parse().ok();
        one(number.filter(|number| *number != N::default()).ok_or_else(|| self.wrong())?)
    }

    /// A variant of this type, by its name in texts.
    fn one_of(&self, ty: &str, names: &[(&str, &str)]) -> Values {
        let text = self.read(<LitStr as Parse>::parse)?.value();
        let (_, variant) = names.iter().find(|(name, _)| *name == text).ok_or_else(|| self.wrong())?;
        let [ty, variant] = [ty, variant].map(|name| Ident::new(name, Span::call_site()));
        one(quote!(::onceward::__private::#ty::#variant))
    }

    fn one_text(&self) -> syn::Result<LitStr> {
        nonempty(self.read(<LitStr as Parse>::parse)?)
    }

    fn one_topic(&self) -> syn::Result<LitStr> {
        legal_topic(self.read(<LitStr as Parse>::parse)?)
    }

    fn list(&self) -> syn::Result<Vec<LitStr>> {
        let list = self.read(|input| {
            let content;
            bracketed!(content in input);
            Punctuated::<LitStr, Token![,]>::parse_terminated(&content)
        })?;
        if list.is_empty() {
            return Err(self.wrong());
        }
        Ok(list.into_iter().collect())
    }

    /// Reads all of the value, and says how it is written where it is not `T`.
    fn read<T>(&self, parse: impl FnOnce(ParseStream<'_>) -> syn::Result<T>) -> syn::Result<T> {
        parse.parse2(self.tokens.clone()).map_err(|_| self.wrong())
    }

    fn wrong(&self) -> syn::Error {
        let message = format!("expected {}", self.form);
        if self.tokens.is_empty() { error(&self.name, message) } else { error(&self.tokens, message) }
    }
}

/// An identity's source. What is wrong with a value inside is an error of its own.
fn parse_identity(input: ParseStream<'_>) -> syn::Result<syn::Result<TokenStream>> {
    let source = |source| Ok(Ok(quote!(::onceward::__private::IdentitySource::#source)));
    let kind: Ident = input.parse()?;
    match kind.to_string().as_str() {
        "cloudevents" => return source(quote!(CloudEvents)),
        "position" => return source(quote!(Position)),
        _ => {}
    }
    let content;
    parenthesized!(content in input);
    match kind.to_string().as_str() {
        "header" => match nonempty(content.parse()?) {
            Ok(header) => source(quote!(header(#header))),
            Err(error) => Ok(Err(error)),
        },
        "function" => {
            let path: Path = content.parse()?;
            source(quote!(function(#path)))
        }
        "in_each_topic" => Ok(parse_identity(&content)?.map(|identity| quote!(#identity.in_each_topic()))),
        _ => Err(content.error("no kind of identity")),
    }
}

fn one(value: impl ToTokens) -> Values {
    Ok(vec![value.into_token_stream()])
}

pub(super) fn error(tokens: impl quote::ToTokens, message: impl Display) -> syn::Error {
    syn::Error::new_spanned(tokens, message)
}

fn nonempty(text: LitStr) -> syn::Result<LitStr> {
    if text.value().trim().is_empty() {
        return Err(error(text, "this text must not be empty"));
    }
    Ok(text)
}

/// Kafka's own rule; what starts with `^` is a pattern, which only the client
/// can judge.
fn legal_topic(topic: LitStr) -> syn::Result<LitStr> {
    let name = topic.value();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.starts_with('^') && name.len() > 1 {
        return Ok(topic);
    }
    if !(1..=249).contains(&name.len()) || matches!(name.as_str(), "." | "..") || !name.chars().all(legal) {
        return Err(error(
            topic,
            "no topic can have this name: it takes 1 to 249 letters, digits, `.`, `_` and `-`; a pattern starts with `^`",
        ));
    }
    Ok(topic)
}

/// As in a file and in the environment; the generated code counts milliseconds.
fn parse_duration(text: &str) -> Option<Duration> {
    let duration = humantime::parse_duration(text.trim()).ok()?;
    (!duration.is_zero() && duration.subsec_nanos() % 1_000_000 == 0).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("30 seconds", 30_000),
            ("5m", 300_000),
            ("1min 30s", 90_000),
            ("1h", 3_600_000),
            ("2days", 172_800_000),
            (" 1s ", 1000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in
            ["", "30", "s", "0s", "-1s", "1x", "500us", "99999999999999999999s", "9999999999999999999h"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_topic_is_named_as_kafka_allows() {
        let legal = |name: &str| legal_topic(LitStr::new(name, Span::call_site())).is_ok();
        let longest = "t".repeat(249);
        assert!(["flights", "a.b_c-D9", "...", "^flights-(a|b)$", &longest].into_iter().all(legal));
        let too_long = "t".repeat(250);
        assert!(!["", ".", "..", "a b", "a/b", "^", "flüge", &too_long].into_iter().any(legal));
    }
}

//! The attribute's arguments: their names, duplicates, unknown names.

use crate::errors::Errors;
use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{LitInt, LitStr, Path, Token, bracketed, parenthesized};

/// What the attribute says.
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) topics: Vec<LitStr>,
    pub(crate) group: Option<LitStr>,
    pub(crate) name: Option<LitStr>,
    pub(crate) event: Option<LitStr>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) identity: Option<Identity>,
    pub(crate) formerly: Vec<LitStr>,
    pub(crate) tombstones: Option<Tombstones>,
    pub(crate) order: Option<Order>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) guarantee: Option<Guarantee>,
    pub(crate) max_run_records: Option<usize>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) max_elapsed: Option<Duration>,
    pub(crate) backoff: Option<Duration>,
    pub(crate) max_backoff: Option<Duration>,
    pub(crate) dead_letter: Option<LitStr>,
    pub(crate) rejected: Option<LitStr>,
    pub(crate) max_starts: Option<u32>,
}

pub(crate) enum Identity {
    CloudEvents,
    Header(LitStr),
    Function(Path),
    Position,
}

#[derive(Clone, Copy)]
pub(crate) enum Tombstones {
    Handle,
    Skip,
}

#[derive(Clone, Copy)]
pub(crate) enum Guarantee {
    AtLeastOnce,
    AtMostOnceLosingWorkInFlight,
}

#[derive(Clone, Copy)]
pub(crate) enum Order {
    Partition,
    Key,
    None,
}

/// Each argument's name, and how it is written.
const ARGUMENTS: [(&str, &str); 20] = [
    ("topic", r#"`topic = "flights"`, or `topics = ["..", ".."]` for several"#),
    ("topics", r#"`topics = ["flights", "^flights-.*"]`"#),
    ("group", r#"`group = "totals"`"#),
    ("name", r#"`name = "totals"`"#),
    ("event", r#"`event = "flight.departed"`"#),
    ("timeout", r#"`timeout = "30s"`: a whole number with `ms`, `s`, `m` or `h`"#),
    (
        "identity",
        r#"`identity = header("event-id")`, `identity = function(path::to::function)`, `identity = cloudevents` or `identity = position`"#,
    ),
    ("formerly", r#"`formerly = "old_name"`, or `formerly = ["..", ".."]` for several"#),
    ("tombstones", r#"`tombstones = "skip"` or `tombstones = "handle"`"#),
    ("order", r#"`order = "key"`, `order = "none"` or `order = "partition"`"#),
    ("guarantee", r#"`guarantee = "at_least_once"` or `guarantee = "at_most_once_losing_work_in_flight"`"#),
    ("concurrency", "`concurrency = 64`: a whole number of at least 1"),
    ("max_run_records", "`max_run_records = 500`: a whole number of at least 1"),
    ("max_attempts", "`max_attempts = 5`: a whole number of at least 1, the first attempt included"),
    ("max_elapsed", r#"`max_elapsed = "1m"`: a whole number with `ms`, `s`, `m` or `h`"#),
    ("backoff", r#"`backoff = "10ms"`: a whole number with `ms`, `s`, `m` or `h`"#),
    ("max_backoff", r#"`max_backoff = "10s"`: a whole number with `ms`, `s`, `m` or `h`"#),
    ("dead_letter", r#"`dead_letter = "flights.dlq"`, or `dead_letter = "none"`"#),
    ("rejected", r#"`rejected = "flights.rejected"`"#),
    ("max_starts", "`max_starts = 3`: a whole number of at least 1"),
];

impl Args {
    /// Reads the arguments one by one, so that a wrong one hides no other.
    pub(crate) fn parse(attribute: TokenStream, errors: &mut Errors) -> Self {
        let mut args = Self::default();
        let mut given = Given::default();
        for tokens in split_at_commas(attribute) {
            if let Err(error) = args.take(tokens, &mut given) {
                errors.add(error);
            }
        }
        if !given.a_topic {
            let message = r#"which topic? write `#[handler(topic = "flights")]`, or `topics = ["..", ".."]` for several"#;
            errors.add(syn::Error::new(Span::call_site(), message));
        }
        args
    }

    /// The handler's name: its own, or the function's.
    pub(crate) fn name(&self, function: &Ident) -> String {
        self.name.as_ref().map_or_else(|| function.unraw().to_string(), LitStr::value)
    }

    /// Checks what depends on the function's name.
    pub(crate) fn check(&self, function: &Ident, errors: &mut Errors) {
        let name = self.name(function);
        for formerly in self.formerly.iter().filter(|formerly| formerly.value() == name) {
            errors.push(
                formerly,
                format!(
                    "`{name}` is the name that the handler has now; `formerly` takes a name it had before"
                ),
            );
        }
    }

    fn take(&mut self, tokens: TokenStream, given: &mut Given) -> syn::Result<()> {
        let Setting { name, value } = syn::parse2(tokens)?;
        let Some((known, form)) = ARGUMENTS.into_iter().find(|(known, _)| name == known) else {
            let meant = nearest(&name.to_string());
            given.a_topic |= meant.is_some_and(is_topic);
            return Err(unknown(&name, meant));
        };
        given.note(&name, known)?;
        let value = Value { name, tokens: value, form };
        match known {
            "topic" => self.topics = vec![value.topic()?],
            "topics" => self.topics = value.topics()?,
            "group" => self.group = Some(value.text()?),
            "name" => self.name = Some(value.text()?),
            "event" => self.event = Some(value.text()?),
            "timeout" => self.timeout = Some(value.duration()?),
            "identity" => self.identity = Some(value.identity()?),
            "formerly" => self.formerly.extend(value.texts()?),
            "tombstones" => self.tombstones = Some(value.tombstones()?),
            "order" => self.order = Some(value.order()?),
            "guarantee" => self.guarantee = Some(value.guarantee()?),
            "concurrency" => self.concurrency = Some(value.count()?),
            "max_run_records" => self.max_run_records = Some(value.count()?),
            "max_attempts" => self.max_attempts = Some(value.count()?),
            "max_elapsed" => self.max_elapsed = Some(value.duration()?),
            "backoff" => self.backoff = Some(value.duration()?),
            "max_backoff" => self.max_backoff = Some(value.duration()?),
            "dead_letter" => self.dead_letter = Some(value.topic_name()?),
            "rejected" => self.rejected = Some(value.topic_name()?),
            "max_starts" => self.max_starts = Some(value.count()?),
            _ => unreachable!("`{known}` is in ARGUMENTS"),
        }
        Ok(())
    }
}

/// Which arguments were there before.
#[derive(Default)]
struct Given {
    names: Vec<&'static str>,
    /// Also where its name is misspelled, which is one mistake and not a missing
    /// topic too.
    a_topic: bool,
}

impl Given {
    fn note(&mut self, name: &Ident, known: &'static str) -> syn::Result<()> {
        let twice = self.names.contains(&known) && known != "formerly";
        let topics_twice = is_topic(known) && self.a_topic;
        self.names.push(known);
        self.a_topic |= is_topic(known);
        if topics_twice {
            let message = "the topics are given twice; write `topics = [\"..\", \"..\"]` with all of them";
            return Err(error(name, message));
        }
        if twice {
            return Err(error(name, format!("`{known}` is given twice")));
        }
        Ok(())
    }
}

fn is_topic(name: &str) -> bool {
    matches!(name, "topic" | "topics")
}

/// `name = value`, or a part of it.
struct Setting {
    name: Ident,
    value: TokenStream,
}

impl Parse for Setting {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error(format!("expected `name = value`; {}", allowed())));
        }
        let name = input.call(Ident::parse_any)?;
        if input.peek(Token![=]) && !input.peek(Token![==]) {
            input.parse::<Token![=]>()?;
            return Ok(Self { name, value: input.parse()? });
        }
        input.parse::<TokenStream>()?;
        // No argument takes an empty value, so its own message says what it takes.
        Ok(Self { name, value: TokenStream::new() })
    }
}

/// The value of an argument that there is.
struct Value {
    name: Ident,
    tokens: TokenStream,
    form: &'static str,
}

impl Value {
    fn text(&self) -> syn::Result<LitStr> {
        nonempty(self.read(<LitStr as Parse>::parse)?)
    }

    /// One text, or a list of texts.
    fn texts(&self) -> syn::Result<Vec<LitStr>> {
        if syn::parse2::<LitStr>(self.tokens.clone()).is_ok() {
            return Ok(vec![self.text()?]);
        }
        self.list()?.into_iter().map(nonempty).collect()
    }

    fn topic(&self) -> syn::Result<LitStr> {
        legal_topic(self.read(<LitStr as Parse>::parse)?)
    }

    /// A topic that is written to, so no pattern.
    fn topic_name(&self) -> syn::Result<LitStr> {
        let topic = self.topic()?;
        if topic.value().starts_with('^') { Err(self.wrong()) } else { Ok(topic) }
    }

    fn topics(&self) -> syn::Result<Vec<LitStr>> {
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
        errors.into_result().map(|()| topics)
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

    fn duration(&self) -> syn::Result<Duration> {
        let text = self.read(<LitStr as Parse>::parse)?;
        parse_duration(&text.value()).ok_or_else(|| self.wrong())
    }

    fn identity(&self) -> syn::Result<Identity> {
        let identity = self.read(|input| {
            let kind: Ident = input.parse()?;
            match kind.to_string().as_str() {
                "cloudevents" => return Ok(Identity::CloudEvents),
                "position" => return Ok(Identity::Position),
                _ => {}
            }
            let content;
            parenthesized!(content in input);
            match kind.to_string().as_str() {
                "header" => content.parse().map(Identity::Header),
                "function" => content.parse().map(Identity::Function),
                _ => Err(content.error("no kind of identity")),
            }
        })?;
        match identity {
            Identity::Header(header) => nonempty(header).map(Identity::Header),
            other => Ok(other),
        }
    }

    fn tombstones(&self) -> syn::Result<Tombstones> {
        match self.read(<LitStr as Parse>::parse)?.value().as_str() {
            "skip" => Ok(Tombstones::Skip),
            "handle" => Ok(Tombstones::Handle),
            _ => Err(self.wrong()),
        }
    }

    fn guarantee(&self) -> syn::Result<Guarantee> {
        match self.read(<LitStr as Parse>::parse)?.value().as_str() {
            "at_least_once" => Ok(Guarantee::AtLeastOnce),
            "at_most_once_losing_work_in_flight" => Ok(Guarantee::AtMostOnceLosingWorkInFlight),
            _ => Err(self.wrong()),
        }
    }

    fn order(&self) -> syn::Result<Order> {
        match self.read(<LitStr as Parse>::parse)?.value().as_str() {
            "partition" => Ok(Order::Partition),
            "key" => Ok(Order::Key),
            "none" => Ok(Order::None),
            _ => Err(self.wrong()),
        }
    }

    fn count<N: FromStr<Err: Display> + Default + PartialEq>(&self) -> syn::Result<N> {
        let number = self.read(<LitInt as Parse>::parse)?;
        number.base10_parse().ok().filter(|number| *number != N::default()).ok_or_else(|| self.wrong())
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

fn error(tokens: impl quote::ToTokens, message: impl Display) -> syn::Error {
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

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

/// The arguments, each as its own tokens. A comma at the end is allowed.
fn split_at_commas(tokens: TokenStream) -> Vec<TokenStream> {
    let mut arguments = vec![TokenStream::new()];
    for token in tokens {
        match &token {
            TokenTree::Punct(comma) if comma.as_char() == ',' => arguments.push(TokenStream::new()),
            _ => arguments.last_mut().expect("it begins with one").extend([token]),
        }
    }
    arguments.retain(|argument| !argument.is_empty());
    arguments
}

fn unknown(name: &Ident, meant: Option<&str>) -> syn::Error {
    let meant = meant.map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
    error(name, format!("no argument is called `{name}`; {meant}{}", allowed()))
}

fn allowed() -> String {
    let names: Vec<_> = ARGUMENTS.iter().map(|(name, _)| format!("`{name}`")).collect();
    format!("there are {}", names.join(", "))
}

/// The argument that is likely to be meant: at most a third of it is wrong.
fn nearest(name: &str) -> Option<&'static str> {
    let near = ARGUMENTS.iter().map(|(known, _)| (edits(name, known), *known));
    near.min().filter(|(edits, known)| *edits <= known.len().div_ceil(3)).map(|(_, known)| known)
}

/// How many letters to add, drop or change to make `to` of `from`.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn parse(attribute: TokenStream) -> (Args, Vec<String>) {
        let mut errors = Errors::default();
        let args = Args::parse(attribute, &mut errors);
        let messages = errors.into_result().err().into_iter().flatten().map(|error| error.to_string());
        (args, messages.collect())
    }

    fn values(texts: &[LitStr]) -> Vec<String> {
        texts.iter().map(LitStr::value).collect()
    }

    #[test]
    fn every_argument_is_read() {
        let (args, messages) = parse(quote! {
            topics = ["flights", "^flights-.*"],
            group = "totals",
            name = "totals",
            event = "flight.departed",
            timeout = "2m",
            identity = function(crate::identity_of),
            formerly = "sums",
            formerly = ["plane_sums", "distances"],
            tombstones = "skip",
            max_run_records = 500,
            max_attempts = 5,
            max_elapsed = "1m",
            backoff = "10ms",
            max_backoff = "10s",
            dead_letter = "flights.dead",
            rejected = "flights.rejected",
            max_starts = 2,
            order = "key",
            concurrency = 8,
        });
        assert_eq!(messages, [""; 0]);
        assert_eq!(values(&args.topics), ["flights", "^flights-.*"]);
        assert_eq!(args.group.map(|group| group.value()).as_deref(), Some("totals"));
        assert_eq!(args.event.map(|event| event.value()).as_deref(), Some("flight.departed"));
        assert_eq!(args.timeout, Some(Duration::from_secs(120)));
        assert!(matches!(args.identity, Some(Identity::Function(_))));
        assert_eq!(values(&args.formerly), ["sums", "plane_sums", "distances"]);
        assert!(matches!(args.tombstones, Some(Tombstones::Skip)));
        assert_eq!(args.max_run_records, Some(500));
        assert_eq!((args.max_attempts, args.max_starts), (Some(5), Some(2)));
        assert!(matches!((args.order, args.concurrency), (Some(Order::Key), Some(8))));
        assert_eq!(args.max_elapsed, Some(Duration::from_secs(60)));
        let backoff = [args.backoff, args.max_backoff].map(|delay| delay.map(|delay| delay.as_millis()));
        assert_eq!(backoff, [Some(10), Some(10_000)]);
        let letters = [args.dead_letter, args.rejected].map(|topic| topic.map(|topic| topic.value()));
        assert_eq!(letters, [Some("flights.dead".to_owned()), Some("flights.rejected".to_owned())]);
    }

    #[test]
    fn a_wrong_argument_hides_no_other() {
        let (args, messages) =
            parse(quote!(topic = "flights", group = 5, "x", timeout = "1 s", group = "a", max));
        assert_eq!(values(&args.topics), ["flights"]);
        assert_eq!(messages.len(), 5);
        assert_eq!(messages[0], r#"expected `group = "totals"`"#);
        assert!(messages[1].starts_with("expected `name = value`; there are `topic`, "));
        assert!(messages[2].starts_with(r#"expected `timeout = "30s"`: "#));
        assert_eq!(messages[3], "`group` is given twice");
        assert!(messages[4].starts_with("no argument is called `max`; there are `topic`, "));
    }

    #[test]
    fn a_number_of_records_is_whole_and_not_zero() {
        for number in
            [quote!(0), quote!(-1), quote!(1.5), quote!("5"), quote!(99999999999999999999), quote!(LIMIT)]
        {
            let (args, messages) = parse(quote!(topic = "flights", max_run_records = #number));
            assert_eq!((args.max_run_records, messages.len()), (None, 1), "{number}");
        }
    }

    #[test]
    fn a_duration_has_a_unit() {
        for (text, milliseconds) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000)] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "30",
            "s",
            "0s",
            "-1s",
            "1.5s",
            "1 s",
            "1d",
            "1s ",
            "1min",
            "99999999999999999999s",
            "9999999999999999999h",
        ] {
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

    #[test]
    fn a_misspelled_name_is_understood() {
        for (name, meant) in [
            ("gruop", "group"),
            ("topc", "topic"),
            ("Timeout", "timeout"),
            ("max_records", "max_run_records"),
        ] {
            assert_eq!(nearest(name), Some(meant), "{name}");
        }
        for name in ["retries", "x", "schema_registry"] {
            assert_eq!(nearest(name), None, "{name}");
        }
    }
}

//! The attribute's arguments: their names, duplicates, unknown names.

mod nearest;
mod table;
mod value;

use crate::errors::Errors;
use nearest::nearest;
use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{LitStr, Token};
use table::{ARGUMENTS, Row};
use value::{Value, error};

/// What the attribute says.
#[derive(Default)]
pub(crate) struct Args {
    /// Arguments with their values, each by its place in the table.
    given: Vec<(usize, Vec<TokenStream>)>,
}

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
        let own = self.texts("name").next();
        own.map_or_else(|| function.unraw().to_string(), |name| name.value())
    }

    /// The settings as code, in the order of the table.
    pub(crate) fn settings(&self, function: &Ident) -> TokenStream {
        let name = self.name(function);
        let mut given: Vec<_> = self.given.iter().collect();
        given.sort_by_key(|(place, _)| *place);
        let calls = given.into_iter().flat_map(|(place, values)| {
            let setter = ARGUMENTS[*place].setter.map(|setter| Ident::new(setter, Span::call_site()));
            setter
                .into_iter()
                .flat_map(move |setter| values.iter().map(move |value| quote!(.#setter(#value))))
        });
        quote!(::onceward::__private::Settings::new(#name) #(#calls)*)
    }

    /// Checks what depends on the function's name.
    pub(crate) fn check(&self, function: &Ident, errors: &mut Errors) {
        let name = self.name(function);
        for formerly in self.texts("formerly").filter(|formerly| formerly.value() == name) {
            errors.push(
                &formerly,
                format!(
                    "`{name}` is the name that the handler has now; `formerly` takes a name it had before"
                ),
            );
        }
    }

    /// The texts that an argument was given.
    fn texts(&self, argument: &str) -> impl Iterator<Item = LitStr> {
        let values = self.given.iter().filter(move |(place, _)| ARGUMENTS[*place].name == argument);
        values.flat_map(|(_, values)| values).filter_map(|value| syn::parse2(value.clone()).ok())
    }

    fn take(&mut self, tokens: TokenStream, given: &mut Given) -> syn::Result<()> {
        let Setting { name, value } = syn::parse2(tokens)?;
        let Some(place) = ARGUMENTS.iter().position(|known| name == known.name) else {
            let meant = nearest(&name.to_string());
            given.a_topic |= meant.is_some_and(is_topic);
            return Err(unknown(&name, meant));
        };
        let Row { name: known, form, read, .. } = &ARGUMENTS[place];
        given.note(&name, known)?;
        self.given.push((place, read(&Value { name, tokens: value, form })?));
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
    let names: Vec<_> = ARGUMENTS.iter().map(|argument| format!("`{}`", argument.name)).collect();
    format!("there are {}", names.join(", "))
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

    fn settings(args: &Args) -> String {
        args.settings(&Ident::new("f", Span::call_site())).to_string().replace(' ', "")
    }

    /// The examples in the messages, of which each is right.
    #[test]
    fn every_argument_can_be_written_as_its_message_says() {
        for Row { name, form, setter, .. } in ARGUMENTS {
            let examples = form.split('`').filter(|example| example.contains(" = "));
            for example in examples {
                let example = example.replacen("..", "one", 1).replacen("..", "other", 1);
                let topic = if example.starts_with("topic") { "" } else { "topic = \"t\", " };
                let (args, messages) = parse(format!("{topic}{example}").parse().unwrap());
                assert_eq!(messages, [""; 0], "{example}");
                let setter = setter.map_or("new(\"totals\")".to_owned(), |setter| format!(".{setter}("));
                assert!(settings(&args).contains(&setter), "{name}: {}", settings(&args));
            }
        }
    }

    #[test]
    fn values_are_set_as_they_are_given() {
        let (args, messages) = parse(quote! {
            formerly = "sums",
            identity = function(crate::identity_of),
            topics = ["flights", "^flights-.*"],
            timeout = "2m",
            formerly = ["plane_sums", "distances"],
            max_starts = 2,
            order = "key",
        });
        assert_eq!(messages, [""; 0]);
        assert_eq!(
            settings(&args),
            quote! {
                ::onceward::__private::Settings::new("f")
                    .topic("flights")
                    .topic("^flights-.*")
                    .timeout(::core::time::Duration::from_millis(120000u64))
                    .identity(::onceward::__private::IdentitySource::function(crate::identity_of))
                    .formerly("sums")
                    .formerly("plane_sums")
                    .formerly("distances")
                    .order(::onceward::__private::Order::Key)
                    .max_starts(2u32)
            }
            .to_string()
            .replace(' ', "")
        );
    }

    #[test]
    fn a_wrong_argument_hides_no_other() {
        let (args, messages) =
            parse(quote!(topic = "flights", group = 5, "x", timeout = "1 x", group = "a", max));
        assert!(settings(&args).ends_with(".topic(\"flights\")"), "{}", settings(&args));
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
            assert_eq!(messages.len(), 1, "{number}");
            assert!(!settings(&args).contains("max_run_records"), "{number}");
        }
    }
}

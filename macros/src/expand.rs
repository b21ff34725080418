//! The function and its arguments as code.

use crate::args::Args;
use crate::errors::Errors;
use crate::model::{Argument, HandlerFn, Kind};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{Index, Lifetime, Type, TypeReference};

/// Leaves the function as it is, and a type of the same name beside it.
pub(crate) fn handler(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = Args::parse(attribute, &mut errors);
    let function = HandlerFn::parse(item.clone(), &mut errors);
    let beside = function.map(|function| {
        args.check(&function.name, &mut errors);
        let marker = marker(&function);
        let implementation =
            if errors.is_empty() { implementation(&args, &function) } else { placeholder(&function) };
        quote!(#marker #implementation)
    });
    quote!(#item #beside #errors)
}

/// The type. It has braces because a type with them takes no name among values,
/// where the function has it.
fn marker(function: &HandlerFn) -> TokenStream {
    let HandlerFn { cfgs, visibility, name, .. } = function;
    let doc = format!(" The handler that `#[handler]` made of [`fn@{}`].", name.unraw());
    quote! {
        #[doc = #doc]
        #(#cfgs)*
        #[allow(non_camel_case_types)]
        #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug)]
        #visibility struct #name {}
    }
}

fn implementation(args: &Args, function: &HandlerFn) -> TokenStream {
    let HandlerFn { cfgs, name, .. } = function;
    let (batch, transaction) = (function.is_batch(), function.takes_transaction());
    let settings = args.settings(name);
    let taken = function.arguments.iter().filter_map(Argument::field);
    let extract = function.arguments.iter().filter_map(Argument::extract);
    let check = function.arguments.iter().filter_map(Argument::check);
    let call = call(function);
    let fallible = function.has_result;
    let refusals = transaction.then(|| function.arguments.iter().filter_map(Argument::refuse_publishing));
    let refusals = refusals.into_iter().flatten();
    quote! {
        #(#cfgs)*
        const _: () = {
            #(#refusals)*

            pub struct __Args<'a>(#(#taken,)* ::core::marker::PhantomData<&'a ()>);

            impl ::onceward::__private::Handler for #name {
                type Args<'a> = __Args<'a>;

                const BATCH: bool = #batch;
                const TRANSACTION: bool = #transaction;
                const FALLIBLE: bool = #fallible;

                fn settings(&self) -> ::onceward::__private::Settings {
                    #settings
                }

                fn extract<'a>(
                    &'a self,
                    run: ::onceward::__private::Run<'a>,
                    context: &'a ::onceward::__private::Context,
                ) -> ::core::result::Result<Self::Args<'a>, ::onceward::__private::Rejected> {
                    ::core::result::Result::Ok(__Args(#(#extract,)* ::core::marker::PhantomData))
                }

                #call

                fn check(
                    &self,
                    context: &::onceward::__private::Context,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    #(#check;)*
                    ::core::result::Result::Ok(())
                }
            }
        };
    }
}

/// The call of the user's function. What the compiler has to say of the result,
/// it says at the result's type.
fn call(function: &HandlerFn) -> TokenStream {
    let HandlerFn { name, result, .. } = function;
    // Named so that they hide no function of the user.
    let (args, delivery) =
        (Ident::new("args", Span::mixed_site()), Ident::new("delivery", Span::mixed_site()));
    let mut fields = (0..).map(Index::from);
    let values = function.arguments.iter().map(|argument| match argument.kind {
        Kind::Tx => quote!(#delivery.into_tx()),
        _ => {
            let field = fields.next();
            quote!(#args.#field)
        }
    });
    let into_handled = match function.takes_transaction() {
        true => quote_spanned!(at(result)=> IntoHandledInTransaction::into_handled_in_transaction),
        false => quote_spanned!(at(result)=> IntoHandled::into_handled),
    };
    let handled = quote_spanned! {at(result)=>
        |result| ::onceward::__private::#into_handled(result)
    };
    quote_spanned! {at(name)=>
        #[inline(always)]
        fn call<'a, 'r: 'a>(
            &'a self,
            #args: Self::Args<'r>,
            #delivery: ::onceward::__private::Delivery<'a>,
        ) -> impl ::core::future::Future<
            Output = ::onceward::__private::HandlerResult<::onceward::__private::Handled>,
        > + ::core::marker::Send + 'a {
            ::onceward::__private::FutureExt::map(#name(#(#values),*), #handled)
        }
    }
}

impl Argument {
    /// The type of its field in the arguments.
    fn field(&self) -> Option<Type> {
        let mut ty = self.ty.clone();
        NameLifetimes.visit_type_mut(&mut ty);
        (!matches!(self.kind, Kind::Tx)).then_some(ty)
    }

    fn extract(&self) -> Option<TokenStream> {
        let function = match self.kind {
            Kind::Batch(_) => quote!(extract_each),
            _ => quote!(extract),
        };
        self.call(&quote!(#function(run, context)))
    }

    /// In a handler that takes a transaction: refuses an extractor that publishes.
    fn refuse_publishing(&self) -> Option<TokenStream> {
        let extractor = self.extractor()?;
        Some(quote_spanned! {at(extractor)=>
            const _: () = ::core::assert!(
                !<#extractor as ::onceward::__private::Argument>::PUBLISHES,
                "a handler with a transaction cannot publish directly: sent after COMMIT, a crash loses the record; sent \
                 before it, a rollback leaves a ghost. Write it to an outbox table in the transaction"
            );
        })
    }

    fn check(&self) -> Option<TokenStream> {
        self.call(&quote!(check(context)))
    }

    /// A call of a function of its extractor. Where that is none, the compiler says
    /// so at its type.
    fn call(&self, call: &TokenStream) -> Option<TokenStream> {
        let extractor = self.extractor()?;
        Some(quote_spanned!(at(extractor)=> <#extractor as ::onceward::__private::Argument>::#call?))
    }

    fn extractor(&self) -> Option<&Type> {
        match &self.kind {
            Kind::Tx => None,
            Kind::Extractor => Some(&self.ty),
            Kind::Batch(item) => Some(item),
        }
    }
}

/// Where these tokens stand. Names in code that is put there mean what they mean
/// in the rest of the generated code, also where a `macro_rules` made the tokens.
fn at(tokens: &impl ToTokens) -> Span {
    tokens.span().resolved_at(Span::call_site())
}

/// Names the elided lifetimes `'a`.
struct NameLifetimes;

impl VisitMut for NameLifetimes {
    fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
        let and = reference.and_token;
        reference.lifetime.get_or_insert_with(|| Lifetime::new("'a", and.spans[0]));
        visit_mut::visit_type_reference_mut(self, reference);
    }

    fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
        if lifetime.ident == "_" {
            *lifetime = Lifetime::new("'a", lifetime.span());
        }
    }

    // Inside `fn(&T)` and `Fn(&T)` an elided lifetime means any.
    fn visit_type_bare_fn_mut(&mut self, _: &mut syn::TypeBareFn) {}

    fn visit_parenthesized_generic_arguments_mut(&mut self, _: &mut syn::ParenthesizedGenericArguments) {}
}

/// What stands in for a handler after an error, so that its use elsewhere makes
/// no second message.
fn placeholder(function: &HandlerFn) -> TokenStream {
    let HandlerFn { cfgs, name, .. } = function;
    quote! {
        #(#cfgs)*
        impl ::onceward::__private::Handler for #name {
            type Args<'a> = ();

            fn settings(&self) -> ::onceward::__private::Settings {
                ::core::unreachable!()
            }

            fn extract<'a>(
                &'a self,
                _: ::onceward::__private::Run<'a>,
                _: &'a ::onceward::__private::Context,
            ) -> ::core::result::Result<(), ::onceward::__private::Rejected> {
                ::core::unreachable!()
            }

            async fn call<'a, 'r: 'a>(
                &'a self,
                _: (),
                _: ::onceward::__private::Delivery<'a>,
            ) -> ::onceward::__private::HandlerResult<::onceward::__private::Handled> {
                ::core::unreachable!()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expansion as rustfmt would write it.
    fn expanded(attribute: TokenStream, item: TokenStream) -> String {
        prettyplease::unparse(&syn::parse2(handler(attribute, item)).unwrap())
    }

    /// Set `UPDATE_SNAPSHOT` to write what is generated now.
    #[test]
    fn the_generated_code_is_the_one_in_the_snapshot() {
        const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/snapshots/on_flight.rs");
        const ATTRIBUTE: &str = r#"topic = "flights", group = "totals", timeout = "30s", formerly = "sums""#;
        let generated = expanded(
            ATTRIBUTE.parse().unwrap(),
            quote! {
                /// Adds a departure to its plane's totals, once.
                pub(crate) async fn on_flight(
                    Json(flight): Json<Flight<'_>>,
                    tx: &mut Tx,
                    Key(tailnum): Key<&str>,
                ) -> HandlerResult {
                    tx.add(tailnum, flight.distance).await
                }
            },
        );
        let generated = format!("// What `#[handler({ATTRIBUTE})]` leaves.\n\n{generated}");
        if std::env::var_os("UPDATE_SNAPSHOT").is_some() {
            std::fs::write(PATH, &generated).unwrap();
        }
        let snapshot = std::fs::read_to_string(PATH).unwrap();
        let differs = generated.lines().zip(snapshot.lines()).position(|(now, then)| now != then);
        let line = differs.unwrap_or_else(|| generated.lines().count().min(snapshot.lines().count()));
        let from = |text: &str| text.lines().skip(line).take(8).collect::<Vec<_>>().join("\n");
        assert!(
            generated == snapshot,
            "from line {} on the generated code is now\n\n{}\n\nand not\n\n{}\n\n\
             If it should be, run the test once with UPDATE_SNAPSHOT=1.",
            line + 1,
            from(&generated),
            from(&snapshot),
        );
    }

    #[test]
    fn the_function_stays_as_it_is_whatever_is_wrong() {
        let item = quote! {
            /// Kept.
            #[inline]
            fn f<T>(self) { what ever => ?! }
        };
        let generated = handler(quote!(), item.clone()).to_string();
        assert!(generated.starts_with(&item.to_string()));
        assert!(generated.contains("compile_error"));
    }

    #[test]
    fn a_handler_with_a_mistake_is_one_all_the_same() {
        let generated = expanded(
            quote!(topic = ""),
            quote!(
                async fn f(tx: &Tx) {}
            ),
        );
        assert_eq!(generated.matches("compile_error").count(), 2);
        assert_eq!(generated.matches("::onceward::__private::Handler for f {").count(), 1);
    }

    #[test]
    fn what_is_left_out_of_a_build_leaves_nothing_behind() {
        for attribute in [quote!(topic = "flights"), quote!()] {
            let generated = expanded(
                attribute,
                quote!(
                    #[cfg(feature = "x")]
                    async fn f() {}
                ),
            );
            assert_eq!(generated.matches("#[cfg(feature = \"x\")]").count(), 3);
        }
    }

    #[test]
    fn elided_lifetimes_are_named_where_they_stand_for_the_record() {
        let named = |mut ty: Type| {
            NameLifetimes.visit_type_mut(&mut ty);
            ty.into_token_stream().to_string().replace(' ', "")
        };
        assert_eq!(named(syn::parse_quote!(Json<(&str, Flight<'_>)>)), "Json<(&'astr,Flight<'a>)>");
        assert_eq!(named(syn::parse_quote!(&'static str)), "&'staticstr");
        assert_eq!(named(syn::parse_quote!(State<fn(&str)>)), "State<fn(&str)>");
        assert_eq!(
            named(syn::parse_quote!(State<Box<dyn Fn(&str) -> &str>>)),
            "State<Box<dynFn(&str)->&str>>"
        );
    }
}

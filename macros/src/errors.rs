//! Collects errors, so that all are reported at once.

use proc_macro2::TokenStream;
use quote::ToTokens;
use std::fmt::Display;

#[derive(Default)]
pub(crate) struct Errors {
    told: Option<syn::Error>,
    left_to_compiler: bool,
}

impl Errors {
    /// Adds an error at these tokens.
    pub(crate) fn push(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.add(syn::Error::new_spanned(tokens, message));
    }

    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.told {
            Some(errors) => errors.combine(error),
            none => *none = Some(error),
        }
    }

    /// Notes what the compiler says of the function itself, so that it is not said
    /// of the generated code too.
    pub(crate) fn leave_to_compiler(&mut self) {
        self.left_to_compiler = true;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_none() && !self.left_to_compiler
    }

    /// `Err` with all that was told, if there is anything.
    pub(crate) fn into_result(self) -> syn::Result<()> {
        self.told.map_or(Ok(()), Err)
    }
}

impl ToTokens for Errors {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.told.as_ref().map(syn::Error::to_compile_error));
    }
}

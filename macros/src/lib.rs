//! `#[handler]`, `#[derive(ReadsAvro)]` and `#[derive(ReaderSchema)]` of Onceward. Use them through the crate `onceward`, where they are
//! documented.
//!
//! A handler's expansion is four small steps, in four files: the attribute's arguments
//! (`args`), the function and its checks (`model`), the generated code (`expand`),
//! and what was wrong (`errors`).

mod args;
mod errors;
mod expand;
mod model;
mod reads_avro;

use proc_macro::TokenStream;

// Documented where it is re-exported, so that its examples compile.
#[allow(missing_docs)]
#[proc_macro_attribute]
pub fn handler(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::handler(attribute.into(), item.into()).into()
}

#[allow(missing_docs)]
#[proc_macro_derive(ReadsAvro, attributes(avro_schema))]
pub fn reads_avro(input: TokenStream) -> TokenStream {
    reads_avro::derive(input.into()).into()
}

#[allow(missing_docs)]
#[proc_macro_derive(ReaderSchema, attributes(reader_schema))]
pub fn reader_schema(input: TokenStream) -> TokenStream {
    reads_avro::derive_reader(input.into()).into()
}

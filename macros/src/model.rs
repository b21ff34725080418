//! The parts of the function, and the check whether it can be a handler.

use crate::errors::Errors;
use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::visit::{self, Visit};
use syn::{
    Attribute, FnArg, GenericArgument, GenericParam, Generics, Ident, PathArguments, PathSegment, ReturnType,
    Signature, Type, TypeImplTrait, TypeParamBound, TypeTraitObject, Visibility, parse_quote,
};

/// The user's function, without its body.
pub(crate) struct HandlerFn {
    /// Without them the generated code would outlive the function.
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) name: Ident,
    pub(crate) arguments: Vec<Argument>,
    /// The type of its result, else its name: where to say that it is no result.
    pub(crate) result: TokenStream,
    /// Whether it returns anything, and so could return an error.
    pub(crate) has_result: bool,
}

/// One argument of the function.
pub(crate) struct Argument {
    pub(crate) ty: Type,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    /// The record's transaction.
    Tx,
    /// Taken from the record, or, like `State`, from the application.
    Extractor,
    /// The whole run, and what each of its records is taken as.
    Batch(Box<Type>),
}

impl HandlerFn {
    /// Reads the function. `None` where there is no function to make a handler of.
    pub(crate) fn parse(item: TokenStream, errors: &mut Errors) -> Option<Self> {
        let Header { attributes, visibility, signature } = match syn::parse2(item) {
            Ok(header) => header,
            Err(error) => {
                errors.add(error);
                return None;
            }
        };
        if let Some(second) = attributes.iter().find(|attribute| is_handler(attribute)) {
            errors.push(
                second,
                "a function is one handler; for several topics write `topics = [\"..\", \"..\"]`",
            );
            return None;
        }
        if let Some(receiver) = signature.receiver() {
            errors.push(
                receiver,
                "a handler is a free function; what it shares with others it takes as `State<T>`",
            );
            return None;
        }
        check_qualifiers(&signature, errors);
        check_generics(&signature.generics, errors);
        let arguments = arguments(&signature, errors);
        check_result(&signature.output, has(&arguments, Argument::is_batch), errors);
        Some(Self {
            cfgs: attributes.into_iter().filter(|attribute| attribute.path().is_ident("cfg")).collect(),
            visibility,
            has_result: !matches!(signature.output, ReturnType::Default),
            result: match signature.output {
                ReturnType::Default => signature.ident.to_token_stream(),
                ReturnType::Type(_, result) => result.into_token_stream(),
            },
            name: signature.ident,
            arguments,
        })
    }

    pub(crate) fn is_batch(&self) -> bool {
        has(&self.arguments, Argument::is_batch)
    }

    pub(crate) fn takes_transaction(&self) -> bool {
        has(&self.arguments, Argument::is_tx)
    }
}

impl Argument {
    /// Classifies it by the last name of its type's path.
    fn new(ty: Type, errors: &mut Errors) -> Self {
        if let Some(found) = ImplTrait::find(&ty) {
            errors.push(found, "a handler cannot be generic, so it takes no `impl Trait`: name the type");
        }
        let kind = match last_segment(&ty) {
            _ if is_transaction(&ty, errors) => Kind::Tx,
            Some(last) if last.ident == "Batch" => Kind::Batch(Box::new(item_of(last, errors))),
            _ => Kind::Extractor,
        };
        Self { ty, kind }
    }

    fn is_tx(&self) -> bool {
        matches!(self.kind, Kind::Tx)
    }

    fn is_batch(&self) -> bool {
        matches!(self.kind, Kind::Batch(_))
    }

    fn is_state(&self) -> bool {
        last_segment(&self.ty).is_some_and(|last| last.ident == "State")
    }
}

fn is_transaction(ty: &Type, errors: &mut Errors) -> bool {
    let (referred, is_mutable) = match bare(ty) {
        Type::Reference(reference) => (&*reference.elem, reference.mutability.is_some()),
        ty => (ty, false),
    };
    let is_transaction = last_segment(referred).is_some_and(|last| last.ident == "Tx");
    if is_transaction && !is_mutable {
        errors.push(ty, "the transaction is taken as `&mut Tx`");
    }
    is_transaction
}

/// The `E` of `Batch<E>`.
fn item_of(batch: &PathSegment, errors: &mut Errors) -> Type {
    if let PathArguments::AngleBracketed(arguments) = &batch.arguments {
        let mut types = arguments.args.iter();
        if let (Some(GenericArgument::Type(item)), None) = (types.next(), types.next()) {
            return item.clone();
        }
    }
    errors.leave_to_compiler();
    parse_quote!(_)
}

fn has(arguments: &[Argument], what: fn(&Argument) -> bool) -> bool {
    arguments.iter().any(what)
}

/// The function up to its body, which is never parsed.
struct Header {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    signature: Signature,
}

impl Parse for Header {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let next = input.fork().call(Ident::parse_any).map(|word| word.to_string());
        if !matches!(next.as_deref(), Ok("async" | "const" | "unsafe" | "extern" | "fn")) {
            return Err(input.error("`#[handler]` stands on an `async fn`"));
        }
        let signature = input.parse()?;
        input.parse::<TokenStream>()?;
        Ok(Self { attributes, visibility, signature })
    }
}

fn is_handler(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == "handler")
}

fn check_qualifiers(signature: &Signature, errors: &mut Errors) {
    match (&signature.asyncness, &signature.constness) {
        // The compiler itself refuses `const async`.
        (Some(_), _) => {}
        (None, Some(constness)) => errors.push(constness, "a handler cannot be `const`; it is an `async fn`"),
        (None, None) => errors.push(signature.fn_token, "a handler is an `async fn`"),
    }
    if let Some(unsafety) = &signature.unsafety {
        errors.push(unsafety, "a handler cannot be `unsafe`: Onceward calls it as a safe function");
    }
    if let Some(abi) = &signature.abi {
        errors.push(abi, "a handler cannot be `extern`: it is called from Rust only");
    }
}

fn check_generics(generics: &Generics, errors: &mut Errors) {
    let is_lifetime = |parameter: &GenericParam| matches!(parameter, GenericParam::Lifetime(_));
    if !generics.params.iter().all(is_lifetime) {
        errors.push(generics, "a handler cannot be generic: name the types that it takes");
    } else if !generics.params.is_empty() {
        errors.push(generics, "a handler has no lifetime parameters: write `&str` or `Headers<'_>`");
    } else if let Some(bounds) = &generics.where_clause {
        errors.push(bounds, "a handler has no `where` clause: name the types that it takes");
    }
}

fn arguments(signature: &Signature, errors: &mut Errors) -> Vec<Argument> {
    let types = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(argument) => Some((*argument.ty).clone()),
        FnArg::Receiver(_) => None,
    });
    let arguments: Vec<_> = types.map(|ty| Argument::new(ty, errors)).collect();
    for second in arguments.iter().filter(|argument| argument.is_tx()).skip(1) {
        errors.push(&second.ty, "a handler takes `&mut Tx` once: there is one transaction");
    }
    for second in arguments.iter().filter(|argument| argument.is_batch()).skip(1) {
        errors.push(
            &second.ty,
            "a handler takes `Batch<E>` once; to take more of each record, `E` is a tuple: \
             `Batch<(Key<String>, Json<T>)>`",
        );
    }
    if has(&arguments, Argument::is_batch) {
        check_beside_batch(&arguments, errors);
    }
    arguments
}

fn check_beside_batch(arguments: &[Argument], errors: &mut Errors) {
    for argument in arguments.iter().filter(|argument| matches!(argument.kind, Kind::Extractor)) {
        if !argument.is_state() {
            errors.push(
                &argument.ty,
                "beside `Batch<E>` a handler takes `State<T>` and `&mut Tx`; what is taken of each record \
                 goes into `E`: `Batch<(Key<String>, Json<T>)>`",
            );
        }
    }
}

fn check_result(output: &ReturnType, is_batch: bool, errors: &mut Errors) {
    let ReturnType::Type(_, result) = output else { return };
    if !is_batch && last_segment(result).is_some_and(|last| last.ident == "Vec") {
        errors.push(
            result,
            "one result a record is what a batch handler returns: take `Batch<E>`, or return `HandlerResult`",
        );
    }
    if let Some(found) = LocalError::find(result) {
        errors.push(
            found,
            "this error cannot go from thread to thread, as that of a handler does: return `HandlerResult`, or with \
             `onceward::BoxError`, which is `Box<dyn Error + Send + Sync>`, a `Result<(), BoxError>`",
        );
    }
}

/// A `dyn Error` that is not `Send`.
struct LocalError<'t>(Option<&'t TypeTraitObject>);

impl<'t> LocalError<'t> {
    fn find(ty: &'t Type) -> Option<&'t TypeTraitObject> {
        let mut search = Self(None);
        search.visit_type(ty);
        search.0
    }
}

impl<'t> Visit<'t> for LocalError<'t> {
    fn visit_type_trait_object(&mut self, object: &'t TypeTraitObject) {
        let has = |name: &str| {
            object.bounds.iter().any(|bound| match bound {
                TypeParamBound::Trait(bound) => {
                    bound.path.segments.last().is_some_and(|last| last.ident == name)
                }
                _ => false,
            })
        };
        if has("Error") && !has("Send") {
            self.0.get_or_insert(object);
        }
        visit::visit_type_trait_object(self, object);
    }
}

/// The type inside the brackets that a `macro_rules` or the user put around it.
fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        ty => ty,
    }
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match bare(ty) {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

struct ImplTrait<'t>(Option<&'t TypeImplTrait>);

impl<'t> ImplTrait<'t> {
    fn find(ty: &'t Type) -> Option<&'t TypeImplTrait> {
        let mut search = Self(None);
        search.visit_type(ty);
        search.0
    }
}

impl<'t> Visit<'t> for ImplTrait<'t> {
    fn visit_type_impl_trait(&mut self, found: &'t TypeImplTrait) {
        self.0.get_or_insert(found);
        visit::visit_type_impl_trait(self, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    fn kinds(item: TokenStream) -> (Vec<&'static str>, Errors) {
        let mut errors = Errors::default();
        let function = HandlerFn::parse(item, &mut errors).unwrap();
        let kind = |argument: &Argument| match argument.kind {
            Kind::Tx => "tx",
            Kind::Extractor => "extractor",
            Kind::Batch(_) => "batch",
        };
        (function.arguments.iter().map(kind).collect(), errors)
    }

    #[test]
    fn an_argument_is_known_by_the_last_name_of_its_type() {
        let (kinds, errors) = kinds(quote! {
            async fn f(
                flights: onceward::extract::Batch<Json<Flight>>,
                (tx): (&mut onceward::Tx),
                state: State<Batch<i32>>,
            ) {}
        });
        assert_eq!(kinds, ["batch", "tx", "extractor"]);
        assert!(errors.is_empty());
    }

    #[test]
    fn the_body_is_not_parsed() {
        let (kinds, errors) = kinds(quote!(pub(crate) async fn f(key: Key<&str>) { what ever => ?! }));
        assert_eq!(kinds, ["extractor"]);
        assert!(errors.is_empty());
    }

    #[test]
    fn what_the_compiler_says_of_the_function_is_not_said_again() {
        let (_, errors) = kinds(quote!(
            async fn f(flights: Batch) {}
        ));
        assert!(!errors.is_empty());
        assert!(errors.into_result().is_ok());
    }
}

//! Types of fields that are known by their names.

use syn::{GenericArgument, PathArguments, Type};

/// A field's type, by its name.
pub(super) enum Known<'t> {
    Option(&'t Type),
    /// `Box` and the like.
    Wrapped(&'t Type),
    List(&'t Type),
    /// Of so many, where that is a number.
    Array(&'t Type, Option<u64>),
    /// Of so many.
    Tuple(usize),
    Map(&'t Type),
    /// It reads these.
    One(&'static [&'static str]),
    Other,
}

impl<'t> Known<'t> {
    pub(super) fn of(ty: &'t Type) -> Self {
        const TEXT: Known<'_> =
            Known::One(&["string", "enum", "bytes", "fixed", "decimal", "whole decimal", "uuid", "moment"]);
        let path = match ty {
            Type::Reference(reference) => match &*reference.elem {
                Type::Path(path) if path.path.is_ident("str") => return TEXT,
                _ => return Self::Other,
            },
            Type::Paren(inner) => return Self::of(&inner.elem),
            Type::Group(inner) => return Self::of(&inner.elem),
            Type::Path(path) => path,
            Type::Array(array) => return Self::Array(&array.elem, length(&array.len)),
            Type::Tuple(tuple) => return Self::Tuple(tuple.elems.len()),
            _ => return Self::Other,
        };
        let Some(last) = path.path.segments.last() else { return Self::Other };
        let arguments: Vec<&Type> = match &last.arguments {
            PathArguments::AngleBracketed(arguments) => arguments
                .args
                .iter()
                .filter_map(|argument| if let GenericArgument::Type(ty) = argument { Some(ty) } else { None })
                .collect(),
            _ => Vec::new(),
        };
        match (last.ident.to_string().as_str(), &arguments[..]) {
            ("Option", [inner]) => Self::Option(inner),
            ("Box" | "Arc" | "Rc", [inner]) => match inner {
                Type::Path(path) if path.path.is_ident("str") => TEXT,
                _ => Self::Wrapped(inner),
            },
            ("Vec" | "VecDeque" | "HashSet" | "BTreeSet", [inner]) => Self::List(inner),
            ("HashMap" | "BTreeMap", [_, inner, ..]) => Self::Map(inner),
            ("Cow", [Type::Path(path)]) if path.path.is_ident("str") => TEXT,
            ("String", []) => TEXT,
            ("bool", []) => Self::One(&["boolean"]),
            // What is narrower than the schema's may not fit, so it is none of Avro's promotions.
            ("i32" | "u32", []) => Self::One(&["int", "whole decimal"]),
            ("i64" | "u64" | "i128" | "u128" | "isize" | "usize", []) => {
                Self::One(&["int", "long", "whole decimal"])
            }
            ("f32", []) => Self::One(&["float", "int", "long"]),
            ("f64", []) => Self::One(&["float", "double", "int", "long", "decimal", "whole decimal"]),
            ("i8" | "i16" | "u8" | "u16", []) => Self::One(&[]),
            _ => Self::Other,
        }
    }
}

fn length(length: &syn::Expr) -> Option<u64> {
    match length {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(number), .. }) => number.base10_parse().ok(),
        _ => None,
    }
}

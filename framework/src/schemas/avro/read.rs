//! Between `apache-avro`'s decoder, which makes Rust types of bytes, and types that were not made
//! for one schema.
//!
//! The decoder wants a struct to be called as its record is, an `i64` to be a `long`, an `Option`
//! to be a union of two; and it takes the branch of a union for the variant of the same number.
//! Here each value is read as what its schema says, and handed on as what the type asks for.

mod inside;
mod leaf;
mod variant;

pub(super) use inside::LEFT_OVER;
pub(super) use leaf::{NOT_TEXT, OUT_OF_RANGE};
pub(super) use variant::NO_VARIANT;

use super::plan::{Kind, Logical, Node, Plan};
use inside::{Entries, Fields, Items};
use serde::Deserializer;
use serde::de::{Error as _, Visitor};
use variant::{Choice, Named, Symbol, UnitOnly};

/// A value that was not read yet, with its schema.
pub(super) struct Reading<'p, D> {
    inner: D,
    plan: &'p Plan,
    node: &'p Node,
    /// A variant of a Rust enum may be named after the branch.
    is_branch: bool,
}

/// What a type asks for.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Any,
    /// A whole number.
    Whole,
    Float32,
    Float64,
    Text,
    Bytes,
    List,
    Tuple(usize),
    Map,
    Enum(&'static [&'static str]),
}

impl<'p, D> Reading<'p, D> {
    /// A whole datum.
    pub(super) fn whole(inner: D, plan: &'p Plan) -> Self {
        Self::of(inner, plan, plan.node(Plan::ROOT))
    }

    fn of(inner: D, plan: &'p Plan, node: &'p Node) -> Self {
        Self { inner, plan, node, is_branch: false }
    }

    /// No variant is named after it: the variant that is has been found.
    fn unnamed(self) -> Self {
        Self { is_branch: false, ..self }
    }
}

impl<'de, D: Deserializer<'de>> Reading<'_, D> {
    #[inline]
    fn read<V: Visitor<'de>>(self, ask: Ask, visitor: V) -> Result<V::Value, D::Error> {
        if let Ask::Enum(variants) = ask {
            return self.read_enum(variants, visitor);
        }
        let Self { inner, plan, node, .. } = self;
        match &node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Boolean => inner.deserialize_bool(visitor),
            Kind::Int if is_moment(ask, node.logical) => leaf::moment(inner, node, visitor),
            Kind::Int => inner.deserialize_i32(visitor),
            Kind::Long if is_moment(ask, node.logical) => leaf::moment(inner, node, visitor),
            Kind::Long => inner.deserialize_i64(visitor),
            Kind::Float => inner.deserialize_f32(visitor),
            Kind::Double if matches!(ask, Ask::Float32) => {
                Err(D::Error::invalid_type(serde::de::Unexpected::Other("a double"), &visitor))
            }
            Kind::Double => inner.deserialize_f64(visitor),
            Kind::String => inner.deserialize_string(visitor),
            Kind::Bytes | Kind::Fixed(_) => leaf::bytes(inner, node, ask, visitor),
            Kind::Enum(symbols) => inner.deserialize_enum("", &[], Symbol { symbols, visitor }),
            Kind::Union(branches) => {
                inner.deserialize_enum("", &[], Choice { ask: Some(ask), plan, branches, visitor })
            }
            Kind::Array(items) => inner.deserialize_seq(Items { plan, node: plan.node(*items), visitor }),
            Kind::Map(values) => inner.deserialize_map(Entries { plan, node: plan.node(*values), visitor }),
            Kind::Record(fields) => inner.deserialize_map(Fields { plan, fields, visitor }),
        }
    }

    /// The variant is named after the branch of a union, after the type, or by the value.
    fn read_enum<V: Visitor<'de>>(
        self,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let node = self.node;
        if let Kind::Union(branches) = &node.kind {
            let choice = Choice { ask: Some(Ask::Enum(variants)), plan: self.plan, branches, visitor };
            return self.inner.deserialize_enum("", &[], choice);
        }
        let mut named = node.branch_names().filter(|name| variants.contains(name));
        match (named.next(), &node.kind) {
            (None, Kind::Enum(symbols)) => {
                self.inner.deserialize_enum("", &[], Symbol { symbols, visitor: UnitOnly(visitor) })
            }
            (None, Kind::String) => self.inner.deserialize_string(UnitOnly(visitor)),
            (None, _) => visitor.visit_enum(Named { name: None, reading: self }),
            (Some(_), Kind::Enum(symbols)) if !self.is_branch => {
                self.inner.deserialize_enum("", &[], Symbol { symbols, visitor: UnitOnly(visitor) })
            }
            (Some(name), _) => visitor.visit_enum(Named { name: Some(name), reading: self }),
        }
    }
}

/// Whether a date or a time is asked for as a text.
#[inline]
fn is_moment(ask: Ask, logical: Option<Logical>) -> bool {
    matches!(ask, Ask::Text) && logical.is_some()
}

macro_rules! ask {
    ($($method:ident: $ask:expr;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.read($ask, visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Reading<'_, D> {
    type Error = D::Error;

    ask! {
        deserialize_any: Ask::Any;
        deserialize_bool: Ask::Any;
        deserialize_i8: Ask::Whole;
        deserialize_i16: Ask::Whole;
        deserialize_i32: Ask::Whole;
        deserialize_i64: Ask::Whole;
        deserialize_i128: Ask::Whole;
        deserialize_u8: Ask::Whole;
        deserialize_u16: Ask::Whole;
        deserialize_u32: Ask::Whole;
        deserialize_u64: Ask::Whole;
        deserialize_u128: Ask::Whole;
        deserialize_f32: Ask::Float32;
        deserialize_f64: Ask::Float64;
        deserialize_char: Ask::Text;
        deserialize_str: Ask::Text;
        deserialize_string: Ask::Text;
        deserialize_bytes: Ask::Bytes;
        deserialize_byte_buf: Ask::Bytes;
        deserialize_unit: Ask::Any;
        deserialize_seq: Ask::List;
        deserialize_map: Ask::Map;
        deserialize_identifier: Ask::Text;
        deserialize_ignored_any: Ask::Any;
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        match &self.node.kind {
            Kind::Null => visitor.visit_none(),
            Kind::Union(branches) => {
                self.inner.deserialize_enum("", &[], Choice { ask: None, plan: self.plan, branches, visitor })
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.read(Ask::Any, visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.read(Ask::Tuple(length), visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.read(Ask::Tuple(length), visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.read(Ask::Map, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.read(Ask::Enum(variants), visitor)
    }
}

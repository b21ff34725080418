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
pub(super) use leaf::OUT_OF_RANGE;
pub(super) use variant::NO_VARIANT;

use super::input::{Input, deeper};
use super::plan::{Kind, Node, Place, Plan, Symbols};
use inside::{Entries, Fields, Items};
use serde::Deserializer;
use serde::de::value::StrDeserializer;
use serde::de::{Error, Visitor};
use variant::{Choice, Chosen, Named};

/// A value that was not read yet, with its schema.
pub(super) struct Reading<'p, D> {
    /// Reads it, if there is something in it.
    inner: D,
    at: At<'p>,
    node: &'p Node,
    /// A variant of a Rust enum may be named after the branch.
    is_branch: bool,
}

/// Where a value is.
#[derive(Clone, Copy)]
struct At<'p> {
    plan: &'p Plan,
    input: &'p Input,
    depth: usize,
}

impl At<'_> {
    #[inline]
    fn deeper<E: Error>(self) -> Result<Self, E> {
        Ok(Self { depth: deeper(self.depth).map_err(E::custom)?, ..self })
    }
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
    pub(super) fn whole(inner: D, plan: &'p Plan, input: &'p Input) -> Self {
        Self::of(inner, At { plan, input, depth: 0 }, plan.node(Plan::ROOT))
    }

    fn of(inner: D, at: At<'p>, node: &'p Node) -> Self {
        Self { inner, at, node, is_branch: false }
    }

    /// No variant is named after it: the variant that is has been found.
    fn unnamed(self) -> Self {
        Self { is_branch: false, ..self }
    }
}

impl<'de, 'p, D: Deserializer<'de>> Reading<'p, D> {
    #[inline]
    fn read<V: Visitor<'de>>(self, ask: Ask, visitor: V) -> Result<V::Value, D::Error> {
        if let Ask::Enum(variants) = ask {
            return self.read_enum(variants, visitor);
        }
        let input = self.at.input;
        let wrong = D::Error::custom;
        match &self.node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Boolean => visitor.visit_bool(input.boolean().map_err(wrong)?),
            Kind::Int => {
                let number = input.int().map_err(wrong)?;
                match self.node.logical {
                    Some(logical) if matches!(ask, Ask::Text) => {
                        leaf::moment(logical, number.into(), visitor)
                    }
                    _ => visitor.visit_i32(number),
                }
            }
            Kind::Long => {
                let number = input.long().map_err(wrong)?;
                match self.node.logical {
                    Some(logical) if matches!(ask, Ask::Text) => leaf::moment(logical, number, visitor),
                    _ => visitor.visit_i64(number),
                }
            }
            Kind::Float => visitor.visit_f32(f32::from_le_bytes(input.chunk().map_err(wrong)?)),
            Kind::Double if matches!(ask, Ask::Float32) => {
                Err(D::Error::invalid_type(serde::de::Unexpected::Other("a double"), &visitor))
            }
            Kind::Double => visitor.visit_f64(f64::from_le_bytes(input.chunk().map_err(wrong)?)),
            Kind::String => visitor.visit_str(input.text().map_err(wrong)?),
            Kind::Bytes => leaf::bytes(input.delimited().map_err(wrong)?, self.node.logical, ask, visitor),
            Kind::Fixed(size) => {
                leaf::bytes(input.take(*size).map_err(wrong)?, self.node.logical, ask, visitor)
            }
            Kind::Enum(symbols) => visitor.visit_str(symbol(input, symbols)?),
            Kind::Union(branches) => self.read_branch(branches, Some(ask), visitor),
            Kind::Array(items) => {
                let at = self.at.deeper()?;
                let node = at.plan.node(*items);
                input.next_block(node.takes_room).map_err(wrong)?;
                self.inner.deserialize_seq(Items { at, node, visitor })
            }
            Kind::Map(values) => {
                let at = self.at.deeper()?;
                input.next_block(true).map_err(wrong)?;
                self.inner.deserialize_map(Entries { at, node: at.plan.node(*values), visitor })
            }
            Kind::Record(fields) => {
                self.inner.deserialize_map(Fields { at: self.at.deeper()?, fields, visitor })
            }
        }
    }

    /// The branch of a union. Without a question an `Option` is asked for.
    #[inline]
    fn read_branch<V: Visitor<'de>>(
        self,
        branches: &'p [Place],
        ask: Option<Ask>,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let Self { inner, at, .. } = self;
        let branch = at.input.next_index(branches.len()).map_err(D::Error::custom)?;
        let at = at.deeper()?;
        let node = at.plan.node(branches[branch]);
        // Of two, one null, the other is what it is and no variant of anything.
        let is_optional = branches.len() == 2
            && branches.iter().any(|branch| matches!(at.plan.node(*branch).kind, Kind::Null));
        let chosen = Chosen { ask, at, node, is_branch: !(is_optional && ask.is_none()), visitor };
        if node.is_simple() {
            at.input.index(branches.len()).map_err(D::Error::custom)?;
            return chosen.read(inner);
        }
        inner.deserialize_enum("", &[], Choice(chosen))
    }

    /// The variant is named after the branch of a union, after the type, or by the value.
    fn read_enum<V: Visitor<'de>>(
        self,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let (node, input) = (self.node, self.at.input);
        if let Kind::Union(branches) = &node.kind {
            return self.read_branch(branches, Some(Ask::Enum(variants)), visitor);
        }
        let name = node.branch_names().find(|name| variants.contains(name));
        match (name, &node.kind) {
            (None, Kind::Enum(symbols)) => visitor.visit_enum(StrDeserializer::new(symbol(input, symbols)?)),
            (Some(_), Kind::Enum(symbols)) if !self.is_branch => {
                visitor.visit_enum(StrDeserializer::new(symbol(input, symbols)?))
            }
            (None, Kind::String) => {
                visitor.visit_enum(StrDeserializer::new(input.text().map_err(D::Error::custom)?))
            }
            (name, _) => visitor.visit_enum(Named { name, reading: self }),
        }
    }
}

fn symbol<'p, E: Error>(input: &Input, symbols: &'p Symbols) -> Result<&'p str, E> {
    Ok(&symbols.names[input.index(symbols.names.len()).map_err(E::custom)?])
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
            Kind::Union(branches) => self.read_branch(branches, None, visitor),
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

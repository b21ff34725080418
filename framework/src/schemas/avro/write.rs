//! Makes of a Rust value what `apache-avro` writes by a schema.

mod compound;
mod leaf;

use super::plan::{Kind, Node, Plan, symbol};
use apache_avro::types::Value;
use compound::{Items, Members};
use serde::ser::{Error as _, Serialize, Serializer};
use std::fmt;

/// Why a value cannot be written. Its text holds nothing of the value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unfit(String);

impl serde::ser::Error for Unfit {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

pub(super) type Written<T = Value> = Result<T, Unfit>;

/// A place for a value, with its schema.
#[derive(Clone, Copy)]
pub(crate) struct Writing<'p> {
    plan: &'p Plan,
    node: &'p Node,
}

impl<'p> Writing<'p> {
    /// A whole datum.
    pub(super) fn whole(plan: &'p Plan) -> Self {
        Self { plan, node: plan.node(Plan::ROOT) }
    }

    fn of(self, node: &'p Node) -> Self {
        Self { node, ..self }
    }

    /// The value that `write` makes by this type, or by the first branch of a union for which it
    /// makes one.
    fn by(self, what: &str, write: impl Fn(Self) -> Option<Written>) -> Written {
        let unfit = || Unfit(format!("{what} is no value of its schema"));
        let Kind::Union(branches) = &self.node.kind else {
            return write(self).unwrap_or_else(|| Err(unfit()));
        };
        let written = (0..).zip(branches).find_map(|(number, branch)| {
            let written = write(self.of(self.plan.node(*branch)))?;
            Some(written.map(|value| Value::Union(number, Box::new(value))))
        });
        written.unwrap_or_else(|| Err(unfit()))
    }

    /// The same, by the branch that a variant is named after.
    fn by_variant(self, variant: &str, write: impl FnOnce(Self) -> Written) -> Written {
        let is_named = |node: &Node| node.branch_names().any(|name| name == variant);
        if let Kind::Union(branches) = &self.node.kind {
            let mut branches = (0..).zip(branches).map(|(number, place)| (number, self.plan.node(*place)));
            if let Some((number, branch)) = branches.find(|(_, branch)| is_named(branch)) {
                return write(self.of(branch)).map(|value| Value::Union(number, Box::new(value)));
            }
        } else if is_named(self.node) {
            return write(self);
        }
        Err(Unfit(format!("its schema has no branch for the variant `{variant}`")))
    }

    fn null(self) -> Written {
        self.by("nothing", |place| match &place.node.kind {
            Kind::Null => Some(Ok(Value::Null)),
            _ => None,
        })
    }
}

macro_rules! whole_numbers {
    ($($method:ident($number:ty);)*) => {$(
        fn $method(self, number: $number) -> Written {
            let number = i128::try_from(number).map_err(|_| Unfit::custom("the number is too large"))?;
            self.by("a whole number", |place| leaf::whole(place.node, number))
        }
    )*};
}

impl<'p> Serializer for Writing<'p> {
    type Ok = Value;
    type Error = Unfit;
    type SerializeSeq = Items<'p>;
    type SerializeTuple = Items<'p>;
    type SerializeTupleStruct = Items<'p>;
    type SerializeTupleVariant = Items<'p>;
    type SerializeMap = Members<'p>;
    type SerializeStruct = Members<'p>;
    type SerializeStructVariant = Members<'p>;

    whole_numbers! {
        serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64); serialize_i128(i128);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64); serialize_u128(u128);
    }

    fn serialize_bool(self, value: bool) -> Written {
        self.by("a boolean", |place| {
            matches!(place.node.kind, Kind::Boolean).then_some(Ok(Value::Boolean(value)))
        })
    }

    fn serialize_f32(self, number: f32) -> Written {
        self.by("a number", |place| match place.node.kind {
            Kind::Float => Some(Ok(Value::Float(number))),
            Kind::Double => Some(Ok(Value::Double(number.into()))),
            _ => None,
        })
    }

    fn serialize_f64(self, number: f64) -> Written {
        let double = |place: Self| match place.node.kind {
            Kind::Double => Some(Ok(Value::Double(number))),
            _ => None,
        };
        let float = |place: Self| match place.node.kind {
            Kind::Float => Some(Ok(Value::Float(number as f32))),
            _ => None,
        };
        self.by("a number", double).or_else(|_| self.by("a number", float))
    }

    fn serialize_char(self, letter: char) -> Written {
        self.serialize_str(letter.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Written {
        self.by("a text", |place| leaf::text(place.node, text))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Written {
        self.by("this many bytes", |place| leaf::bytes(place.node, bytes))
    }

    fn serialize_none(self) -> Written {
        self.null()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Written {
        self.null()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Written {
        self.by("a struct without fields", |place| match &place.node.kind {
            Kind::Null => Some(Ok(Value::Null)),
            Kind::Record(fields) if fields.is_empty() => Some(Ok(Value::Record(Vec::new()))),
            _ => None,
        })
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        let by_value = self.by("the variant", |place| match &place.node.kind {
            Kind::Enum(symbols) => {
                let number = symbols.names.iter().position(|name| **name == *variant)?;
                Some(Ok(Value::Enum(u32::try_from(number).ok()?, symbol(number))))
            }
            Kind::String => Some(Ok(Value::String(variant.to_owned()))),
            _ => None,
        });
        by_value.or_else(|_| self.by_variant(variant, |place| place.serialize_unit_struct(variant)))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Written {
        self.by_variant(variant, |place| value.serialize(place))
    }

    fn serialize_seq(self, _: Option<usize>) -> Written<Items<'p>> {
        Items::new(self, None)
    }

    fn serialize_tuple(self, _: usize) -> Written<Items<'p>> {
        Items::new(self, None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Written<Items<'p>> {
        Items::new(self, None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Written<Items<'p>> {
        Items::new(self, Some(variant))
    }

    fn serialize_map(self, _: Option<usize>) -> Written<Members<'p>> {
        Members::of_map(self)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Written<Members<'p>> {
        Members::of_struct(self, name)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Written<Members<'p>> {
        Members::of_variant(self, variant)
    }
}

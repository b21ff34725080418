//! Lists, maps and records.

use super::super::plan::{Field, Kind, Logical, Node, Place, field_name};
use super::{Unfit, Writing, Written, leaf};
use apache_avro::types::Value;
use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use std::collections::HashMap;

/// The branch of a union that a value is written by, and its number.
#[derive(Clone, Copy)]
struct Chosen<'p> {
    place: Writing<'p>,
    branch: Option<u32>,
}

impl<'p> Chosen<'p> {
    /// The type, or the first branch that it may be.
    fn first(place: Writing<'p>, may_be: impl Fn(&Node) -> bool) -> Option<Self> {
        let Kind::Union(branches) = &place.node.kind else {
            return may_be(place.node).then_some(Self { place, branch: None });
        };
        let mut branches = (0..).zip(branches).map(|(number, branch)| (number, place.plan.node(*branch)));
        let (number, node) = branches.find(|(_, node)| may_be(node))?;
        Some(Self { place: place.of(node), branch: Some(number) })
    }

    fn value(self, value: Value) -> Value {
        match self.branch {
            Some(number) => Value::Union(number, Box::new(value)),
            None => value,
        }
    }
}

fn is_named(node: &Node, name: &str) -> bool {
    node.branch_names().any(|known| known == name)
}

/// What keys and bytes are written by.
static TEXT: Node = Node::new(Kind::String, None);
static NUMBER: Node = Node::new(Kind::Long, None);

fn number<T: Serialize + ?Sized>(item: &T, place: Writing<'_>) -> Written<i64> {
    match item.serialize(place.of(&NUMBER))? {
        Value::Long(number) => Ok(number),
        _ => Err(Unfit("an item of a list is no number".to_owned())),
    }
}

/// A list, or bytes that come one by one.
pub(crate) struct Items<'p> {
    chosen: Chosen<'p>,
    /// None of bytes.
    items: Option<Place>,
    values: Vec<Value>,
    bytes: Vec<u8>,
}

impl<'p> Items<'p> {
    pub(super) fn new(place: Writing<'p>, variant: Option<&str>) -> Written<Self> {
        let may_be = |node: &Node| {
            matches!(node.kind, Kind::Array(_) | Kind::Bytes | Kind::Fixed(_))
                && variant.is_none_or(|variant| is_named(node, variant))
        };
        let is_list = |node: &Node| matches!(node.kind, Kind::Array(_)) && may_be(node);
        let chosen = Chosen::first(place, is_list).or_else(|| Chosen::first(place, may_be));
        let chosen = chosen.ok_or_else(|| Unfit("a list is no value of its schema".to_owned()))?;
        let items = if let Kind::Array(items) = chosen.place.node.kind { Some(items) } else { None };
        Ok(Self { chosen, items, values: Vec::new(), bytes: Vec::new() })
    }

    fn push<T: Serialize + ?Sized>(&mut self, item: &T) -> Written<()> {
        let place = self.chosen.place;
        let unfit = || Unfit("an item of a list is no byte".to_owned());
        match self.items {
            Some(items) => self.values.push(item.serialize(place.of(place.plan.node(items)))?),
            None if place.node.logical == Some(Logical::Duration) => {
                let part = u32::try_from(number(item, place)?).map_err(|_| unfit())?;
                self.bytes.extend(part.to_le_bytes());
            }
            None => {
                self.bytes.push(u8::try_from(number(item, place)?).map_err(|_| unfit())?);
            }
        }
        Ok(())
    }

    fn all(self) -> Written {
        let value = match self.items {
            Some(_) => Value::Array(self.values),
            None => leaf::bytes(self.chosen.place.node, &self.bytes)
                .ok_or_else(|| Unfit("a list has not as many bytes as its schema".to_owned()))??,
        };
        Ok(self.chosen.value(value))
    }
}

macro_rules! lists {
    ($($kind:ident::$push:ident),*) => {$(
        impl $kind for Items<'_> {
            type Ok = Value;
            type Error = Unfit;

            fn $push<T: Serialize + ?Sized>(&mut self, item: &T) -> Written<()> {
                self.push(item)
            }

            fn end(self) -> Written {
                self.all()
            }
        }
    )*};
}

lists!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

/// A map, or the fields of a record.
pub(crate) struct Members<'p> {
    chosen: Chosen<'p>,
    values: HashMap<String, Value>,
    key: String,
}

impl<'p> Members<'p> {
    pub(super) fn of_map(place: Writing<'p>) -> Written<Self> {
        Self::new(place, |node| matches!(node.kind, Kind::Map(_) | Kind::Record(_)))
    }

    /// The record of this name comes before others.
    pub(super) fn of_struct(place: Writing<'p>, name: &str) -> Written<Self> {
        let is_record = |node: &Node| matches!(node.kind, Kind::Record(_));
        let named = Self::new(place, |node| is_record(node) && is_named(node, name));
        named.or_else(|_| Self::new(place, is_record)).or_else(|_| Self::of_map(place))
    }

    pub(super) fn of_variant(place: Writing<'p>, name: &str) -> Written<Self> {
        Self::new(place, |node| matches!(node.kind, Kind::Record(_)) && is_named(node, name))
    }

    fn new(place: Writing<'p>, may_be: impl Fn(&Node) -> bool) -> Written<Self> {
        let chosen = Chosen::first(place, may_be);
        let chosen = chosen.ok_or_else(|| Unfit("a struct or map is no value of its schema".to_owned()))?;
        Ok(Self { chosen, values: HashMap::new(), key: String::new() })
    }

    fn put<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Written<()> {
        let place = self.chosen.place;
        let inner = match &place.node.kind {
            Kind::Map(values) => *values,
            Kind::Record(fields) => match fields.iter().find(|field| *field.name == *name) {
                Some(field) => field.place,
                None => return Err(Unfit("its schema lacks a field that the type has".to_owned())),
            },
            _ => return Err(Unfit("its schema has no fields".to_owned())),
        };
        self.values.insert(name.to_owned(), value.serialize(place.of(place.plan.node(inner)))?);
        Ok(())
    }

    fn all(mut self) -> Written {
        let Kind::Record(fields) = &self.chosen.place.node.kind else {
            return Ok(self.chosen.value(Value::Map(self.values)));
        };
        let mut members = Vec::with_capacity(fields.len());
        for (number, field) in fields.iter().enumerate() {
            let value = match self.values.remove(&*field.name) {
                Some(value) => value,
                None => self.missing(field)?,
            };
            members.push((field_name(number), value));
        }
        Ok(self.chosen.value(Value::Record(members)))
    }

    fn missing(&self, field: &Field) -> Written {
        let place = self.chosen.place;
        let null = place.of(place.plan.node(field.place)).serialize_none();
        null.map_err(|_| Unfit(format!("the type lacks the field `{}` of its schema", field.name)))
    }
}

impl SerializeMap for Members<'_> {
    type Ok = Value;
    type Error = Unfit;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written<()> {
        match key.serialize(self.chosen.place.of(&TEXT))? {
            Value::String(key) => self.key = key,
            _ => return Err(Unfit("a key of a map is no text".to_owned())),
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written<()> {
        let key = std::mem::take(&mut self.key);
        self.put(&key, value)
    }

    fn end(self) -> Written {
        self.all()
    }
}

macro_rules! structs {
    ($($kind:ident),*) => {$(
        impl $kind for Members<'_> {
            type Ok = Value;
            type Error = Unfit;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Written<()> {
                self.put(name, value)
            }

            fn end(self) -> Written {
                self.all()
            }
        }
    )*};
}

structs!(SerializeStruct, SerializeStructVariant);

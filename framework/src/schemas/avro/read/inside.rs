//! Lists, maps and records: each value inside is read by its own schema, and none is left over.

use super::super::plan::{Field, Node, Plan};
use super::Reading;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;

/// Reads what a seed makes of a value of this schema.
struct By<'p, S> {
    seed: S,
    plan: &'p Plan,
    node: &'p Node,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for By<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let Self { seed, plan, node } = self;
        seed.deserialize(Reading::of(inner, plan, node))
    }
}

/// Told where a type leaves a part of a list alone: what follows would be read as that part.
pub(in super::super) const LEFT_OVER: &str = "it has more in it than the type takes";

fn all_read<T, E: Error>(value: T, is_at_end: &Cell<bool>) -> Result<T, E> {
    if is_at_end.get() { Ok(value) } else { Err(E::custom(LEFT_OVER)) }
}

macro_rules! expects_as {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.visitor.expecting(f)
        }
    };
}
pub(super) use expects_as;

pub(super) struct Items<'p, V> {
    pub(super) plan: &'p Plan,
    pub(super) node: &'p Node,
    pub(super) visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Items<'_, V> {
    type Value = V::Value;

    expects_as!();

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        // The decoder knows how many follow, until none does.
        let is_at_end = Cell::new(inner.size_hint().is_none());
        let items = Inside { inner, plan: self.plan, node: self.node, is_at_end: &is_at_end };
        all_read(self.visitor.visit_seq(items)?, &is_at_end)
    }
}

pub(super) struct Entries<'p, V> {
    pub(super) plan: &'p Plan,
    pub(super) node: &'p Node,
    pub(super) visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Entries<'_, V> {
    type Value = V::Value;

    expects_as!();

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let is_at_end = Cell::new(inner.size_hint().is_none());
        let entries = Inside { inner, plan: self.plan, node: self.node, is_at_end: &is_at_end };
        all_read(self.visitor.visit_map(entries)?, &is_at_end)
    }
}

struct Inside<'p, 'e, A> {
    inner: A,
    plan: &'p Plan,
    node: &'p Node,
    is_at_end: &'e Cell<bool>,
}

impl<'p, A> Inside<'p, '_, A> {
    fn by<S>(&self, seed: S) -> By<'p, S> {
        By { seed, plan: self.plan, node: self.node }
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Inside<'_, '_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let by = self.by(seed);
        let element = self.inner.next_element_seed(by)?;
        self.is_at_end.set(self.inner.size_hint().is_none());
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.inner.size_hint().unwrap_or(0))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Inside<'_, '_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_key_seed(Key(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let by = self.by(seed);
        let value = self.inner.next_value_seed(by)?;
        self.is_at_end.set(self.inner.size_hint().is_none());
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.inner.size_hint().unwrap_or(0))
    }
}

/// A key is a text, whatever is made of it.
struct Key<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let key: String = serde::Deserialize::deserialize(inner)?;
        self.0.deserialize(serde::de::value::StringDeserializer::new(key))
    }
}

pub(super) struct Fields<'p, V> {
    pub(super) plan: &'p Plan,
    pub(super) fields: &'p [Field],
    pub(super) visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Fields<'_, V> {
    type Value = V::Value;

    expects_as!();

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let is_at_end = Cell::new(self.fields.is_empty());
        let fields = InRecord { inner, plan: self.plan, rest: self.fields, is_at_end: &is_at_end };
        all_read(self.visitor.visit_map(fields)?, &is_at_end)
    }
}

struct InRecord<'p, 'e, A> {
    inner: A,
    plan: &'p Plan,
    rest: &'p [Field],
    is_at_end: &'e Cell<bool>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for InRecord<'_, '_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Some(field) = self.rest.first() else { return Ok(None) };
        // What the decoder calls it is no name that anybody knows.
        self.inner.next_key_seed(AnyName)?;
        seed.deserialize(StrDeserializer::new(&field.name)).map(Some)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let Some((field, rest)) = self.rest.split_first() else {
            return Err(A::Error::custom("a value was asked for behind the last"));
        };
        self.rest = rest;
        self.is_at_end.set(rest.is_empty());
        let node = self.plan.node(field.place);
        self.inner.next_value_seed(By { seed, plan: self.plan, node })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// A name of the decoder's own, which it gives to who asks for an identifier only.
struct AnyName;

impl<'de> DeserializeSeed<'de> for AnyName {
    type Value = ();

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<(), D::Error> {
        inner.deserialize_identifier(IgnoredAny).map(drop)
    }
}

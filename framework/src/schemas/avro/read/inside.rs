//! Lists, maps and records: each value inside is read by its own schema, and none is left over.

use super::super::plan::{Field, Node};
use super::{At, Reading};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;

/// Reads what a seed makes of a value of this schema.
struct By<'p, S> {
    seed: S,
    at: At<'p>,
    node: &'p Node,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for By<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let Self { seed, at, node } = self;
        seed.deserialize(Reading::of(inner, at, node))
    }
}

/// Told where a type leaves a part of a list alone: what follows would be read as that part.
pub(in super::super) const LEFT_OVER: &str = "it has more in it than the type takes";

/// The value, as it is: to take it out and in again would copy it.
#[inline]
fn all_read<T, E: Error>(value: Result<T, E>, is_at_end: &Cell<bool>) -> Result<T, E> {
    if value.is_ok() && !is_at_end.get() {
        return Err(E::custom(LEFT_OVER));
    }
    value
}

macro_rules! expects_as {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.visitor.expecting(f)
        }
    };
}
pub(super) struct Items<'p, V> {
    pub(super) at: At<'p>,
    pub(super) node: &'p Node,
    pub(super) visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Items<'_, V> {
    type Value = V::Value;

    expects_as!();

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        // The decoder knows how many follow, until none does.
        let is_at_end = Cell::new(inner.size_hint().is_none());
        let takes_room = self.node.takes_room;
        let items = Inside { inner, at: self.at, node: self.node, takes_room, is_at_end: &is_at_end };
        all_read(self.visitor.visit_seq(items), &is_at_end)
    }
}

pub(super) struct Entries<'p, V> {
    pub(super) at: At<'p>,
    pub(super) node: &'p Node,
    pub(super) visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Entries<'_, V> {
    type Value = V::Value;

    expects_as!();

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let is_at_end = Cell::new(inner.size_hint().is_none());
        let takes_room = true;
        let entries = Inside { inner, at: self.at, node: self.node, takes_room, is_at_end: &is_at_end };
        all_read(self.visitor.visit_map(entries), &is_at_end)
    }
}

struct Inside<'p, 'e, A> {
    inner: A,
    at: At<'p>,
    node: &'p Node,
    takes_room: bool,
    is_at_end: &'e Cell<bool>,
}

impl<'p, A> Inside<'p, '_, A> {
    fn by<S>(&self, seed: S) -> By<'p, S> {
        By { seed, at: self.at, node: self.node }
    }

    /// After an item: how many of its block were left before it, and are now.
    fn go_on<E: Error>(&self, before: Option<usize>, now: Option<usize>) -> Result<(), E> {
        self.is_at_end.set(now.is_none());
        match now {
            // Another block has begun.
            Some(count) if before == Some(1) => {
                self.at.input.check_block(count as u64, self.takes_room).map_err(E::custom)
            }
            _ => Ok(()),
        }
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Inside<'_, '_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let (by, before) = (self.by(seed), self.inner.size_hint());
        let element = self.inner.next_element_seed(by)?;
        self.go_on(before, self.inner.size_hint())?;
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.inner.size_hint().unwrap_or(0))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Inside<'_, '_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_key_seed(Key(seed, self.at))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let (by, before) = (self.by(seed), self.inner.size_hint());
        let value = self.inner.next_value_seed(by)?;
        self.go_on(before, self.inner.size_hint())?;
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.inner.size_hint().unwrap_or(0))
    }
}

/// A key is a text, whatever is made of it.
struct Key<'p, S>(S, At<'p>);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, _: D) -> Result<S::Value, D::Error> {
        let key = self.1.input.text().map_err(D::Error::custom)?;
        self.0.deserialize(StrDeserializer::new(key))
    }
}

pub(super) struct Fields<'p, V> {
    pub(super) at: At<'p>,
    pub(super) fields: &'p [Field],
    pub(super) visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Fields<'_, V> {
    type Value = V::Value;

    expects_as!();

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let is_at_end = Cell::new(self.fields.is_empty());
        let fields = InRecord { inner, at: self.at, rest: self.fields, is_at_end: &is_at_end };
        all_read(self.visitor.visit_map(fields), &is_at_end)
    }
}

struct InRecord<'p, 'e, A> {
    inner: A,
    at: At<'p>,
    rest: &'p [Field],
    is_at_end: &'e Cell<bool>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for InRecord<'_, '_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Some(field) = self.rest.first() else { return Ok(None) };
        // What the decoder calls it is no name that anybody knows. It counts the values alone.
        seed.deserialize(StrDeserializer::new(&field.name)).map(Some)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let Some((field, rest)) = self.rest.split_first() else {
            return Err(A::Error::custom("a value was asked for behind the last"));
        };
        self.rest = rest;
        self.is_at_end.set(rest.is_empty());
        let node = self.at.plan.node(field.place);
        self.inner.next_value_seed(By { seed, at: self.at, node })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

//! Unions and enums, as Rust's enums and as what is in them.

use super::super::plan::{Kind, Node, Place, Plan, Symbols};
use super::inside::expects_as;
use super::{Ask, Reading};
use serde::Deserialize;
use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, Unexpected, VariantAccess, Visitor,
};
use std::fmt;

/// Finds out which branch of a union it is, and reads that.
pub(super) struct Choice<'p, V> {
    /// None where an `Option` is asked for.
    pub(super) ask: Option<Ask>,
    pub(super) plan: &'p Plan,
    pub(super) branches: &'p [Place],
    pub(super) visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Choice<'_, V> {
    type Value = V::Value;

    expects_as!();

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let (branch, inner) = access.variant_seed(Number)?;
        let place = self.branches.get(branch).copied();
        let place = place.ok_or_else(|| A::Error::custom("there is no such branch"))?;
        let node = self.plan.node(place);
        // Of two, one null, the other is what it is and no variant of anything.
        let is_optional = self.branches.len() == 2
            && self.branches.iter().any(|branch| matches!(self.plan.node(*branch).kind, Kind::Null));
        let is_branch = !(is_optional && self.ask.is_none());
        let Self { ask, plan, visitor, .. } = self;
        inner.newtype_variant_seed(Chosen { ask, plan, node, is_branch, visitor })
    }
}

/// What was asked of the union, asked of its branch.
struct Chosen<'p, V> {
    ask: Option<Ask>,
    plan: &'p Plan,
    node: &'p Node,
    is_branch: bool,
    visitor: V,
}

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Chosen<'_, V> {
    type Value = V::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let Self { ask, plan, node, is_branch, visitor } = self;
        let branch = Reading { inner, plan, node, is_branch };
        match (ask, &node.kind) {
            (Some(ask), _) => branch.read(ask, visitor),
            (None, Kind::Null) => visitor.visit_none(),
            (None, _) => visitor.visit_some(branch),
        }
    }
}

/// The number of a branch, or of a symbol by the name that `Plan::layout` gives it.
struct Number;

impl<'de> DeserializeSeed<'de> for Number {
    type Value = usize;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<usize, D::Error> {
        inner.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Number {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a branch or a symbol")
    }

    #[inline]
    fn visit_u32<E>(self, number: u32) -> Result<usize, E> {
        Ok(number as usize)
    }

    #[inline]
    fn visit_str<E: Error>(self, name: &str) -> Result<usize, E> {
        let number = name.strip_prefix('s').and_then(|number| number.parse().ok());
        number.ok_or_else(|| E::invalid_value(Unexpected::Str(name), &self))
    }
}

/// The name of a symbol.
pub(super) struct Symbol<'p, V> {
    pub(super) symbols: &'p Symbols,
    pub(super) visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Symbol<'_, V> {
    type Value = V::Value;

    expects_as!();

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let (symbol, rest) = access.variant_seed(Number)?;
        rest.unit_variant()?;
        match self.symbols.names.get(symbol) {
            Some(name) => self.visitor.visit_str(name),
            None => Err(A::Error::custom("there is no such symbol")),
        }
    }
}

/// Takes a text for the name of a variant.
pub(super) struct UnitOnly<V>(pub(super) V);

impl<'de, V: Visitor<'de>> Visitor<'de> for UnitOnly<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<V::Value, E> {
        self.0.visit_enum(StrDeserializer::new(name))
    }

    fn visit_string<E: Error>(self, name: String) -> Result<V::Value, E> {
        self.0.visit_enum(StringDeserializer::new(name))
    }
}

/// A variant that is named after what is in it.
pub(super) struct Named<'p, D> {
    /// None where the type has no such variant.
    pub(super) name: Option<&'p str>,
    pub(super) reading: Reading<'p, D>,
}

/// Told with the names that a variant could have. They are the schema's, and no data.
pub(in super::super) const NO_VARIANT: &str = "no variant takes it; it would have to be called ";

impl<'de, D: Deserializer<'de>> EnumAccess<'de> for Named<'_, D> {
    type Error = D::Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), D::Error> {
        let mut names = self.reading.node.branch_names();
        let name = self.name.or_else(|| names.next()).unwrap_or_default();
        let name: StrDeserializer<'_, D::Error> = StrDeserializer::new(name);
        match seed.deserialize(name) {
            Ok(variant) => Ok((variant, self)),
            Err(_) if self.name.is_none() => {
                let names: Vec<_> =
                    self.reading.node.branch_names().map(|name| format!("`{name}`")).collect();
                Err(D::Error::custom(format!("{NO_VARIANT}{}", names.join(" or "))))
            }
            Err(error) => Err(error),
        }
    }
}

impl<'de, D: Deserializer<'de>> VariantAccess<'de> for Named<'_, D> {
    type Error = D::Error;

    /// What is in it does not matter to the type.
    fn unit_variant(self) -> Result<(), D::Error> {
        IgnoredAny::deserialize(self.reading.unnamed()).map(drop)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, D::Error> {
        seed.deserialize(self.reading.unnamed())
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.reading.unnamed().read(Ask::Tuple(length), visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.reading.unnamed().read(Ask::Map, visitor)
    }
}

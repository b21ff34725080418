//! Unions and enums, as Rust's enums and as what is in them.

use super::super::plan::{Kind, Node};
use super::{Ask, At, Reading};
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, VariantAccess, Visitor};
use std::fmt;

/// Lets the decoder find the branch too, which has others in it.
pub(super) struct Choice<'p, V>(pub(super) Chosen<'p, V>);

impl<'de, V: Visitor<'de>> Visitor<'de> for Choice<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.visitor.expecting(f)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let (_, inner) = access.variant_seed(AnyName)?;
        inner.newtype_variant_seed(self.0)
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

/// What was asked of the union, asked of its branch.
pub(super) struct Chosen<'p, V> {
    pub(super) ask: Option<Ask>,
    pub(super) at: At<'p>,
    pub(super) node: &'p Node,
    pub(super) is_branch: bool,
    pub(super) visitor: V,
}

impl<'de, V: Visitor<'de>> Chosen<'_, V> {
    #[inline]
    pub(super) fn read<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let Self { ask, at, node, is_branch, visitor } = self;
        let branch = Reading { inner, at, node, is_branch };
        match (ask, &node.kind) {
            (Some(ask), _) => branch.read(ask, visitor),
            (None, Kind::Null) => visitor.visit_none(),
            (None, _) => visitor.visit_some(branch),
        }
    }
}

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Chosen<'_, V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.read(inner)
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

//! Reads the text of each setting as its type: a number, a duration, one of a few words, a
//! list.

use super::Origin;
use super::given::Written;
use super::suggest::did_you_mean;
use crate::error::Error;
use serde::Deserialize;
use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// A setting or a section.
pub(super) enum Node {
    Section(BTreeMap<String, Node>),
    Setting(Written, Origin),
}

impl Node {
    pub(super) fn section() -> Self {
        Self::Section(BTreeMap::new())
    }

    pub(super) fn insert(
        &mut self,
        path: &[String],
        written: Written,
        origin: &Origin,
    ) -> Result<(), Problem> {
        let at = |problem: &str| Problem { at: Some(origin.clone()), ..Problem::new(problem) };
        let Self::Section(inside) = self else {
            return Err(at("is a setting, and no section with settings of its own"));
        };
        match path {
            [] => Ok(()),
            [name] if matches!(written, Written::Empty) => {
                inside.entry(name.clone()).or_insert_with(Self::section);
                Ok(())
            }
            [name] if inside.contains_key(name) => Err(at("is a section, and no setting").inside(name)),
            [name] => {
                inside.insert(name.clone(), Self::Setting(written, origin.clone()));
                Ok(())
            }
            [name, rest @ ..] => {
                let section = inside.entry(name.clone()).or_insert_with(Self::section);
                section.insert(rest, written, origin).map_err(|problem| problem.inside(name))
            }
        }
    }

    /// Where it was given, or the first one in it.
    fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Section(inside) => inside.values().find_map(Self::origin),
            Self::Setting(_, origin) => Some(origin),
        }
    }

    fn text(&self) -> Result<&str, Problem> {
        match self {
            Self::Setting(Written::Text(text), _) => Ok(text),
            Self::Setting(..) => Err(Problem::new("must be one text, and is a list")),
            Self::Section(_) => Err(Problem::new("must be a text, and is a section")),
        }
    }
}

/// Reads the settings that are there.
pub(super) fn read<'n, T: Deserialize<'n>>(root: &'n Node) -> Result<T, Error> {
    T::deserialize(root).map_err(Error::from)
}

/// A fault in a setting. It never contains the setting's value, which may be a secret.
#[derive(Debug)]
pub(super) struct Problem {
    setting: Vec<String>,
    at: Option<Origin>,
    problem: String,
}

impl Problem {
    fn new(problem: impl Into<String>) -> Self {
        Self { setting: Vec::new(), at: None, problem: problem.into() }
    }

    fn inside(mut self, name: &str) -> Self {
        self.setting.insert(0, name.to_owned());
        self
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let error = Self::config(problem.setting.join("."), problem.problem);
        match &problem.at {
            Some(origin) => error.at(origin),
            None => error,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: fmt::Display>(problem: T) -> Self {
        Self::new(problem.to_string())
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("must be {expected}"))
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("must be {expected}"))
    }

    fn unknown_variant(given: &str, expected: &'static [&'static str]) -> Self {
        let words: Vec<_> = expected.iter().map(|word| format!("`{word}`")).collect();
        let near = did_you_mean(given, expected.iter().copied());
        Self::new(format!("must be one of {}{near}", words.join(", ")))
    }

    fn unknown_field(name: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("there is no such setting{}", hint(name, expected)))
    }
}

/// A hint at the right name for an unknown one.
fn hint(name: &str, names: &'static [&'static str]) -> String {
    if name == "schema_registry" {
        return " in this program; enable the feature `avro`, `protobuf` or `json-schema`".to_owned();
    }
    let sections = ["kafka", "handlers", "dead_letter", "schema_registry"];
    let of_section = |section: &&str| {
        names.contains(section) && name.strip_prefix(*section).is_some_and(|rest| rest.starts_with('_'))
    };
    match sections.iter().find(|section| of_section(section)) {
        Some(section) => format!(
            "; `{section}` is a section: in the environment, two underscores go into it, as in `ONCEWARD_{}__..`",
            section.to_ascii_uppercase()
        ),
        None => did_you_mean(name, names.iter().copied()),
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty),*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
            let number = self.text()?.trim().replace('_', "");
            match number.parse::<$type>() {
                Ok(number) => visitor.$visit(number),
                Err(_) if number.parse::<i128>().is_ok() => {
                    Err(Problem::new(format!("must be from {} to {}", <$type>::MIN, <$type>::MAX)))
                }
                Err(_) => Err(Problem::new("must be a whole number")),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self {
            Node::Section(_) => self.deserialize_map(visitor),
            Node::Setting(Written::List(_), _) => self.deserialize_seq(visitor),
            Node::Setting(..) => visitor.visit_borrowed_str(self.text()?),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_string(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &*self.text()?.trim().to_ascii_lowercase() {
            "true" | "t" | "yes" | "y" | "on" | "1" => visitor.visit_bool(true),
            "false" | "f" | "no" | "n" | "off" | "0" => visitor.visit_bool(false),
            _ => Err(Problem::new("must be `true` or `false`")),
        }
    }

    numbers!(
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64
    );

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_some(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self {
            Node::Section(inside) => visitor.visit_map(Map(inside.iter(), None)),
            Node::Setting(..) => Err(Problem::new("is a section, with settings of its own")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.deserialize_map(visitor)
    }

    /// A list of a file, or a text with commas.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let words: Vec<String> = match self {
            Node::Setting(Written::List(words), _) => words.clone(),
            _ => list(self.text()?),
        };
        visitor.visit_seq(de::value::SeqDeserializer::new(words.into_iter().map(Word)))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        Word(self.text()?.to_owned()).deserialize_enum(name, words, visitor)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple tuple_struct identifier
        ignored_any
    }
}

/// The texts between commas; brackets and quotes, as in a file, are allowed.
fn list(text: &str) -> Vec<String> {
    let text = text.trim();
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let words = inside.unwrap_or(text).split(',').map(str::trim).map(|word| match inside {
        Some(_) => word.trim_matches(['"', '\'']),
        None => word,
    });
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// One of a list, or one of a few words: those in any case.
struct Word(String);

impl<'de> IntoDeserializer<'de, Problem> for Word {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Word {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_string(self.0)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let word = self.0.trim().to_ascii_lowercase().replace('-', "_");
        StringDeserializer::new(word).deserialize_enum(name, words, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The settings of a section, and the one whose name was read last.
struct Map<'n>(std::collections::btree_map::Iter<'n, String, Node>, Option<(&'n String, &'n Node)>);

/// Adds the name of the setting to a fault.
fn of<T>((name, node): (&String, &Node), read: Result<T, Problem>) -> Result<T, Problem> {
    read.map_err(|problem| {
        let at = problem.at.clone().or_else(|| node.origin().cloned());
        Problem { at, ..problem }.inside(name)
    })
}

impl<'de> de::MapAccess<'de> for Map<'de> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        self.1 = self.0.next();
        let Some(setting) = self.1 else { return Ok(None) };
        of(setting, seed.deserialize(StrDeserializer::new(setting.0))).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Problem> {
        let setting = self.1.ok_or_else(|| Problem::new("a value without a name"))?;
        of(setting, seed.deserialize(setting.1))
    }
}

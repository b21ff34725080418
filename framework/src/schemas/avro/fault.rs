//! Where a datum does not fit, in words without a value of it.

use super::input::Input;
use super::read::{LEFT_OVER, NO_VARIANT, OUT_OF_RANGE};
use super::samples::SAMPLE;
use super::walk::{Problem, Step, Wrong};
use super::{Plan, Schema};
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use std::fmt;

/// Where a datum does not fit, and how.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{what}{place}")]
pub(crate) struct Fault {
    what: String,
    place: Place,
    kind: Kind,
    /// Where a text of a sample is no variant of an enum: which text, and one that is.
    proposal: Option<(usize, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A field, type or name that the one has and the other lacks.
    Shape,
    /// The bytes, or what the type makes of a value.
    Value,
}

impl Fault {
    fn new(what: impl Into<String>, place: Place, kind: Kind) -> Self {
        Self { what: what.into(), place, kind, proposal: None }
    }

    /// The bytes are not what the schema says.
    #[cold]
    pub(super) fn of_bytes(wrong: Wrong) -> Self {
        let mut text = String::new();
        for step in wrong.steps.iter().rev() {
            match step {
                Step::Item(index) => text += &format!("[{index}]"),
                Step::Field(name) => push(&mut text, name),
                Step::Value => push(&mut text, "*"),
            }
        }
        let kind = if wrong.is_of_shape { Kind::Shape } else { Kind::Value };
        Self::new(wrong.what, Place(Some(text).filter(|text| !text.is_empty())), kind)
    }

    #[cold]
    pub(super) fn behind() -> Self {
        Self::new(Problem::Behind.to_string(), Place(None), Kind::Value)
    }

    /// See [`SAMPLE`].
    pub(crate) fn proposal(&self) -> Option<&(usize, String)> {
        self.proposal.as_ref()
    }

    /// Whether schema and type do not fit, whatever the values.
    pub(crate) fn is_of_shape(&self) -> bool {
        self.kind == Kind::Shape
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Place(Option<String>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(path) => write!(f, ", at `{path}`"),
            None => Ok(()),
        }
    }
}

fn push(path: &mut String, name: &str) {
    *path += if path.is_empty() { "" } else { "." };
    *path += name;
}

/// Decodes once more what does not decode, to say where.
#[cold]
pub(super) fn find<T: DeserializeOwned>(schema: &Schema, datum: &[u8]) -> Fault {
    match super::read::<Traced<T>>(schema, &Input::of(datum)) {
        Ok(Traced(Err((text, path)))) => {
            let (what, kind) = without_values(&text);
            let place = place(&path, &schema.plan);
            Fault { proposal: proposal(&text), ..Fault::new(what, place, kind) }
        }
        Ok(Traced(Ok(_))) => Fault::new("it decodes now, and did not before", Place(None), Kind::Value),
        Err(error) => {
            let (what, kind) = without_values(&error.to_string());
            Fault::new(what, Place(None), kind)
        }
    }
}

/// A type that is read as the schema says, or why it is not.
struct Traced<T>(Result<T, (String, serde_path_to_error::Path)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Traced<T> {
    fn deserialize<D: Deserializer<'de>>(inner: D) -> Result<Self, D::Error> {
        let read = super::whole(inner, |reading| serde_path_to_error::deserialize(reading));
        Ok(Self(read.map_err(|error: serde_path_to_error::Error<D::Error>| {
            let path = error.path().clone();
            (error.into_inner().to_string(), path)
        })))
    }
}

/// The parts of serde's and the decoder's texts that hold nothing of the record.
fn without_values(text: &str) -> (String, Kind) {
    let text = text.strip_prefix("Failed to deserialize Avro value into value: ").unwrap_or(text);
    if ["missing field `", "duplicate field `", NO_VARIANT].iter().any(|known| text.starts_with(known)) {
        return (text.to_owned(), Kind::Shape);
    }
    let is_of_bytes = Problem::ALL.iter().any(|problem| problem.to_string() == text);
    if is_of_bytes || [LEFT_OVER, OUT_OF_RANGE].contains(&text) {
        return (text.to_owned(), Kind::Value);
    }
    if let Some((found, expected)) = text.rsplit_once(", expected ") {
        let is_of_shape = ["invalid type", "unknown"].iter().any(|start| found.starts_with(start));
        let kind = if is_of_shape { Kind::Shape } else { Kind::Value };
        return (format!("it is not {expected}"), kind);
    }
    ("the handler's type does not take it".to_owned(), Kind::Value)
}

/// What text a sample stands for, and which one of its own the type would take there.
fn proposal(text: &str) -> Option<(usize, String)> {
    let (_, found) = text.split_once("unknown variant `")?;
    let (number, expected) = found.strip_prefix(SAMPLE)?.split_once("`, expected ")?;
    let name = expected.split('`').nth(1)?;
    Some((number.parse().ok()?, name.to_owned()))
}

/// A path of field names and indices. The keys of a map are data and stay out.
fn place(path: &serde_path_to_error::Path, plan: &Plan) -> Place {
    use serde_path_to_error::Segment;
    let mut text = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => text += &format!("[{index}]"),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                push(&mut text, if plan.has_name(key) { key } else { "*" });
            }
            Segment::Unknown => {}
        }
    }
    Place(Some(text).filter(|text| !text.is_empty()))
}

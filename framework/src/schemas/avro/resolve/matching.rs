//! Holds a writer's schema against a reader's.

use super::super::plan::{Field, Kind, Logical, Node, Place, Plan, Symbols};
use super::{Fields, Number, Step, default};
use std::collections::HashMap;

pub(super) struct Matching<'p> {
    writer: &'p Plan,
    reader: &'p Plan,
    steps: Vec<Step>,
    /// The step of two types, also while it is being found out: a type may be in itself.
    known: HashMap<(Place, Place), Number>,
    /// In which order they became known.
    pairs: Vec<(Place, Place)>,
}

impl<'p> Matching<'p> {
    pub(super) fn new(writer: &'p Plan, reader: &'p Plan) -> Self {
        Self { writer, reader, steps: Vec::new(), known: HashMap::new(), pairs: Vec::new() }
    }

    /// All steps, the first one for the whole.
    pub(super) fn all(mut self) -> Result<Vec<Step>, String> {
        self.step(Plan::ROOT, Plan::ROOT)?;
        Ok(self.steps)
    }

    fn step(&mut self, writer: Place, reader: Place) -> Result<Number, String> {
        if let Some(known) = self.known.get(&(writer, reader)) {
            return Ok(*known);
        }
        let (number, before) = (self.steps.len(), self.pairs.len());
        self.steps.push(Step::Copy(writer));
        self.known.insert((writer, reader), number);
        self.pairs.push((writer, reader));
        match self.find(writer, reader) {
            Ok(step) => {
                self.steps[number] = step;
                Ok(number)
            }
            Err(problem) => {
                // What was found meanwhile may rest on this.
                for pair in self.pairs.split_off(before) {
                    self.known.remove(&pair);
                }
                Err(problem)
            }
        }
    }

    fn find(&mut self, writer: Place, reader: Place) -> Result<Step, String> {
        let (from, to) = (self.writer.node(writer), self.reader.node(reader));
        if let Kind::Union(branches) = &from.kind {
            return self.each_branch(branches, reader);
        }
        if let Kind::Union(branches) = &to.kind {
            return self.any_branch(writer, branches);
        }
        if !logical_fits(from, to) {
            return Err(format!("{} is not read as {}", said(from), said(to)));
        }
        Ok(match (&from.kind, &to.kind) {
            (Kind::Null, Kind::Null)
            | (Kind::Boolean, Kind::Boolean)
            | (Kind::Int, Kind::Int | Kind::Long)
            | (Kind::Long, Kind::Long)
            | (Kind::Float, Kind::Float)
            | (Kind::Double, Kind::Double)
            | (Kind::Bytes | Kind::String, Kind::Bytes | Kind::String) => Step::Copy(writer),
            (Kind::Fixed(from), Kind::Fixed(to)) if from == to => Step::Copy(writer),
            (Kind::Int, Kind::Float) => Step::IntToFloat,
            (Kind::Int, Kind::Double) => Step::IntToDouble,
            (Kind::Long, Kind::Float) => Step::LongToFloat,
            (Kind::Long, Kind::Double) => Step::LongToDouble,
            (Kind::Float, Kind::Double) => Step::FloatToDouble,
            (Kind::Enum(from), Kind::Enum(to)) => symbols(from, to)?,
            (Kind::Array(items), Kind::Array(reader)) => {
                Step::List { items: *items, has_keys: false, step: self.step(*items, *reader)? }
            }
            (Kind::Map(items), Kind::Map(reader)) => {
                Step::List { items: *items, has_keys: true, step: self.step(*items, *reader)? }
            }
            (Kind::Record(from), Kind::Record(to)) => self.record(from, to)?,
            _ => return Err(format!("{} is not read as {}", said(from), said(to))),
        })
    }

    fn each_branch(&mut self, branches: &[Place], reader: Place) -> Result<Step, String> {
        let steps: Vec<_> = branches.iter().map(|branch| self.step(*branch, reader)).collect();
        match steps.iter().find(|step| step.is_ok()) {
            Some(_) => Ok(Step::Union(steps.into())),
            None => {
                Err(steps.into_iter().find_map(Result::err).unwrap_or_else(|| "a union has no branch".into()))
            }
        }
    }

    /// The branch of the same name or kind comes before those that it is promoted to.
    fn any_branch(&mut self, writer: Place, branches: &[Place]) -> Result<Step, String> {
        let from = self.writer.node(writer);
        let is_same = |to: &Node| match (&from.name, &to.name) {
            (Some(from), Some(to)) => from == to,
            (None, None) => std::mem::discriminant(&from.kind) == std::mem::discriminant(&to.kind),
            _ => false,
        };
        let is_other = |to: &Node| match &from.name {
            Some(name) => {
                to.name.as_ref().is_some_and(|to| short(to) == short(name)) || to.aliases.contains(name)
            }
            None => to.name.is_none(),
        };
        let mut problem = format!("the reader's union has no branch for {}", said(from));
        for fits in [&is_same as &dyn Fn(&Node) -> bool, &is_other] {
            for (number, branch) in branches.iter().enumerate() {
                if !fits(self.reader.node(*branch)) {
                    continue;
                }
                match self.step(writer, *branch) {
                    Ok(step) => return Ok(Step::Branch(number, step)),
                    Err(inner) if from.name.is_some() => problem = inner,
                    Err(_) => {}
                }
            }
        }
        Err(problem)
    }

    fn record(&mut self, from: &[Field], to: &[Field]) -> Result<Step, String> {
        let mut taken = vec![None; from.len()];
        let mut defaults = Vec::with_capacity(to.len());
        for (number, field) in to.iter().enumerate() {
            let names = std::iter::once(&field.name).chain(&field.aliases);
            let found = names.filter_map(|name| from.iter().position(|written| written.name == *name)).next();
            match (found, &field.default) {
                (Some(written), _) if taken[written].is_some() => {
                    return Err(format!(
                        "two fields of the reader's take the field `{}`",
                        from[written].name
                    ));
                }
                (Some(written), _) => {
                    let step = self.step(from[written].place, field.place);
                    let step = step.map_err(|problem| format!("field `{}`: {problem}", field.name))?;
                    taken[written] = Some((number, step));
                    defaults.push(None);
                }
                (None, Some(json)) => {
                    let bytes = default::encoded(self.reader, field.place, json);
                    defaults
                        .push(Some(bytes.map_err(|problem| format!("field `{}`: {problem}", field.name))?));
                }
                (None, None) => {
                    return Err(format!(
                        "the reader's field `{}` is not in it, and has no default",
                        field.name
                    ));
                }
            }
        }
        let order: Vec<_> = taken.iter().flatten().map(|(number, _)| *number).collect();
        let written = from.iter().zip(taken).map(|(field, taken)| (field.name.clone(), field.place, taken));
        Ok(Step::Record(Fields {
            written: written.collect(),
            defaults: defaults.into(),
            is_in_order: order.is_sorted(),
        }))
    }
}

fn symbols(from: &Symbols, to: &Symbols) -> Result<Step, String> {
    let read = |symbol| to.names.iter().position(|known| known == symbol).or(to.default);
    let symbols: Box<[_]> = from.names.iter().map(read).collect();
    if symbols.iter().all(Option::is_none) {
        return Err("the reader's enum has none of its symbols, and no default".to_owned());
    }
    Ok(Step::Enum(symbols))
}

/// Whether the numbers or bytes of the one are those of the other. What says nothing of them is
/// read as anything.
fn logical_fits(from: &Node, to: &Node) -> bool {
    let is_of_number = |logical| !matches!(logical, Logical::Uuid);
    match (from.logical, to.logical) {
        (Some(from), Some(to)) => from == to || !(is_of_number(from) && is_of_number(to)),
        _ => true,
    }
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// A type in a sentence.
fn said(node: &Node) -> String {
    match &node.name {
        Some(name) => format!("`{name}`"),
        None => node.branch_names().next().unwrap_or_default().to_lowercase(),
    }
}

//! What the specification calls schema resolution: makes of a datum that was written by one schema
//! the datum that a reader's schema has for it.
//!
//! `apache-avro` resolves values, which do not know by which branch of a union they were written:
//! of two records with the same fields it takes the first. Here schemas are held against each
//! other once, and data follows.

mod default;
mod matching;
#[cfg(test)]
mod tests;

use super::Schema;
use super::input::deeper;
use super::plan::{Kind, Place, Plan};
use super::walk::{Checked, Problem, Step as Within, Walk, Wrong};
use matching::Matching;

/// How data of a writer's schema becomes that of a reader's.
#[derive(Debug)]
pub(super) enum Resolution {
    /// It is that already.
    Same,
    By(Vec<Step>),
}

/// A step, by its number.
pub(super) type Number = usize;

#[derive(Debug)]
pub(super) enum Step {
    /// The bytes mean the same.
    Copy(Place),
    IntToFloat,
    IntToDouble,
    LongToFloat,
    LongToDouble,
    FloatToDouble,
    /// Each symbol's number, where the reader has it or a default.
    Enum(Box<[Option<usize>]>),
    List {
        items: Place,
        has_keys: bool,
        step: Number,
    },
    Record(Fields),
    /// By what each branch of the writer's becomes the reader's.
    Union(Box<[Result<Number, String>]>),
    /// This branch of the reader's.
    Branch(usize, Number),
}

/// A field of the writer's: its name, its type, and the place of the reader's field that takes it.
type Written = (Box<str>, Place, Option<(usize, Number)>);

/// What becomes of a record's fields.
#[derive(Debug)]
pub(super) struct Fields {
    /// In their order.
    written: Box<[Written]>,
    /// What the reader's fields are that nobody wrote.
    defaults: Box<[Option<Vec<u8>>]>,
    /// Whether those that are taken come in the reader's order.
    is_in_order: bool,
}

impl Resolution {
    /// # Errors
    /// Says what the reader's schema cannot read.
    pub(super) fn of(writer: &Plan, reader: &Plan) -> Result<Self, String> {
        if writer.is_read_as(reader) {
            return Ok(Self::Same);
        }
        Matching::new(writer, reader).all().map(Self::By)
    }

    /// The reader's datum, of the writer's.
    pub(super) fn resolve(&self, writer: &Schema, datum: &[u8]) -> Checked<Vec<u8>> {
        let mut walk = Walk::new(&writer.plan, datum);
        let mut transcript = Transcript { most: most_of(datum), bytes: Vec::with_capacity(datum.len() + 64) };
        match self {
            Self::Same => transcript.copy(Plan::ROOT, &mut walk, 0)?,
            Self::By(steps) => transcript.write(steps, 0, &mut walk, 0)?,
        }
        if walk.rest.is_empty() { Ok(transcript.bytes) } else { Err(Problem::Behind.into()) }
    }
}

/// Defaults come of no bytes. More than this nobody makes of a datum.
fn most_of(datum: &[u8]) -> usize {
    datum.len().saturating_mul(64).saturating_add(1 << 20)
}

struct Transcript {
    bytes: Vec<u8>,
    most: usize,
}

impl Transcript {
    fn write(&mut self, steps: &[Step], number: Number, walk: &mut Walk<'_, '_>, depth: usize) -> Checked {
        match &steps[number] {
            Step::Copy(place) => self.copy(*place, walk, depth)?,
            Step::IntToFloat => self.put(&(walk.int()? as f32).to_le_bytes()),
            Step::IntToDouble => self.put(&f64::from(walk.int()?).to_le_bytes()),
            Step::LongToFloat => self.put(&(walk.long()? as f32).to_le_bytes()),
            Step::LongToDouble => self.put(&(walk.long()? as f64).to_le_bytes()),
            Step::FloatToDouble => self.put(&f64::from(walk.float()?).to_le_bytes()),
            Step::Enum(symbols) => match symbols[walk.index(symbols.len())?] {
                Some(symbol) => self.number(symbol),
                None => {
                    return Err(Wrong::of_shape("the reader's enum lacks its symbol, and has no default"));
                }
            },
            Step::Union(branches) => {
                let depth = deeper(depth)?;
                match &branches[walk.index(branches.len())?] {
                    Ok(step) => self.write(steps, *step, walk, depth)?,
                    Err(problem) => return Err(Wrong::of_shape(problem.clone())),
                }
            }
            Step::Branch(branch, step) => {
                self.number(*branch);
                self.write(steps, *step, walk, depth)?;
            }
            Step::List { items, has_keys, step } => {
                let depth = deeper(depth)?;
                self.list((*items, *has_keys), (steps, *step), walk, depth)?;
            }
            Step::Record(fields) => self.record(fields, steps, walk, deeper(depth)?)?,
        }
        if self.bytes.len() > self.most {
            return Err(Wrong::new("the defaults of the reader's schema make too much of it"));
        }
        Ok(())
    }

    fn copy(&mut self, place: Place, walk: &mut Walk<'_, '_>, depth: usize) -> Checked {
        let before = walk.rest;
        walk.over(place, depth)?;
        self.put(&before[..before.len() - walk.rest.len()]);
        Ok(())
    }

    fn list(
        &mut self,
        (items, has_keys): (Place, bool),
        (steps, step): (&[Step], Number),
        walk: &mut Walk<'_, '_>,
        depth: usize,
    ) -> Checked {
        let mut place = 0;
        loop {
            let count = walk.block(items, has_keys)?;
            self.number(count);
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                let within = |place| if has_keys { Within::Value } else { Within::Item(place) };
                if has_keys {
                    let key = walk.text().map_err(|wrong| wrong.within(Within::Value))?;
                    self.number(key.len());
                    self.put(key);
                }
                self.write(steps, step, walk, depth).map_err(|wrong| wrong.within(within(place)))?;
                place += 1;
            }
        }
    }

    fn record(&mut self, fields: &Fields, steps: &[Step], walk: &mut Walk<'_, '_>, depth: usize) -> Checked {
        let mut parts = vec![None; if fields.is_in_order { 0 } else { fields.defaults.len() }];
        let mut next = 0;
        for (name, place, taken) in &fields.written {
            let begin = self.bytes.len();
            let written = match taken {
                None => walk.over(*place, depth),
                Some((number, step)) if fields.is_in_order => {
                    self.defaults(&fields.defaults[next..*number]);
                    next = number + 1;
                    self.write(steps, *step, walk, depth)
                }
                Some((number, step)) => {
                    let written = self.write(steps, *step, walk, depth);
                    parts[*number] = Some(self.bytes.split_off(begin));
                    written
                }
            };
            written.map_err(|wrong| wrong.within(Within::Field(name.clone())))?;
        }
        if fields.is_in_order {
            self.defaults(&fields.defaults[next..]);
        } else {
            for (part, default) in parts.iter().zip(&fields.defaults) {
                self.put(part.as_ref().or(default.as_ref()).map_or(&[], |bytes| &bytes[..]));
            }
        }
        Ok(())
    }

    fn defaults(&mut self, defaults: &[Option<Vec<u8>>]) {
        defaults.iter().flatten().for_each(|default| self.put(default));
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn number(&mut self, number: usize) {
        super::walk::put_long(number as i64, &mut self.bytes);
    }
}

impl Plan {
    /// Whether each datum of this schema is the same datum of the other: names, symbols and types
    /// are in the same order.
    fn is_read_as(&self, reader: &Self) -> bool {
        let nodes = self.nodes().iter().zip(reader.nodes());
        self.nodes().len() == reader.nodes().len()
            && nodes.into_iter().all(|(writer, reader)| {
                writer.logical == reader.logical
                    && writer.name == reader.name
                    && match (&writer.kind, &reader.kind) {
                        (Kind::Record(writer), Kind::Record(reader)) => {
                            let same = |(writer, reader): (&super::plan::Field, &super::plan::Field)| {
                                writer.name == reader.name && writer.place == reader.place
                            };
                            writer.len() == reader.len() && writer.iter().zip(reader).all(same)
                        }
                        (Kind::Enum(writer), Kind::Enum(reader)) => writer.names == reader.names,
                        (writer, reader) => writer == reader,
                    }
            })
    }
}

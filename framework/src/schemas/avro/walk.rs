//! Follows a datum through its schema, before anything is made of it.
//!
//! `apache-avro` takes what is missing for null, believes a length before it reads so much, and
//! goes as deep as the data does. So a datum is decoded only once it is known that each length,
//! number and index in it is one, that it ends where the bytes end, and how deep it goes.

use super::DEEPEST;
use super::plan::{Kind, Place, Plan};

/// What is wrong with a datum, and where.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) what: String,
    /// Whether schemas do not fit, whatever the value.
    pub(super) is_of_shape: bool,
    /// From the inside out.
    pub(super) steps: Vec<Step>,
}

/// A step into a datum.
#[derive(Debug)]
pub(super) enum Step {
    Field(Box<str>),
    Item(usize),
    /// A key is data.
    Value,
}

impl Wrong {
    #[cold]
    pub(super) fn new(what: impl Into<String>) -> Box<Self> {
        Box::new(Self { what: what.into(), is_of_shape: false, steps: Vec::new() })
    }

    #[cold]
    pub(super) fn of_shape(what: impl Into<String>) -> Box<Self> {
        Box::new(Self { what: what.into(), is_of_shape: true, steps: Vec::new() })
    }

    #[cold]
    pub(super) fn within(mut self: Box<Self>, step: Step) -> Box<Self> {
        self.steps.push(step);
        self
    }
}

pub(super) type Checked<T = ()> = Result<T, Box<Wrong>>;

/// Items that take no bytes may come of nothing; so many of them all lists of a datum may have.
const MOST_OF_NO_ROOM: usize = 1000;

/// Whether the bytes are one datum of the schema, and nothing else.
pub(super) fn check(plan: &Plan, datum: &[u8]) -> Checked {
    let mut walk = Walk::new(plan, datum);
    walk.over(Plan::ROOT, 0)?;
    if walk.rest.is_empty() { Ok(()) } else { Err(Wrong::new("there are bytes behind its end")) }
}

/// A place in a datum.
pub(super) struct Walk<'p, 'd> {
    plan: &'p Plan,
    pub(super) rest: &'d [u8],
    of_no_room: usize,
}

impl<'p, 'd> Walk<'p, 'd> {
    pub(super) fn new(plan: &'p Plan, datum: &'d [u8]) -> Self {
        Self { plan, rest: datum, of_no_room: 0 }
    }

    /// Goes over a value of this type.
    pub(super) fn over(&mut self, place: Place, depth: usize) -> Checked {
        match &self.plan.node(place).kind {
            Kind::Null => Ok(()),
            Kind::Boolean => self.boolean(),
            Kind::Int => self.int().map(drop),
            Kind::Long => self.long().map(drop),
            Kind::Float => self.take(4).map(drop),
            Kind::Double => self.take(8).map(drop),
            Kind::Bytes | Kind::String => self.text().map(drop),
            Kind::Fixed(size) => self.take(*size).map(drop),
            Kind::Enum(symbols) => self.index(symbols.names.len()).map(drop),
            Kind::Union(branches) => {
                let branch = self.index(branches.len())?;
                self.over(branches[branch], deeper(depth)?)
            }
            Kind::Record(fields) => {
                let depth = deeper(depth)?;
                for field in fields {
                    if let Err(wrong) = self.over(field.place, depth) {
                        return Err(wrong.within(Step::Field(field.name.clone())));
                    }
                }
                Ok(())
            }
            Kind::Array(items) => self.list(*items, false, depth),
            Kind::Map(values) => self.list(*values, true, depth),
        }
    }

    fn list(&mut self, items: Place, has_keys: bool, depth: usize) -> Checked {
        let depth = deeper(depth)?;
        let mut number = 0;
        loop {
            let count = self.block(items, has_keys)?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                if has_keys {
                    self.text().map_err(|wrong| wrong.within(Step::Value))?;
                }
                let step = || if has_keys { Step::Value } else { Step::Item(number) };
                self.over(items, depth).map_err(|wrong| wrong.within(step()))?;
                number += 1;
            }
        }
    }

    /// How many items the next block of a list has.
    pub(super) fn block(&mut self, items: Place, has_keys: bool) -> Checked<usize> {
        const TOO_LONG: &str = "it has a list that is longer than its bytes allow";
        let mut count = self.long()?;
        if count < 0 {
            // How many bytes they take is told too. Nobody has to believe it.
            self.long()?;
            count = count.checked_neg().ok_or_else(|| Wrong::new(TOO_LONG))?;
        }
        let count = usize::try_from(count).map_err(|_| Wrong::new(TOO_LONG))?;
        if has_keys || self.plan.node(items).takes_room {
            return if count <= self.rest.len() { Ok(count) } else { Err(Wrong::new(TOO_LONG)) };
        }
        self.of_no_room = self.of_no_room.saturating_add(count);
        if self.of_no_room > MOST_OF_NO_ROOM {
            return Err(Wrong::new(format!(
                "it has more than {MOST_OF_NO_ROOM} items in lists whose items take no room"
            )));
        }
        Ok(count)
    }

    pub(super) fn take(&mut self, count: usize) -> Checked<&'d [u8]> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(Wrong::new("its bytes end too early")),
        }
    }

    /// What stands behind its own length.
    pub(super) fn text(&mut self) -> Checked<&'d [u8]> {
        let length = self.long()?;
        match usize::try_from(length) {
            Ok(length) => self.take(length),
            Err(_) => Err(Wrong::new("its bytes are not what the schema says")),
        }
    }

    fn boolean(&mut self) -> Checked {
        match self.take(1)? {
            [0 | 1] => Ok(()),
            _ => Err(Wrong::new("its bytes are not what the schema says")),
        }
    }

    /// One of so many.
    pub(super) fn index(&mut self, count: usize) -> Checked<usize> {
        let index = usize::try_from(self.long()?).ok().filter(|index| *index < count);
        index.ok_or_else(|| Wrong::new("its bytes are not what the schema says"))
    }

    pub(super) fn int(&mut self) -> Checked<i32> {
        i32::try_from(self.long()?).map_err(|_| Wrong::new("its bytes are not what the schema says"))
    }

    pub(super) fn float(&mut self) -> Checked<f32> {
        let bytes = self.take(4)?;
        Ok(f32::from_le_bytes(bytes.try_into().expect("four were taken")))
    }

    #[inline]
    pub(super) fn long(&mut self) -> Checked<i64> {
        let number = match *self.rest {
            [byte, ref rest @ ..] if byte < 0x80 => {
                self.rest = rest;
                u64::from(byte)
            }
            _ => self.long_of_many()?,
        };
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn long_of_many(&mut self) -> Checked<u64> {
        let mut number = 0;
        for (place, byte) in self.rest.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                if place == 9 && *byte > 1 {
                    break;
                }
                self.rest = &self.rest[place + 1..];
                return Ok(number);
            }
        }
        Err(Wrong::new(match self.rest.len() {
            0..10 => "its bytes end too early",
            _ => "its bytes are not what the schema says",
        }))
    }
}

/// One level deeper.
#[inline]
pub(super) fn deeper(depth: usize) -> Checked<usize> {
    if depth < DEEPEST {
        Ok(depth + 1)
    } else {
        Err(Wrong::new(format!("it is nested more than {DEEPEST} deep")))
    }
}

/// Writes a number as Avro does.
pub(super) fn put_long(number: i64, bytes: &mut Vec<u8>) {
    let mut left = (number << 1 ^ number >> 63) as u64;
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
}

//! Follows a datum through its schema, without making anything of it.

use super::DEEPEST;
use super::input::deeper;
use super::plan::{Kind, Place, Plan};
use std::fmt;

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
pub(super) const MOST_OF_NO_ROOM: usize = 1000;

/// What is wrong with bytes, whatever is made of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    Short,
    Behind,
    LongList,
    ManyOfNoRoom,
    Deep,
    NoText,
    Other,
}

impl Problem {
    pub(super) const ALL: [Self; 7] = [
        Self::Short,
        Self::Behind,
        Self::LongList,
        Self::ManyOfNoRoom,
        Self::Deep,
        Self::NoText,
        Self::Other,
    ];
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("its bytes end too early"),
            Self::Behind => f.write_str("there are bytes behind its end"),
            Self::LongList => f.write_str("it has a list that is longer than its bytes allow"),
            Self::ManyOfNoRoom => {
                write!(f, "it has more than {MOST_OF_NO_ROOM} items in lists whose items take no room")
            }
            Self::Deep => write!(f, "it is nested more than {DEEPEST} deep"),
            Self::NoText => f.write_str("its bytes are no UTF-8"),
            Self::Other => f.write_str("its bytes are not what the schema says"),
        }
    }
}

impl From<Problem> for Box<Wrong> {
    fn from(problem: Problem) -> Self {
        Wrong::new(problem.to_string())
    }
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
        let mut count = self.long()?;
        if count < 0 {
            // How many bytes they take is told too. Nobody has to believe it.
            self.long()?;
            count = count.checked_neg().ok_or(Problem::LongList)?;
        }
        let count = usize::try_from(count).map_err(|_| Problem::LongList)?;
        if has_keys || self.plan.node(items).takes_room {
            return if count <= self.rest.len() { Ok(count) } else { Err(Problem::LongList.into()) };
        }
        self.of_no_room = self.of_no_room.saturating_add(count);
        if self.of_no_room > MOST_OF_NO_ROOM { Err(Problem::ManyOfNoRoom.into()) } else { Ok(count) }
    }

    pub(super) fn take(&mut self, count: usize) -> Checked<&'d [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Problem::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// What stands behind its own length.
    pub(super) fn text(&mut self) -> Checked<&'d [u8]> {
        let length = usize::try_from(self.long()?).map_err(|_| Problem::Other)?;
        self.take(length)
    }

    fn boolean(&mut self) -> Checked {
        match self.take(1)? {
            [0 | 1] => Ok(()),
            _ => Err(Problem::Other.into()),
        }
    }

    /// One of so many.
    pub(super) fn index(&mut self, count: usize) -> Checked<usize> {
        let index = usize::try_from(self.long()?).ok().filter(|index| *index < count);
        Ok(index.ok_or(Problem::Other)?)
    }

    pub(super) fn int(&mut self) -> Checked<i32> {
        Ok(i32::try_from(self.long()?).map_err(|_| Problem::Other)?)
    }

    pub(super) fn float(&mut self) -> Checked<f32> {
        let bytes = self.take(4)?;
        Ok(f32::from_le_bytes(bytes.try_into().expect("four were taken")))
    }

    pub(super) fn long(&mut self) -> Checked<i64> {
        let (number, length) = long_in(self.rest)?;
        self.rest = &self.rest[length..];
        Ok(number)
    }
}

/// The number that bytes begin with, and of how many of them it is made.
#[inline]
pub(super) fn long_in(bytes: &[u8]) -> Result<(i64, usize), Problem> {
    let (number, length) = match *bytes {
        [byte, ..] if byte < 0x80 => (u64::from(byte), 1),
        _ => long_of_many(bytes)?,
    };
    Ok(((number >> 1) as i64 ^ -((number & 1) as i64), length))
}

fn long_of_many(bytes: &[u8]) -> Result<(u64, usize), Problem> {
    let mut number = 0;
    for (place, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            // The tenth has one bit.
            return if place == 9 && *byte > 1 { Err(Problem::Other) } else { Ok((number, place + 1)) };
        }
    }
    Err(if bytes.len() < 10 { Problem::Short } else { Problem::Other })
}

/// Whether it is bytes behind their own length, and nothing else.
pub(super) fn is_delimited(datum: &[u8]) -> bool {
    long_in(datum).is_ok_and(|(length, prefix)| usize::try_from(length) == Ok(datum.len() - prefix))
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

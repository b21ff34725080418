//! The bytes of a datum while it is decoded: `apache-avro` goes through them from record to field
//! and from list to item, and values with nothing inside are taken from them directly.
//!
//! That crate believes a length before it has read so much, and copies each text twice. Here
//! nothing is taken that is not there.

use super::DEEPEST;
use super::walk::Problem;
use std::cell::Cell;
use std::io::Read;

/// A datum, and how far it is read.
pub(super) struct Input {
    bytes: Vec<u8>,
    at: Cell<usize>,
    of_no_room: Cell<usize>,
}

thread_local! {
    /// Used again by the next one.
    static BYTES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What is longer is not kept for the next one.
const LONGEST_KEPT: usize = 1 << 16;

impl Input {
    #[inline]
    pub(super) fn of(datum: &[u8]) -> Self {
        let mut bytes = BYTES.take();
        bytes.clear();
        bytes.extend_from_slice(datum);
        Self { bytes, at: Cell::new(0), of_no_room: Cell::new(0) }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at.get() == self.bytes.len()
    }

    #[inline]
    fn rest(&self) -> &[u8] {
        &self.bytes[self.at.get()..]
    }

    #[inline]
    pub(super) fn take(&self, count: usize) -> Result<&[u8], Problem> {
        let taken = self.rest().get(..count).ok_or(Problem::Short)?;
        self.at.set(self.at.get() + count);
        Ok(taken)
    }

    #[inline]
    pub(super) fn chunk<const N: usize>(&self) -> Result<[u8; N], Problem> {
        let chunk = self.rest().first_chunk().ok_or(Problem::Short)?;
        self.at.set(self.at.get() + N);
        Ok(*chunk)
    }

    #[inline]
    pub(super) fn long(&self) -> Result<i64, Problem> {
        let (number, length) = super::walk::long_in(self.rest())?;
        self.at.set(self.at.get() + length);
        Ok(number)
    }

    #[inline]
    pub(super) fn int(&self) -> Result<i32, Problem> {
        i32::try_from(self.long()?).map_err(|_| Problem::Other)
    }

    pub(super) fn boolean(&self) -> Result<bool, Problem> {
        match self.chunk()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Problem::Other),
        }
    }

    /// What stands behind its own length.
    #[inline]
    pub(super) fn delimited(&self) -> Result<&[u8], Problem> {
        let length = usize::try_from(self.long()?).map_err(|_| Problem::Other)?;
        self.take(length)
    }

    #[inline]
    pub(super) fn text(&self) -> Result<&str, Problem> {
        std::str::from_utf8(self.delimited()?).map_err(|_| Problem::NoText)
    }

    /// One of so many.
    #[inline]
    pub(super) fn index(&self, count: usize) -> Result<usize, Problem> {
        usize::try_from(self.long()?).ok().filter(|index| *index < count).ok_or(Problem::Other)
    }

    /// The same, without going on.
    #[inline]
    pub(super) fn next_index(&self, count: usize) -> Result<usize, Problem> {
        let before = self.at.get();
        let index = self.index(count);
        self.at.set(before);
        index
    }

    /// How many items come, at most: they are there, or take no room and are few.
    pub(super) fn next_block(&self, take_room: bool) -> Result<(), Problem> {
        let before = self.at.get();
        let count = self.long();
        self.at.set(before);
        self.check_block(count?.unsigned_abs(), take_room)
    }

    pub(super) fn check_block(&self, count: u64, take_room: bool) -> Result<(), Problem> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if take_room {
            return if count <= self.rest().len() { Ok(()) } else { Err(Problem::LongList) };
        }
        self.of_no_room.set(self.of_no_room.get().saturating_add(count));
        if self.of_no_room.get() > super::walk::MOST_OF_NO_ROOM { Err(Problem::ManyOfNoRoom) } else { Ok(()) }
    }
}

impl Drop for Input {
    #[inline]
    fn drop(&mut self) {
        if self.bytes.capacity() <= LONGEST_KEPT {
            BYTES.set(std::mem::take(&mut self.bytes));
        }
    }
}

/// One level deeper.
#[inline]
pub(super) fn deeper(depth: usize) -> Result<usize, Problem> {
    if depth < DEEPEST { Ok(depth + 1) } else { Err(Problem::Deep) }
}

/// What the decoder reads.
pub(super) struct Reader<'i>(pub(super) &'i Input);

impl Read for Reader<'_> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = self.0.rest();
        let count = buffer.len().min(rest.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.0.at.set(self.0.at.get() + count);
        Ok(count)
    }
}

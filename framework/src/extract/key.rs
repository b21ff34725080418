//! The key.

use super::{Context, FromRecord, Rejection};
use crate::Record;

/// The record's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<T>(pub T);

/// Implemented for the types that a key can be read as: text, bytes, a number in text, and all
/// types with [`Decode`](super::Decode). Take an `Option` of these if a record may have no key.
pub trait FromKey<'a>: Sized + Send {
    /// Reads it.
    ///
    /// # Errors
    /// If the key cannot be read as this type.
    fn from_key(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection>;

    /// Returns an error at startup if something is missing for it.
    ///
    /// # Errors
    /// One sentence with the fix.
    fn check(context: &Context) -> Result<(), String> {
        let _ = context;
        Ok(())
    }
}

impl<'a, T: FromKey<'a>> FromRecord<'a> for Key<T> {
    fn from_record(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        T::from_key(record, context).map(Key)
    }

    fn check(context: &Context) -> Result<(), String> {
        T::check(context)
    }
}

impl<'a> FromKey<'a> for &'a [u8] {
    fn from_key(record: Record<'a>, _: &'a Context) -> Result<Self, Rejection> {
        record.key().ok_or_else(|| Rejection::new("the record has no key; take `Key<Option<..>>`"))
    }
}

impl<'a> FromKey<'a> for &'a str {
    fn from_key(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        let key = <&[u8]>::from_key(record, context)?;
        std::str::from_utf8(key).map_err(|_| Rejection::new("the key is not UTF-8"))
    }
}

impl<'a> FromKey<'a> for Vec<u8> {
    fn from_key(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        <&[u8]>::from_key(record, context).map(<[u8]>::to_vec)
    }
}

impl<'a> FromKey<'a> for String {
    fn from_key(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        <&str>::from_key(record, context).map(str::to_owned)
    }
}

impl<'a, T: FromKey<'a>> FromKey<'a> for Option<T> {
    fn from_key(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
        record.key().map(|_| T::from_key(record, context)).transpose()
    }

    fn check(context: &Context) -> Result<(), String> {
        T::check(context)
    }
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl<'a> FromKey<'a> for $integer {
            fn from_key(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
                <&str>::from_key(record, context)?
                    .parse()
                    .map_err(|_| Rejection::new(concat!("the key is not the text of a number that fits ", stringify!($integer))))
            }
        }
    )*};
}

integers!(i32 i64 u32 u64);

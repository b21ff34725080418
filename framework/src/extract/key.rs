//! The key.

use super::{Context, FromRecord, Rejection};
use crate::Record;

/// The record's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<T>(pub T);

/// What a key can be read as.
pub trait FromKey<'a>: Sized + Send {
    /// Reads it.
    ///
    /// # Errors
    /// Says what the key is not.
    fn from_key(key: Option<&'a [u8]>) -> Result<Self, Rejection>;
}

impl<'a, T: FromKey<'a>> FromRecord<'a> for Key<T> {
    fn from_record(record: Record<'a>, _: &'a Context) -> Result<Self, Rejection> {
        T::from_key(record.key()).map(Key)
    }
}

impl<'a> FromKey<'a> for &'a [u8] {
    fn from_key(key: Option<&'a [u8]>) -> Result<Self, Rejection> {
        key.ok_or_else(|| Rejection::new("the record has no key; take `Key<Option<..>>`"))
    }
}

impl<'a> FromKey<'a> for &'a str {
    fn from_key(key: Option<&'a [u8]>) -> Result<Self, Rejection> {
        std::str::from_utf8(<&[u8]>::from_key(key)?).map_err(|_| Rejection::new("the key is not UTF-8"))
    }
}

impl<'a> FromKey<'a> for Vec<u8> {
    fn from_key(key: Option<&'a [u8]>) -> Result<Self, Rejection> {
        <&[u8]>::from_key(key).map(<[u8]>::to_vec)
    }
}

impl<'a> FromKey<'a> for String {
    fn from_key(key: Option<&'a [u8]>) -> Result<Self, Rejection> {
        <&str>::from_key(key).map(str::to_owned)
    }
}

impl<'a, T: FromKey<'a>> FromKey<'a> for Option<T> {
    fn from_key(key: Option<&'a [u8]>) -> Result<Self, Rejection> {
        key.map(|key| T::from_key(Some(key))).transpose()
    }
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl<'a> FromKey<'a> for $integer {
            fn from_key(key: Option<&'a [u8]>) -> Result<Self, Rejection> {
                <&str>::from_key(key)?
                    .parse()
                    .map_err(|_| Rejection::new(concat!("the key is not the text of a number that fits ", stringify!($integer))))
            }
        }
    )*};
}

integers!(i32 i64 u32 u64);

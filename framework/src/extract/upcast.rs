//! Old versions of an event, converted to today's type.

use super::{Context, Decode, Encoded, Rejection};
use crate::error::BoxError;
use crate::error::lookup::Part;
use std::convert::Infallible;

/// The event in today's type, whatever version the record has. Old versions are decoded as
/// their old types, and plain functions convert each version to the next.
///
/// [`versions!`](crate::versions) lists them. `Key<Upcast<..>>`, `Option<Upcast<..>>` and
/// [`Batch<Upcast<..>>`](super::Batch) work as with any format.
///
/// A record is rejected if its version is missing or not in the list, or if a function returns
/// an error.
///
/// ```
/// use onceward::prelude::*;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct OrderV1 {
///     total: f64,
/// }
///
/// #[derive(Deserialize)]
/// struct OrderV2 {
///     cents: i64,
/// }
///
/// #[derive(Deserialize)]
/// struct Order {
///     cents: i64,
///     currency: String,
/// }
///
/// fn in_cents(old: OrderV1) -> Result<OrderV2, &'static str> {
///     let cents = (old.total * 100.0).round();
///     if cents.abs() < 1e15 { Ok(OrderV2 { cents: cents as i64 }) } else { Err("the total is no amount of money") }
/// }
///
/// fn in_euros(old: OrderV2) -> Order {
///     Order { cents: old.cents, currency: "EUR".into() }
/// }
///
/// onceward::versions! {
///     Order by header "order-version", else 1;
///     1 => OrderV1;
///     2 => OrderV2 from in_cents;
///     3 => Order from in_euros;
/// }
///
/// #[handler(topic = "orders", group = "billing")]
/// async fn on_order(Upcast(Json(order)): Upcast<Json<Order>>) -> HandlerResult {
///     println!("{} {}", order.cents, order.currency);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upcast<F>(pub F);

/// Where a record has the version of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VersionSource {
    /// In this header, as text: `2` or `v2`.
    Header(&'static str),
    /// In this field at the top level of JSON: `2`, `"2"` or `"v2"`.
    #[cfg(feature = "json")]
    Field(&'static str),
    /// Its schema is this version of its subject in the schema registry. The subject is
    /// `TOPIC-value`, or `TOPIC-key`, else the one of the record's name, with the topic before it
    /// or without. A version that is not in the list belongs to the newest one before it, so a
    /// schema that gets a field with a default needs no new type.
    #[cfg(feature = "schemas")]
    Schema,
}

/// One version of an event, as [`versions!`](crate::versions) makes it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no version of an event",
    label = "not in a list of versions",
    note = "list the event's versions with `onceward::versions! {{ .. }}`"
)]
pub trait Version: Sized {
    /// Its number.
    const VERSION: u32;

    /// The version before; none of the first.
    type Previous;

    /// Makes it of the version before.
    ///
    /// # Errors
    /// Says why that has none. It counts as a permanent failure.
    fn upcast(previous: Self::Previous) -> Result<Self, BoxError>;
}

/// The newest version of an event, as [`versions!`](crate::versions) makes it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the newest version of an event",
    label = "not the first name of a list of versions",
    note = "list the event's versions with `onceward::versions! {{ {Self} by header \"..\"; 1 => ..; }}`"
)]
pub trait Versioned: Version {
    /// Where a record says which version it is.
    const SOURCE: VersionSource;

    /// What it is where it does not say so.
    const ELSE: Option<u32> = None;
}

/// A format that can decode to any type. [`Upcast`] decodes each version with it.
///
/// ```
/// use onceward::extract::{Context, Decode, Encoded, Format, Rejection};
/// # #[derive(serde::Deserialize)] struct T;
///
/// struct MessagePack<T>(T);
///
/// impl<T> Format for MessagePack<T> {
///     type Value = T;
///     type Of<U> = MessagePack<U>;
///
///     fn new(value: T) -> Self {
///         Self(value)
///     }
///
///     fn into_value(self) -> T {
///         self.0
///     }
/// }
/// ```
pub trait Format {
    /// What it holds.
    type Value;

    /// The same format with another type.
    type Of<U>;

    /// Whether it is JSON, so that a field can be read before the type is known.
    const IS_JSON: bool = false;

    /// Whether a schema registry has its schema.
    const HAS_SCHEMA: bool = false;

    /// Puts a value in.
    fn new(value: Self::Value) -> Self;

    /// Takes the value out.
    fn into_value(self) -> Self::Value;
}

/// Implemented for all types that an upcasting function may return: the next version, or a
/// `Result` of it.
#[diagnostic::on_unimplemented(
    message = "a function that makes `{V}` returned `{Self}`",
    label = "not the next version",
    note = "it is `fn(Previous) -> {V}` or `fn(Previous) -> Result<{V}, E>`"
)]
pub trait IntoVersion<V> {
    /// Converts it.
    ///
    /// # Errors
    /// The function's own.
    fn into_version(self) -> Result<V, BoxError>;
}

impl<V: Version> IntoVersion<V> for V {
    fn into_version(self) -> Result<V, BoxError> {
        Ok(self)
    }
}

impl<V: Version, E: Into<BoxError>> IntoVersion<V> for Result<V, E> {
    fn into_version(self) -> Result<V, BoxError> {
        self.map_err(Into::into)
    }
}

/// A version with all before it, in a format.
pub trait Chain<'a, F>: Sized {
    /// Whether this version is among them.
    fn has(version: u32) -> bool;

    /// Decodes as the newest version that is not newer than this one.
    #[doc(hidden)]
    fn decode(version: u32, encoded: Encoded<'a>, context: &'a Context) -> Result<Self, Rejection>;

    /// Checks each version's extractor, the oldest first.
    #[doc(hidden)]
    fn check(part: Part, context: &Context) -> Result<(), String>;

    /// Their numbers, the oldest first.
    #[doc(hidden)]
    fn numbers() -> Vec<u32>;
}

impl<'a, F, V> Chain<'a, F> for V
where
    F: Format,
    V: Version,
    F::Of<V>: Decode<'a> + Format<Value = V>,
    V::Previous: Chain<'a, F>,
{
    fn has(version: u32) -> bool {
        version == V::VERSION || V::Previous::has(version)
    }

    fn decode(version: u32, encoded: Encoded<'a>, context: &'a Context) -> Result<Self, Rejection> {
        if version >= V::VERSION {
            return F::Of::<V>::decode(encoded, context).map(Format::into_value);
        }
        V::upcast(V::Previous::decode(version, encoded, context)?).map_err(Rejection::new)
    }

    fn check(part: Part, context: &Context) -> Result<(), String> {
        V::Previous::check(part, context)?;
        F::Of::<V>::check(part, context)
    }

    fn numbers() -> Vec<u32> {
        let mut numbers = V::Previous::numbers();
        numbers.push(V::VERSION);
        numbers
    }
}

/// Before the first version there is none.
impl<'a, F> Chain<'a, F> for Infallible {
    fn has(_: u32) -> bool {
        false
    }

    fn decode(version: u32, _: Encoded<'a>, _: &'a Context) -> Result<Self, Rejection> {
        Err(Rejection::new(format!("its version is {version}, older than any that the handler's type has")))
    }

    fn check(_: Part, _: &Context) -> Result<(), String> {
        Ok(())
    }

    fn numbers() -> Vec<u32> {
        Vec::new()
    }
}

impl<'a, F> Decode<'a> for Upcast<F>
where
    F: Format + Send,
    F::Value: Versioned + Chain<'a, F>,
{
    fn decode(encoded: Encoded<'a>, context: &'a Context) -> Result<Self, Rejection> {
        encoded.required()?;
        let version = version_of::<F>(encoded, context)?;
        <F::Value as Chain<'a, F>>::decode(version, encoded, context).map(F::new).map(Upcast)
    }

    fn check(part: Part, context: &Context) -> Result<(), String> {
        match F::Value::SOURCE {
            #[cfg(feature = "json")]
            VersionSource::Field(name) if !F::IS_JSON => Err(format!(
                "its versions are told apart by field `{name}`, which can be read of JSON only; tell them apart by \
                 a header or by schema"
            )),
            #[cfg(feature = "schemas")]
            VersionSource::Schema if !F::HAS_SCHEMA => Err(
                "its versions are told apart by schema, and no schema registry has its format's; tell them \
                     apart by a header or a field"
                    .into(),
            ),
            #[cfg(feature = "schemas")]
            source => context.note_versions(
                <F::Value as Chain<'a, F>>::numbers(),
                source == VersionSource::Schema,
                || <F::Value as Chain<'a, F>>::check(part, context),
            ),
            #[cfg(not(feature = "schemas"))]
            _ => <F::Value as Chain<'a, F>>::check(part, context),
        }
    }
}

/// Which version a record says that it is.
fn version_of<'a, F>(encoded: Encoded<'a>, context: &Context) -> Result<u32, Rejection>
where
    F: Format,
    F::Value: Versioned + Chain<'a, F>,
{
    let _ = context;
    let (place, said) = match F::Value::SOURCE {
        VersionSource::Header(name) => {
            let value = encoded.record().headers().get(name);
            (format!("header `{name}`"), value.map(String::from_utf8_lossy))
        }
        #[cfg(feature = "json")]
        VersionSource::Field(name) => {
            let value = crate::record::json_field::text_or_number(json_in(encoded.required()?), name);
            (format!("field `{name}`"), value)
        }
        #[cfg(feature = "schemas")]
        VersionSource::Schema => return context.version_by_schema(encoded),
    };
    let version = match said {
        Some(said) => number_in(&said),
        None => Some(
            F::Value::ELSE
                .ok_or_else(|| Rejection::new(format!("it has no {place}, which says its version")))?,
        ),
    };
    version.filter(|version| <F::Value as Chain<'a, F>>::has(*version)).ok_or_else(|| {
        let numbers = <F::Value as Chain<'a, F>>::numbers();
        Rejection::new(format!(
            "its {place} says a version that is none of {numbers:?}, which the handler's type has"
        ))
    })
}

fn number_in(version: &str) -> Option<u32> {
    let version = version.trim();
    version.strip_prefix(['v', 'V']).unwrap_or(version).parse().ok()
}

/// JSON, without the schema's id that may stand before it.
#[cfg(feature = "json")]
fn json_in(bytes: &[u8]) -> &[u8] {
    match bytes {
        [0, _, _, _, _, json @ ..] => json,
        json => json,
    }
}

/// Lists the versions of an event, for [`Upcast`](crate::extract::Upcast): the newest version's
/// type and [where a record says which it is](crate::extract::VersionSource), then each version
/// with its type, and from the second on the function that makes it of the version before.
///
/// `by header "NAME"`, `by field "NAME"` or `by schema`. `, else N` behind the first two is for
/// records that do not say: those of before there were versions.
///
/// ```
/// # use serde::Deserialize;
/// # #[derive(Deserialize)] struct OrderV1 { total: i64 }
/// #[derive(Deserialize)]
/// struct Order {
///     total: i64,
///     currency: String,
/// }
///
/// fn in_euros(old: OrderV1) -> Order {
///     Order { total: old.total, currency: "EUR".into() }
/// }
///
/// onceward::versions! {
///     Order by field "version", else 1;
///     1 => OrderV1;
///     2 => Order from in_euros;
/// }
/// ```
///
/// Numbers that do not ascend, a function of other types, and a list that does not end with the
/// newest version do not compile:
///
/// ```compile_fail
/// # #[derive(serde::Deserialize)] struct OrderV1;
/// # #[derive(serde::Deserialize)] struct Order;
/// # fn newer(_: OrderV1) -> Order { Order }
/// onceward::versions! {
///     Order by header "version";
///     2 => OrderV1;
///     1 => Order from newer;
/// }
/// ```
#[macro_export]
macro_rules! versions {
    ($newest:ident by header $name:literal $(, else $else:literal)?; $($list:tt)+) => {
        $crate::versions!(@newest $newest, $crate::extract::VersionSource::Header($name) $(, $else)?);
        $crate::versions!(@list $newest, $($list)+);
    };
    ($newest:ident by field $name:literal $(, else $else:literal)?; $($list:tt)+) => {
        $crate::versions!(@newest $newest, $crate::extract::VersionSource::Field($name) $(, $else)?);
        $crate::versions!(@list $newest, $($list)+);
    };
    ($newest:ident by schema; $($list:tt)+) => {
        $crate::versions!(@newest $newest, $crate::extract::VersionSource::Schema);
        $crate::versions!(@list $newest, $($list)+);
    };
    (@newest $newest:ident, $source:expr $(, $else:literal)?) => {
        impl $crate::extract::Versioned for $newest {
            const SOURCE: $crate::extract::VersionSource = $source;
            $(const ELSE: ::core::option::Option<u32> = ::core::option::Option::Some($else);)?
        }
    };
    (@list $newest:ident, $number:literal => $first:ident; $($rest:tt)*) => {
        impl $crate::extract::Version for $first {
            const VERSION: u32 = $number;
            type Previous = ::core::convert::Infallible;

            fn upcast(
                previous: ::core::convert::Infallible,
            ) -> ::core::result::Result<Self, $crate::BoxError> {
                match previous {}
            }
        }
        $crate::versions!(@next $newest, $first; $($rest)*);
    };
    (@next $newest:ident, $previous:ident; $number:literal => $version:ident from $function:path; $($rest:tt)*) => {
        impl $crate::extract::Version for $version {
            const VERSION: u32 = $number;
            type Previous = $previous;

            fn upcast(previous: $previous) -> ::core::result::Result<Self, $crate::BoxError> {
                $crate::extract::IntoVersion::into_version($function(previous))
            }
        }
        const _: () = assert!(
            <$previous as $crate::extract::Version>::VERSION < $number,
            "the numbers of versions ascend"
        );
        $crate::versions!(@next $newest, $version; $($rest)*);
    };
    (@next $newest:ident, $last:ident;) => {
        const _: fn($last) -> $newest = |last| last;
    };
}

#[cfg(all(test, feature = "json", feature = "testing"))]
mod tests {
    use super::*;
    use crate::extract::{FromRecord, Json, Key};
    use crate::testing::{InMemoryRecord, TestRecord};
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct V1 {
        total: i64,
    }

    #[derive(Deserialize)]
    struct V3 {
        cents: i64,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Order {
        cents: i64,
        currency: String,
    }

    fn cents(old: V1) -> Result<V3, &'static str> {
        Ok(V3 { cents: old.total.checked_mul(100).ok_or("too much")? })
    }

    fn euros(old: V3) -> Order {
        Order { cents: old.cents, currency: "EUR".into() }
    }

    versions! {
        Order by header "version", else 1;
        1 => V1;
        3 => V3 from cents;
        4 => Order from euros;
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Paid {
        n: i64,
    }

    versions! {
        Paid by field "version";
        2 => Paid;
    }

    fn read(headers: &[(&str, &str)], payload: &str) -> Result<Order, String> {
        let record =
            headers.iter().fold(TestRecord::new(payload), |record, (name, value)| record.header(name, value));
        let (record, context) = (InMemoryRecord::from(record), Context::default());
        let read = Option::<Upcast<Json<Order>>>::from_record(record.record(), &context);
        read.map(|order| order.expect("no tombstone").0.0)
            .map_err(|rejection| crate::HandlerError::from(rejection).to_string())
    }

    fn order(cents: i64, currency: &str) -> Result<Order, String> {
        Ok(Order { cents, currency: currency.into() })
    }

    #[test]
    fn each_version_goes_through_all_functions_behind_it() {
        let old = r#"{"total": 5}"#;
        assert_eq!(read(&[], old), order(500, "EUR"));
        assert_eq!(read(&[("version", "1")], old), order(500, "EUR"));
        assert_eq!(read(&[("version", "v3")], r#"{"cents": 7}"#), order(7, "EUR"));
        assert_eq!(read(&[("version", "4")], r#"{"cents": 7, "currency": "USD"}"#), order(7, "USD"));
    }

    #[test]
    fn what_is_none_of_the_versions_is_rejected() {
        for version in ["0", "2", "5", "", "one", "-1", "99999999999"] {
            let problem =
                read(&[("version", version)], r#"{"total": 5, "cents": 5, "currency": "USD"}"#).unwrap_err();
            assert!(problem.contains("none of [1, 3, 4]"), "{problem}");
        }
        // A version is decoded as itself, not as what it might fit too.
        let problem = read(&[("version", "1")], r#"{"cents": 5, "currency": "USD"}"#).unwrap_err();
        assert!(problem.contains("missing field `total`"), "{problem}");
        assert_eq!(read(&[], &format!(r#"{{"total": {}}}"#, i64::MAX)), Err("too much".into()));
    }

    #[test]
    fn a_field_says_the_version_too_also_of_a_key() {
        let read = |key: &str| {
            let record = InMemoryRecord::from(TestRecord::new("").key(key));
            let context = Context::default();
            let read = Key::<Upcast<Json<Paid>>>::from_record(record.record(), &context);
            read.map(|Key(Upcast(Json(paid)))| paid.n)
                .map_err(|rejection| crate::HandlerError::from(rejection).to_string())
        };
        for version in ["2", "\"2\"", "\"v2\""] {
            assert_eq!(read(&format!(r#"{{"n": 1, "version": {version}}}"#)), Ok(1));
        }
        assert!(read(r#"{"n": 1}"#).unwrap_err().contains("no field `version`"));
        assert!(read(r#"{"n": 1, "version": [2]}"#).unwrap_err().contains("no field `version`"));
        assert!(read(r#"{"n": 1, "version": 3}"#).unwrap_err().contains("none of [2]"));
    }
}

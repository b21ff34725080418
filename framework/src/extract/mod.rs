//! The arguments of handlers, taken from a record.
//!
//! | argument | what it is | rejected if |
//! |---|---|---|
//! | [`Json<T>`](Json) | the payload, decoded | it is not JSON of a `T`; null, unless `T` is an `Option` |
//! | `Avro<T>` | the payload, decoded from Avro with its schema (feature `avro`) | its schema is unknown; it does not fit its schema or `T`; null, unless `T` is an `Option` |
//! | `ResolvedAvro<T>` | the same, resolved to the schema that `T` declares (feature `avro`) | as `Avro<T>`; its schema does not resolve to that one; null, unless `Option<ResolvedAvro<T>>` |
//! | `Protobuf<T>` | the payload, a Protobuf message (feature `protobuf`) | its schema is unknown; it is another message; null, unless `Option<Protobuf<T>>` |
//! | `JsonSchema<T>` | the payload, JSON checked against its schema (feature `json-schema`) | its schema is unknown; it does not fit its schema or `T`; null, unless `T` is an `Option` |
//! | [`CloudEvent<F>`](CloudEvent) | a CloudEvent's attributes, and its data in a format `F` of these | an attribute is missing; the data is rejected as by `F`; there is none, unless `F` is in an `Option` |
//! | [`Bytes`] | the payload, copied | null, unless `Option<Bytes>` |
//! | `&[u8]` | the payload, borrowed | null, unless `Option<&[u8]>` |
//! | [`Upcast<F>`](Upcast) | the payload in a format `F` of these, old versions converted to today's type | as `F`; its version is missing or unknown |
//! | any other [`Decode`] | the payload in a format of your own | its `decode` returns an error; null, unless in an `Option` |
//! | [`Key<T>`](Key) | the key as `String`, `&str`, `Vec<u8>`, `&[u8]`, an integer in text, one of the formats above, or an `Option` of these | it is missing or not a `T` |
//! | [`Headers`] | all headers | never |
//! | [`Record`] | the record itself | never |
//! | [`Position`] | topic, partition, offset, timestamp | never |
//! | [`Attempt`] | the number of this attempt, starting with 1 | never |
//! | [`State<T>`](State) | a clone of the value of [`App::state`](crate::App::state) | at startup, if no `T` was given |
//! | [`Publisher`] | publishes records in the middle of the handler | never |
//! | `&mut Tx` | the record's PostgreSQL transaction | at startup, if no database is set |
//! | [`Batch<E>`](Batch) | one `E` per record of a run | as `E`, for the single record |
//!
//! A rejected record fails permanently: the same bytes cannot be decoded later either. Records
//! are decoded before their transaction begins.

#[cfg(feature = "avro")]
mod avro;
pub(crate) mod batch;
#[cfg(feature = "json")]
mod cloud_event;
mod decode;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "json-schema")]
pub(crate) mod json_schema;
mod key;
mod payload;
mod position;
mod publisher;
#[cfg(feature = "protobuf")]
pub(crate) mod protobuf;
mod run_ext;
mod state;
mod upcast;

pub use crate::error::lookup::Part;
pub use crate::publish::Publisher;
pub use crate::record::{Headers, Record};
#[cfg(feature = "avro")]
pub use avro::{Avro, ReaderSchema, ResolvedAvro};
pub use batch::Batch;
pub use bytes::Bytes;
#[cfg(feature = "json")]
pub use cloud_event::{CloudEvent, EventData};
pub use decode::{Decode, Encoded};
#[cfg(feature = "json")]
pub use json::Json;
#[cfg(feature = "json-schema")]
pub use json_schema::JsonSchema;
pub use key::{FromKey, Key};
pub use position::{Attempt, Position};
#[cfg(feature = "protobuf")]
pub use protobuf::Protobuf;
pub use run_ext::RunExt;
#[cfg(feature = "schemas")]
pub(crate) use state::NO_REGISTRY;
pub use state::{Context, State};
pub use upcast::{Chain, Format, IntoVersion, Upcast, Version, VersionSource, Versioned};

#[cfg(feature = "schemas")]
use crate::error::lookup::{Lookup, SchemaId, Wanted};
use crate::error::{BoxError, ErrorKind, HandlerError};
#[cfg(feature = "schemas")]
use std::sync::Arc;

/// Why a handler's argument cannot be taken from a record.
#[derive(Debug)]
pub struct Rejection {
    reason: BoxError,
    /// By which schema.
    #[cfg(feature = "schemas")]
    schema: Option<Wanted>,
}

impl Rejection {
    /// Makes a rejection with this reason.
    pub fn new(reason: impl Into<BoxError>) -> Self {
        Self {
            reason: reason.into(),
            #[cfg(feature = "schemas")]
            schema: None,
        }
    }

    /// Where nothing is wrong yet: this is looked up, and then the record is decoded again.
    #[cfg(feature = "schemas")]
    pub(crate) fn needs(lookup: Lookup) -> Self {
        Self { reason: "its schema was not looked up yet".into(), schema: Some(Wanted::Lookup(lookup)) }
    }

    /// The same, of what names this schema, which stands under this subject if it is known.
    #[cfg(feature = "schemas")]
    pub(crate) fn by_schema(self, id: SchemaId, subject: Option<Arc<str>>) -> Self {
        Self { schema: Some(Wanted::By { id, subject }), ..self }
    }
}

impl From<Rejection> for HandlerError {
    fn from(rejection: Rejection) -> Self {
        #[cfg(feature = "schemas")]
        if let Some(wanted) = rejection.schema {
            let is_missing = matches!(wanted, Wanted::Lookup(_));
            let kind = if is_missing { ErrorKind::Returned } else { ErrorKind::Rejected };
            return HandlerError::of_kind(kind, rejection.reason).by_schema(wanted);
        }
        HandlerError::of_kind(ErrorKind::Rejected, rejection.reason)
    }
}

/// A handler's argument, taken from a record.
///
/// # Example
///
/// ```
/// use onceward::extract::{Context, FromRecord, Rejection};
/// use onceward::prelude::*;
///
/// /// The tenant, from a header.
/// struct Tenant(String);
///
/// impl<'a> FromRecord<'a> for Tenant {
///     fn from_record(record: Record<'a>, _: &'a Context) -> Result<Self, Rejection> {
///         let tenant = record.headers().get_str("tenant").ok_or_else(|| Rejection::new("no header `tenant`"))?;
///         Ok(Tenant(tenant.to_owned()))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from a record",
    label = "not an extractor",
    note = "handlers take `Json<T>`, `Avro<T>`, `Protobuf<T>`, `JsonSchema<T>`, `CloudEvent<T>`, `Bytes`, `&[u8]`, `Key<T>`, `Headers`, `Record`, `Position`, `Attempt`, `State<T>` of a `T` that is `Clone`, `Publisher`, `&mut Tx`, or your own type that implements `FromRecord`",
    note = "these are the types of `onceward::extract`: a `Json`, `State` or `Bytes` that was imported from another crate, such as axum, hides the one of the prelude; write `onceward::extract::Json<T>`"
)]
pub trait FromRecord<'a>: Sized + Send {
    /// Whether it publishes records. Beside a transaction that is refused.
    const PUBLISHES: bool = false;

    /// Takes it from the record.
    ///
    /// # Errors
    /// If the record lacks it. That is a permanent failure.
    fn from_record(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection>;

    /// Returns an error at startup if something is missing for it.
    ///
    /// # Errors
    /// One sentence with the fix.
    fn check(context: &Context) -> Result<(), String> {
        let _ = context;
        Ok(())
    }
}

impl<'a> FromRecord<'a> for Record<'a> {
    fn from_record(record: Record<'a>, _: &'a Context) -> Result<Self, Rejection> {
        Ok(record)
    }
}

impl<'a> FromRecord<'a> for Headers<'a> {
    fn from_record(record: Record<'a>, _: &'a Context) -> Result<Self, Rejection> {
        Ok(record.headers())
    }
}

macro_rules! tuple {
    ($($part:ident),*) => {
        #[diagnostic::do_not_recommend]
        impl<'a, $($part: FromRecord<'a>),*> FromRecord<'a> for ($($part,)*) {
            const PUBLISHES: bool = false $(|| $part::PUBLISHES)*;

            fn from_record(record: Record<'a>, context: &'a Context) -> Result<Self, Rejection> {
                let _ = (record, context);
                Ok(($($part::from_record(record, context)?,)*))
            }

            fn check(context: &Context) -> Result<(), String> {
                let _ = context;
                $($part::check(context)?;)*
                Ok(())
            }
        }
    };
}

tuple!();
tuple!(A);
tuple!(A, B);
tuple!(A, B, C);
tuple!(A, B, C, D);
tuple!(A, B, C, D, E);
tuple!(A, B, C, D, E, F);
tuple!(A, B, C, D, E, F, G);
tuple!(A, B, C, D, E, F, G, H);

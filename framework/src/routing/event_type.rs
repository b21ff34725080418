//! The event type of a record, on a topic with several types.

#[cfg(feature = "schemas")]
use crate::error::lookup::{Lookup, Part};
use crate::error::panic::without_panic;
use crate::extract::Context;
#[cfg(feature = "schemas")]
use crate::extract::Encoded;
use crate::record::cloud_event;
use crate::{HandlerResult, Record};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// How a record names its event type, on a topic with several types.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum EventType {
    /// The CloudEvents attribute `type`: the header `ce_type`, or the field of a
    /// structured event.
    #[default]
    CloudEvents,
    /// The value of a header.
    Header(Cow<'static, str>),
    /// A text field at the top level of a JSON payload.
    #[cfg(feature = "json")]
    Field(Cow<'static, str>),
    /// The full name of its payload's schema in the [schema
    /// registry](crate::SchemaRegistryConfig): the name of the Avro record (`shop.OrderPlaced`;
    /// in a union, of the branch that was written), the name of the Protobuf message, or the
    /// `title` of the JSON Schema.
    #[cfg(feature = "schemas")]
    Schema,
    /// The result of this function.
    Function(EventFunction),
}

/// A function from a record to its event type.
pub type EventFunction = Arc<dyn for<'a> Fn(Record<'a>) -> Option<Cow<'a, str>> + Send + Sync>;

impl EventType {
    /// The value of a header.
    pub fn header(name: impl Into<Cow<'static, str>>) -> Self {
        Self::Header(name.into())
    }

    /// A text field at the top level of a JSON payload.
    #[cfg(feature = "json")]
    pub fn field(name: impl Into<Cow<'static, str>>) -> Self {
        Self::Field(name.into())
    }

    /// The result of a function.
    pub fn function(
        function: impl for<'a> Fn(Record<'a>) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    ) -> Self {
        Self::Function(Arc::new(function))
    }

    /// The record's event type, as far as schemas are at hand.
    ///
    /// # Errors
    /// A function of the application that panics.
    pub(crate) fn of<'a>(
        &self,
        record: Record<'a>,
        context: &Context,
    ) -> HandlerResult<Option<Cow<'a, str>>> {
        let _ = context;
        Ok(match self {
            #[cfg(feature = "schemas")]
            Self::Schema => {
                context.record_type(Encoded::new(Part::Value, record)).ok().flatten().map(Cow::Owned)
            }
            Self::CloudEvents => cloud_event::event_type(record),
            Self::Header(name) => record.headers().get_str(name).map(Cow::Borrowed),
            #[cfg(feature = "json")]
            Self::Field(name) => {
                record.payload().and_then(|payload| crate::record::json_field::text(payload, name))
            }
            Self::Function(function) => {
                return without_panic("the event type's function", || function(record));
            }
        })
    }

    /// The look-up that is needed before the record's event type is known.
    #[cfg(feature = "schemas")]
    pub(crate) fn needs(&self, record: Record<'_>, context: &Context) -> Option<Lookup> {
        match self {
            Self::Schema => context.record_type(Encoded::new(Part::Value, record)).err(),
            _ => None,
        }
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CloudEvents => f.write_str("CloudEvents' type"),
            Self::Header(name) => write!(f, "header `{name}`"),
            #[cfg(feature = "json")]
            Self::Field(name) => write!(f, "field `{name}`"),
            #[cfg(feature = "schemas")]
            Self::Schema => f.write_str("the schema's name"),
            Self::Function(_) => f.write_str("a function"),
        }
    }
}

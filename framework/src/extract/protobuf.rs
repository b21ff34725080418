//! The payload, or the key, as a Protobuf message.

use super::decode::format_of;
use super::{Context, Decode, Encoded, Rejection};
use crate::error::lookup::Part;
use crate::schemas::protobuf::Messages;
use crate::schemas::{Framed, Parsed, Schema};
use prost::{Message, Name};

/// The payload, decoded as a Protobuf message. The record has its schema's id, and the [schema
/// registry](crate::SchemaRegistryConfig) has the schema. `Key<Protobuf<T>>` is the same for
/// the key, and `Option<Protobuf<T>>` takes tombstones too.
///
/// `T` is a type that prost generates, with its name (`enable_type_names` of
/// `prost_build::Config`): a record of another message of the same topic would decode to a
/// wrong value, so it is rejected. Fields that the writer did not have take Protobuf's
/// defaults. If the registry cannot be reached, the record waits, and no attempt is counted.
///
/// ```
/// use onceward::prelude::*;
///
/// // As prost generates it.
/// #[derive(Clone, PartialEq, prost::Message)]
/// struct Flight {
///     #[prost(string, tag = "1")]
///     tailnum: String,
/// }
/// impl prost::Name for Flight {
///     const NAME: &'static str = "Flight";
///     const PACKAGE: &'static str = "airport";
/// }
///
/// #[handler(topic = "flights", group = "totals")]
/// async fn on_flight(Protobuf(flight): Protobuf<Flight>) -> HandlerResult {
///     println!("{}", flight.tailnum);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protobuf<T>(pub T);

format_of!(Protobuf, HAS_SCHEMA);

impl<'a, T: Message + Name + Default> Decode<'a> for Protobuf<T> {
    fn decode(encoded: Encoded<'a>, context: &'a Context) -> Result<Self, Rejection> {
        context.decode_by_schema(encoded, |schema, framed| match schema.parsed()? {
            Parsed::Protobuf(messages) => message(messages, framed).map(Protobuf),
            _ => Err(schema.is_not("Protobuf")),
        })
    }

    fn check(part: Part, context: &Context) -> Result<(), String> {
        context.needs_registry("Protobuf<T>", part, |schema: &Schema| match schema.parsed()? {
            Parsed::Protobuf(messages) if messages.have(&T::full_name()) => Ok(()),
            Parsed::Protobuf(_) => Err(format!("it has no message `{}`", T::full_name())),
            _ => Err(schema.is_not("Protobuf")),
        })
    }
}

/// The message, if it is the one that the handler takes.
pub(crate) fn message<T: Message + Name + Default>(
    messages: &Messages,
    framed: Framed<'_>,
) -> Result<T, String> {
    let mut walk = messages.walk();
    let datum = framed.datum_of_message(|index| walk.step(index))?;
    if walk.name() != T::full_name() {
        return Err(format!("it is a message `{}`, and the handler takes `{}`", walk.name(), T::full_name()));
    }
    // Its text names the message and field, and no value.
    T::decode(datum).map_err(|error| error.to_string())
}

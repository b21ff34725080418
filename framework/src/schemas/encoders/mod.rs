//! Writes by a schema of the registry, one format a file.

#[cfg(feature = "avro")]
mod avro;
#[cfg(feature = "json-schema")]
mod json;
#[cfg(feature = "protobuf")]
mod protobuf;

#[cfg(feature = "avro")]
pub use avro::AvroEncoder;
#[cfg(feature = "json-schema")]
pub use json::JsonSchemaEncoder;
#[cfg(feature = "protobuf")]
pub use protobuf::ProtobufEncoder;

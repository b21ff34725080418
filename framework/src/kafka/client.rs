//! The names of the crate `rdkafka` that other folders use. None of them names that crate itself.

pub(crate) use rdkafka::ClientConfig;
pub(crate) use rdkafka::Statistics;
pub(crate) use rdkafka::client::ClientContext;
pub(crate) use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
pub(crate) use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
pub(crate) use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
pub(crate) use rdkafka::message::{Header, OwnedHeaders};
pub(crate) use rdkafka::producer::FutureRecord;
pub(crate) use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};
pub(crate) use rdkafka::types::RDKafkaRespErr;

#[cfg(feature = "testing")]
pub(crate) use rdkafka::Message as AnyMessage;
#[cfg(feature = "testing")]
pub(crate) use rdkafka::message::{BorrowedMessage, Headers};
#[cfg(feature = "testing")]
pub(crate) use rdkafka::producer::future_producer::DeliveryFuture;
#[cfg(feature = "testing")]
pub(crate) use rdkafka::producer::{FutureProducer, Producer};

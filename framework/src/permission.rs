//! What the broker says of topics, and the `rdkafka` crate does not ask for: what this user
//! may do with one (KIP-430), and by which id it is told from others of its name (KIP-516).
#![allow(unsafe_code)]

use crate::memo::Topic;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka_sys as sys;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// A topic, as the broker has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) topic: Topic,
    /// How many partitions it has.
    pub(crate) partitions: i32,
}

impl Described {
    pub(crate) fn new(topic: Topic, partitions: i32) -> Self {
        Self { topic, partitions }
    }
}

/// Whether this user may write to a topic; `None` where the broker does not say.
pub(crate) fn may_write<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    limit: Duration,
) -> Result<Option<bool>, KafkaError> {
    let mut answer = Ok(None);
    describe(client, None, &[topic], true, limit, |_, description| {
        // SAFETY: `describe` gives a valid description.
        answer = unsafe { error_of(description).map_or_else(|| Ok(writes(description)), Err) };
    })?;
    answer
}

/// The broker that is asked for topics, while it answers: any can tell.
#[derive(Debug)]
pub(crate) struct Teller(AtomicI32);

impl Default for Teller {
    fn default() -> Self {
        Self(AtomicI32::new(Self::NOBODY))
    }
}

impl Teller {
    const NOBODY: i32 = -1;

    /// The topics of these names. Those that are not there, or can't be described, are left out.
    /// DESCRIBE on the topic suffices, which whoever may READ has.
    pub(crate) fn topics<C: ConsumerContext>(
        &self,
        client: &BaseConsumer<C>,
        names: &[&str],
        limit: Duration,
    ) -> Result<HashMap<String, Described>, KafkaError> {
        let broker = match (self.0.load(Ordering::Relaxed), names.first()) {
            (_, None) => return Ok(HashMap::new()),
            // Not the one that answers now, which may be known by its address only.
            (Self::NOBODY, Some(name)) => {
                let metadata = client.fetch_metadata(Some(name), limit)?;
                let ids: Vec<i32> = metadata.brokers().iter().map(|broker| broker.id()).collect();
                fastrand::choice(ids).unwrap_or(Self::NOBODY)
            }
            (broker, _) => broker,
        };
        let topics = topics(client, broker, names, limit);
        self.0.store(if topics.is_ok() { broker } else { Self::NOBODY }, Ordering::Relaxed);
        topics
    }
}

fn topics<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    broker: i32,
    names: &[&str],
    limit: Duration,
) -> Result<HashMap<String, Described>, KafkaError> {
    let mut topics = HashMap::new();
    describe(client, Some(broker), names, false, limit, |name, description| {
        // SAFETY: `describe` gives a valid description. What is read belongs to it, and the id's
        // text is copied.
        unsafe {
            if error_of(description).is_some() {
                return;
            }
            let mut count = 0;
            sys::rd_kafka_TopicDescription_partitions(description, &mut count);
            let id = sys::rd_kafka_TopicDescription_topic_id(description);
            let has_id = sys::rd_kafka_Uuid_most_significant_bits(id) != 0
                || sys::rd_kafka_Uuid_least_significant_bits(id) != 0;
            let topic = if has_id {
                let text = CStr::from_ptr(sys::rd_kafka_Uuid_base64str(id));
                Topic::Id(text.to_string_lossy().into())
            } else {
                Topic::WithoutId
            };
            let partitions = i32::try_from(count).unwrap_or(i32::MAX);
            topics.insert(name, Described { topic, partitions });
        }
    })?;
    Ok(topics)
}

/// Asks a broker for topics, or the controller, and hands out what it says of each.
fn describe<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    broker: Option<i32>,
    topics: &[&str],
    with_permissions: bool,
    limit: Duration,
    read: impl FnMut(String, *const sys::rd_kafka_TopicDescription_t),
) -> Result<(), KafkaError> {
    let names: Result<Vec<_>, _> = topics.iter().map(|topic| CString::new(*topic)).collect();
    let names = names.map_err(|_| KafkaError::AdminOp(RDKafkaErrorCode::InvalidTopic))?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    let native = client.client().native_ptr();
    // SAFETY: the client lives as long as `client`. librdkafka copies names and options; collection,
    // options, event and queue are destroyed once each, the event after all that belongs to it was read.
    unsafe {
        let queue = sys::rd_kafka_queue_new(native);
        let options = sys::rd_kafka_AdminOptions_new(
            native,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        if with_permissions {
            let refused = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
            if !refused.is_null() {
                sys::rd_kafka_error_destroy(refused);
            }
        }
        sys::rd_kafka_AdminOptions_set_request_timeout(options, milliseconds, ptr::null_mut(), 0);
        if let Some(broker) = broker {
            sys::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
        }
        let collection = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        sys::rd_kafka_DescribeTopics(native, collection, options, queue);
        sys::rd_kafka_TopicCollection_destroy(collection);
        sys::rd_kafka_AdminOptions_destroy(options);
        let event = sys::rd_kafka_queue_poll(queue, milliseconds.saturating_add(1000));
        let answer = if event.is_null() {
            Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut))
        } else {
            let answer = read_all(event, read);
            sys::rd_kafka_event_destroy(event);
            answer
        };
        sys::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// # Safety
/// `event` must be the valid answer to a DescribeTopics request.
unsafe fn read_all(
    event: *mut sys::rd_kafka_event_t,
    mut read: impl FnMut(String, *const sys::rd_kafka_TopicDescription_t),
) -> Result<(), KafkaError> {
    // SAFETY: as the caller promises; what is read belongs to the event.
    unsafe {
        let error = sys::rd_kafka_event_error(event);
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(KafkaError::AdminOp(error.into()));
        }
        let mut count = 0;
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        let descriptions = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        for place in 0..count {
            let description = *descriptions.add(place);
            let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(description));
            read(name.to_string_lossy().into_owned(), description);
        }
        Ok(())
    }
}

/// # Safety
/// `description` must be valid.
unsafe fn error_of(description: *const sys::rd_kafka_TopicDescription_t) -> Option<KafkaError> {
    // SAFETY: as the caller promises.
    let error = unsafe { sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(description)) };
    let is_error = error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
    is_error.then(|| KafkaError::AdminOp(error.into()))
}

/// # Safety
/// `description` must be valid.
unsafe fn writes(description: *const sys::rd_kafka_TopicDescription_t) -> Option<bool> {
    let mut count = 0;
    // SAFETY: as the caller promises; the operations belong to the description.
    let allowed = unsafe {
        let operations = sys::rd_kafka_TopicDescription_authorized_operations(description, &mut count);
        if operations.is_null() {
            return None;
        }
        std::slice::from_raw_parts(operations, count)
    };
    Some(allowed.iter().any(|operation| {
        matches!(
            operation,
            sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE
                | sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_ALL
        )
    }))
}

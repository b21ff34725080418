//! Admin requests whose answers the `rdkafka` crate leaves out: what this user may do with
//! a topic (KIP-430), the id that tells it from others of its name (KIP-516), and why the
//! broker does not make one.
#![allow(unsafe_code)]

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka_sys as sys;
use std::collections::HashMap;
use std::ffi::{CStr, CString, NulError, c_char};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// What this user may do with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// Why a topic was not made, in the broker's own words.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct NotMade {
    pub(crate) code: Option<RDKafkaErrorCode>,
    pub(crate) reason: String,
}

impl From<KafkaError> for NotMade {
    fn from(error: KafkaError) -> Self {
        Self { code: error.rdkafka_error_code(), reason: error.to_string() }
    }
}

impl From<NulError> for NotMade {
    fn from(error: NulError) -> Self {
        Self { code: Some(RDKafkaErrorCode::InvalidTopic), reason: error.to_string() }
    }
}

/// A topic that is to be made, with the broker's default replication.
#[derive(Debug)]
pub(crate) struct NewTopic<'t> {
    pub(crate) name: &'t str,
    pub(crate) partitions: i32,
    pub(crate) settings: Vec<(&'static str, String)>,
}

/// A topic as the broker tells it from others of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Topic {
    Id(Arc<str>),
    /// The broker gives topics no ids.
    WithoutId,
    /// The broker was asked, and did not answer.
    Unknown,
}

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

/// What this user may do with a topic; `None` where the broker does not say.
pub(crate) fn rights<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    limit: Duration,
) -> Result<Option<Rights>, KafkaError> {
    let mut answer = Ok(None);
    describe(client, None, &[topic], true, limit, |_, description| {
        // SAFETY: `describe` gives a valid description.
        answer = unsafe { error_of(description).map_or_else(|| Ok(rights_of(description)), Err) };
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
    with_rights: bool,
    limit: Duration,
    read: impl FnMut(String, *const sys::rd_kafka_TopicDescription_t),
) -> Result<(), KafkaError> {
    let names: Result<Vec<_>, _> = topics.iter().map(|topic| CString::new(*topic)).collect();
    let names = names.map_err(|_| KafkaError::AdminOp(RDKafkaErrorCode::InvalidTopic))?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let request = |options: *mut sys::rd_kafka_AdminOptions_t, queue: *mut sys::rd_kafka_queue_t| {
        // SAFETY: options, queue and client are alive; librdkafka copies the names, and the
        // collection is destroyed once.
        unsafe {
            if with_rights {
                let refused = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
                if !refused.is_null() {
                    sys::rd_kafka_error_destroy(refused);
                }
            }
            if let Some(broker) = broker {
                sys::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
            }
            let topics = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            sys::rd_kafka_DescribeTopics(client.client().native_ptr(), topics, options, queue);
            sys::rd_kafka_TopicCollection_destroy(topics);
        }
    };
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: the event answers a DescribeTopics request.
    ask(client, kind, limit, request, |event| unsafe { read_descriptions(event, read) })
        .map_err(KafkaError::AdminOp)
}

/// Makes a topic, or only asks whether it could be made.
pub(crate) fn create(
    client: &BaseConsumer,
    topic: &NewTopic<'_>,
    only_validate: bool,
    limit: Duration,
) -> Result<(), NotMade> {
    let name = CString::new(topic.name)?;
    let texts = |(name, value): &(&str, String)| Ok((CString::new(*name)?, CString::new(value.as_str())?));
    let settings = topic.settings.iter().map(texts).collect::<Result<Vec<_>, NulError>>()?;
    let request = |options: *mut sys::rd_kafka_AdminOptions_t, queue: *mut sys::rd_kafka_queue_t| {
        // SAFETY: options, queue and client are alive; librdkafka copies all texts, and the
        // description of the topic, which may be null where it is refused, is destroyed once.
        unsafe {
            let error = ptr::null_mut();
            sys::rd_kafka_AdminOptions_set_validate_only(options, i32::from(only_validate), error, 0);
            let mut made = sys::rd_kafka_NewTopic_new(name.as_ptr(), topic.partitions, -1, error, 0);
            let count = usize::from(!made.is_null());
            for (name, value) in settings.iter().take(if made.is_null() { 0 } else { usize::MAX }) {
                sys::rd_kafka_NewTopic_set_config(made, name.as_ptr(), value.as_ptr());
            }
            sys::rd_kafka_CreateTopics(client.client().native_ptr(), &mut made, count, options, queue);
            if !made.is_null() {
                sys::rd_kafka_NewTopic_destroy(made);
            }
        }
    };
    let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS;
    // SAFETY: the event answers a CreateTopics request.
    let asked = ask(client, kind, limit, request, |event| unsafe { read_made(event) });
    asked.unwrap_or_else(|code| Err(NotMade::from(KafkaError::AdminOp(code))))
}

/// Sends an admin request and reads its answer.
fn ask<C: ConsumerContext, T>(
    client: &BaseConsumer<C>,
    kind: sys::rd_kafka_admin_op_t,
    limit: Duration,
    request: impl FnOnce(*mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    read: impl FnOnce(*mut sys::rd_kafka_event_t) -> T,
) -> Result<T, RDKafkaErrorCode> {
    let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    let native = client.client().native_ptr();
    // SAFETY: the client lives as long as `client`. Options, event and queue are destroyed once
    // each, the event after all that belongs to it was read.
    unsafe {
        let queue = sys::rd_kafka_queue_new(native);
        let options = sys::rd_kafka_AdminOptions_new(native, kind);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, milliseconds, ptr::null_mut(), 0);
        request(options, queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        let event = sys::rd_kafka_queue_poll(queue, milliseconds.saturating_add(1000));
        let answer = if event.is_null() {
            Err(RDKafkaErrorCode::OperationTimedOut)
        } else {
            let error = sys::rd_kafka_event_error(event);
            let answer = match error {
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(read(event)),
                error => Err(error.into()),
            };
            sys::rd_kafka_event_destroy(event);
            answer
        };
        sys::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// # Safety
/// `event` must be the valid answer to a DescribeTopics request.
unsafe fn read_descriptions(
    event: *mut sys::rd_kafka_event_t,
    mut read: impl FnMut(String, *const sys::rd_kafka_TopicDescription_t),
) {
    // SAFETY: as the caller promises; what is read belongs to the event.
    unsafe {
        let mut count = 0;
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        let descriptions = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        for place in 0..count {
            let description = *descriptions.add(place);
            let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(description));
            read(name.to_string_lossy().into_owned(), description);
        }
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
unsafe fn rights_of(description: *const sys::rd_kafka_TopicDescription_t) -> Option<Rights> {
    use sys::rd_kafka_AclOperation_t::{
        RD_KAFKA_ACL_OPERATION_ALL as ALL, RD_KAFKA_ACL_OPERATION_READ as READ,
        RD_KAFKA_ACL_OPERATION_WRITE as WRITE,
    };
    let mut count = 0;
    // SAFETY: as the caller promises; the operations belong to the description.
    let allowed = unsafe {
        let operations = sys::rd_kafka_TopicDescription_authorized_operations(description, &mut count);
        // A user without any right would not have seen the topic.
        if operations.is_null() || count == 0 {
            return None;
        }
        std::slice::from_raw_parts(operations, count)
    };
    let may = |wanted| allowed.iter().any(|operation| *operation == wanted || *operation == ALL);
    Some(Rights { read: may(READ), write: may(WRITE) })
}

/// # Safety
/// `event` must be the valid answer to a CreateTopics request.
unsafe fn read_made(event: *mut sys::rd_kafka_event_t) -> Result<(), NotMade> {
    // SAFETY: as the caller promises; what is read belongs to the event.
    unsafe {
        let mut count = 0;
        let result = sys::rd_kafka_event_CreateTopics_result(event);
        let topics = sys::rd_kafka_CreateTopics_result_topics(result, &mut count);
        if count == 0 {
            return Ok(());
        }
        let made = *topics;
        match sys::rd_kafka_topic_result_error(made) {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            error => {
                let (code, reason) =
                    (RDKafkaErrorCode::from(error), sys::rd_kafka_topic_result_error_string(made));
                let reason = match reason.is_null() {
                    true => code.to_string(),
                    false => CStr::from_ptr(reason).to_string_lossy().into_owned(),
                };
                Err(NotMade { code: Some(code), reason })
            }
        }
    }
}

//! What this user may do with a topic (KIP-430), which the `rdkafka` crate does not
//! ask for.
#![allow(unsafe_code)]

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka_sys as sys;
use std::ffi::CString;
use std::ptr;
use std::time::Duration;

/// Whether this user may write to a topic; `None` where the broker does not say.
pub(crate) fn may_write(
    client: &BaseConsumer,
    topic: &str,
    limit: Duration,
) -> Result<Option<bool>, KafkaError> {
    let name = CString::new(topic).map_err(|_| KafkaError::AdminOp(RDKafkaErrorCode::InvalidTopic))?;
    let milliseconds = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    let native = client.client().native_ptr();
    // SAFETY: the client lives as long as `client`. librdkafka copies name and options; collection,
    // options, event and queue are destroyed once each, the event after all that belongs to it was read.
    unsafe {
        let queue = sys::rd_kafka_queue_new(native);
        let options = sys::rd_kafka_AdminOptions_new(
            native,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let refused = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
        if !refused.is_null() {
            sys::rd_kafka_error_destroy(refused);
        }
        sys::rd_kafka_AdminOptions_set_request_timeout(options, milliseconds, ptr::null_mut(), 0);
        let mut names = [name.as_ptr()];
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        sys::rd_kafka_DescribeTopics(native, topics, options, queue);
        sys::rd_kafka_TopicCollection_destroy(topics);
        sys::rd_kafka_AdminOptions_destroy(options);
        let event = sys::rd_kafka_queue_poll(queue, milliseconds.saturating_add(1000));
        let answer = if event.is_null() {
            Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut))
        } else {
            let answer = read(event);
            sys::rd_kafka_event_destroy(event);
            answer
        };
        sys::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// # Safety
/// `event` must be the valid answer to a DescribeTopics request.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> Result<Option<bool>, KafkaError> {
    // SAFETY: as the caller promises; what is read belongs to the event.
    unsafe {
        let error = sys::rd_kafka_event_error(event);
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(KafkaError::AdminOp(error.into()));
        }
        let mut count = 0;
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        let descriptions = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if count == 0 {
            return Ok(None);
        }
        let description = *descriptions;
        let error = sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(description));
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(KafkaError::AdminOp(error.into()));
        }
        let operations = sys::rd_kafka_TopicDescription_authorized_operations(description, &mut count);
        if operations.is_null() {
            return Ok(None);
        }
        let allowed = std::slice::from_raw_parts(operations, count);
        Ok(Some(allowed.iter().any(|operation| {
            matches!(
                operation,
                sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE
                    | sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_ALL
            )
        })))
    }
}

//! Records in memory: librdkafka's own, or copies; and the errors that stand between them in a queue.
#![allow(unsafe_code)]

use rdkafka::message::{BorrowedHeaders, OwnedHeaders};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka_sys as sys;
use std::ffi::{CStr, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Once;

/// A record in memory: librdkafka's own, or one that was made here.
#[derive(Debug)]
pub(crate) enum Message {
    Kafka(KafkaMessage),
    /// A copy, of what waits for long: one record pins the whole fetch that brought it.
    Owned(Box<OwnedMessage>),
}

#[derive(Debug, Default, Clone)]
pub(crate) struct OwnedMessage {
    pub(crate) offset: i64,
    pub(crate) timestamp: Option<i64>,
    pub(crate) is_timestamp_of_append: bool,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Message {
    pub(crate) fn offset(&self) -> i64 {
        match self {
            Self::Kafka(message) => message.offset(),
            Self::Owned(message) => message.offset,
        }
    }

    /// Lets go of librdkafka's memory.
    pub(crate) fn detach(&mut self) {
        if let Self::Kafka(_) = self {
            *self = self.copy();
        }
    }

    /// The same record in memory of its own.
    pub(crate) fn copy(&self) -> Self {
        let message = match self {
            Self::Kafka(message) => message,
            Self::Owned(message) => return Self::Owned(message.clone()),
        };
        let header =
            |index| message.header(index).map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)));
        Self::Owned(Box::new(OwnedMessage {
            offset: message.offset(),
            timestamp: message.timestamp(),
            is_timestamp_of_append: message.is_timestamp_of_append(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: (0..message.header_count()).filter_map(header).collect(),
        }))
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Kafka(message) => message.key(),
            Self::Owned(message) => message.key.as_deref(),
        }
    }

    /// Bytes of key and payload, for the bounds on memory.
    pub(crate) fn size(&self) -> usize {
        let (key, payload) = match self {
            Self::Kafka(message) => (message.key(), message.payload()),
            Self::Owned(message) => (message.key.as_deref(), message.payload.as_deref()),
        };
        key.map_or(0, <[u8]>::len) + payload.map_or(0, <[u8]>::len)
    }
}

/// A record in librdkafka's memory. It pins the whole fetch buffer it came in.
pub(crate) struct KafkaMessage {
    message: NonNull<sys::rd_kafka_message_t>,
    headers: Once,
}

// SAFETY: librdkafka allows a message to be read and destroyed on any thread.
// The only write behind a shared reference is the parsing of headers, which
// `headers` makes happen once, before any read of them.
unsafe impl Send for KafkaMessage {}

// SAFETY: as above.
unsafe impl Sync for KafkaMessage {}

impl KafkaMessage {
    /// # Safety
    /// `message` must be the caller's own, and is destroyed with this one; its client must live as
    /// long (see the rules at the top of `queue.rs`).
    pub(super) unsafe fn new(message: NonNull<sys::rd_kafka_message_t>) -> Self {
        Self { message, headers: Once::new() }
    }

    pub(super) fn raw(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: the pointer is valid until `drop`, and its fields are never
        // written after the message left the queue.
        unsafe { self.message.as_ref() }
    }

    pub(crate) fn offset(&self) -> i64 {
        self.raw().offset
    }

    pub(crate) fn payload(&self) -> Option<&[u8]> {
        // SAFETY: librdkafka keeps `len` bytes at `payload` as long as the message.
        unsafe { bytes(self.raw().payload, self.raw().len) }
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        // SAFETY: librdkafka keeps `key_len` bytes at `key` as long as the message.
        unsafe { bytes(self.raw().key, self.raw().key_len) }
    }

    pub(crate) fn timestamp(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: a valid message and a valid place for the result.
        let timestamp = unsafe { sys::rd_kafka_message_timestamp(self.message.as_ptr(), &mut kind) };
        (kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && timestamp >= 0)
            .then_some(timestamp)
    }

    pub(crate) fn is_timestamp_of_append(&self) -> bool {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: as in `timestamp`.
        unsafe { sys::rd_kafka_message_timestamp(self.message.as_ptr(), &mut kind) };
        kind == sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME
    }

    /// Notes what it says if it is an error and no record, and whether that is a gap.
    #[cold]
    pub(super) fn note_error(&self, error: RDKafkaRespErr, errors: &mut Vec<FetchError>) -> bool {
        let error = self.fetch_error(error);
        let is_gap = error.is_gap();
        errors.push(error);
        is_gap
    }

    /// The text of an error stands where the payload would.
    fn fetch_error(&self, error: RDKafkaRespErr) -> FetchError {
        let reason = self.payload().map(|text| String::from_utf8_lossy(text).into_owned());
        let code: RDKafkaErrorCode = error.into();
        FetchError { code, offset: self.offset(), reason: reason.unwrap_or_else(|| code.to_string()) }
    }

    pub(crate) fn header_count(&self) -> usize {
        // SAFETY: the list belongs to the message, which outlives the call.
        self.header_list().map_or(0, |list| unsafe { sys::rd_kafka_header_cnt(list) })
    }

    pub(crate) fn header(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
        // SAFETY: the list belongs to the message, and so does what is read of it.
        unsafe { header_at(self.header_list()?, index) }
    }

    fn header_list(&self) -> Option<*const sys::rd_kafka_headers_t> {
        let lookup = || {
            let mut list = ptr::null_mut();
            // SAFETY: a valid message and a valid place for the result. The first
            // call parses and stores the headers; `Once` orders it before others,
            // which only read.
            let error = unsafe { sys::rd_kafka_message_headers(self.message.as_ptr(), &mut list) };
            (error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && !list.is_null())
                .then_some(list.cast_const())
        };
        self.headers.call_once(|| {
            lookup();
        });
        lookup()
    }
}

/// # Safety
/// `length` bytes at `start` must be readable for `'a`, unless `start` is null.
unsafe fn bytes<'a>(start: *mut c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) })
}

/// # Safety
/// `list` must be valid for `'a`.
unsafe fn header_at<'a>(
    list: *const sys::rd_kafka_headers_t,
    index: usize,
) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: on success librdkafka has set all three, and name and value live as long as the list.
    unsafe {
        match sys::rd_kafka_header_get_all(list, index, &mut name, &mut value, &mut size) {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                Some((CStr::from_ptr(name).to_bytes(), bytes(value.cast_mut(), size)))
            }
            _ => None,
        }
    }
}

/// One of the headers of a message that `rdkafka` has read; its own way to them panics at a name
/// that is not UTF-8.
pub(crate) fn header_of(headers: &BorrowedHeaders, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
    // SAFETY: a `BorrowedHeaders` is librdkafka's list behind a reference, which lives as long.
    unsafe { header_at(ptr::from_ref(headers).cast(), index) }
}

/// Headers of any bytes, which `OwnedHeaders` itself does not take.
pub(crate) fn headers_of<'h>(headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>) -> OwnedHeaders {
    // SAFETY: the list is ours and destroyed once; librdkafka copies names and values. A
    // `BorrowedHeaders` is librdkafka's list behind a reference, which lives for the call of
    // `detach`, and that copies it.
    unsafe {
        let list = sys::rd_kafka_headers_new(8);
        for (name, value) in headers {
            let (data, size) =
                value.map_or((ptr::null(), -1), |value| (value.as_ptr(), value.len() as isize));
            sys::rd_kafka_header_add(list, name.as_ptr().cast(), name.len() as isize, data.cast(), size);
        }
        let owned = (*list.cast::<BorrowedHeaders>()).detach();
        sys::rd_kafka_headers_destroy(list);
        owned
    }
}

impl Drop for KafkaMessage {
    fn drop(&mut self) {
        // SAFETY: this is the only owner, and the client is still alive (see `new`).
        unsafe { sys::rd_kafka_message_destroy(self.message.as_ptr()) }
    }
}

impl fmt::Debug for KafkaMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KafkaMessage({})", self.offset())
    }
}

/// An error in a partition's queue.
#[derive(Debug, Clone)]
pub(crate) struct FetchError {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) offset: i64,
    /// librdkafka's own sentence.
    pub(crate) reason: String,
}

impl FetchError {
    /// Whether librdkafka may go on behind the batch that it is about, and so pass over its records:
    /// it means to, where a checksum is wrong or a format unknown. In 2.12.1 it misses where the batch
    /// ends, takes bytes of it for another one, and goes on at whatever offset they make.
    pub(crate) fn is_gap(&self) -> bool {
        let is_unknown_format =
            self.code == RDKafkaErrorCode::NotImplemented && self.reason.contains("MagicByte");
        matches!(self.code, RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::BadCompression)
            || is_unknown_format
    }
}

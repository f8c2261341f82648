//! A producer: sending, and the calls of a transaction.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::Ordering;

use rdkafka::bindings as c;
use rdkafka::types::RDKafkaRespErr;

use super::{Client, c_string, meaning, text};
use crate::model::MessageRef;

/// A producer of a cluster.
#[derive(Debug)]
pub(in super::super) struct Producer {
    /// Handles of the topics that it has sent to.
    topics: BTreeMap<String, Topic>,
    /// Last, because the others are parts of it.
    client: Client,
}

#[derive(Debug)]
struct Topic(NonNull<c::rd_kafka_topic_t>);

// SAFETY: librdkafka's handles may be used by any thread.
unsafe impl Send for Topic {}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: it is ours, and its client lives.
        unsafe { c::rd_kafka_topic_destroy(self.0.as_ptr()) };
    }
}

/// A call of a transaction failed.
#[derive(Debug, Clone)]
pub(in super::super) struct TransactionError {
    /// The same call may be made again, and resumes.
    pub(in super::super) is_retriable: bool,
    /// Why, in words.
    pub(in super::super) why: String,
}

/// A message could not be queued.
#[derive(Debug)]
pub(in super::super) enum SendError {
    /// The queue is full.
    Full,
    /// In words.
    Refused(String),
}

impl Producer {
    /// A producer of this client.
    pub(in super::super) fn new(client: Client) -> Producer {
        Producer {
            topics: BTreeMap::new(),
            client,
        }
    }

    /// Puts a message into the queue, from which it is sent. It is copied.
    ///
    /// # Errors
    /// The queue is full, or the message cannot be sent at all.
    pub(in super::super) fn send(
        &mut self,
        topic: &str,
        partition: i32,
        message: &MessageRef<'_>,
    ) -> Result<(), SendError> {
        let handle = self.topic(topic)?;
        let headers = self.headers(message)?;
        let (key, key_len) = pointer(message.key);
        let (value, value_len) = pointer(message.value);
        self.client.notes.outstanding.fetch_add(1, Ordering::AcqRel);
        // SAFETY: the arguments are pairs of a tag and what the tag asks for; everything lives during the call, which copies it,
        // except the headers, which it takes if it succeeds.
        let code = unsafe {
            use c::rd_kafka_vtype_t as tag;
            c::rd_kafka_producev(
                self.client.ptr(),
                tag::RD_KAFKA_VTYPE_RKT,
                handle,
                tag::RD_KAFKA_VTYPE_PARTITION,
                partition,
                tag::RD_KAFKA_VTYPE_MSGFLAGS,
                c::RD_KAFKA_MSG_F_COPY,
                tag::RD_KAFKA_VTYPE_KEY,
                key,
                key_len,
                tag::RD_KAFKA_VTYPE_VALUE,
                value,
                value_len,
                tag::RD_KAFKA_VTYPE_TIMESTAMP,
                // 0 means the time of sending.
                message.timestamp.max(1),
                tag::RD_KAFKA_VTYPE_HEADERS,
                headers,
                tag::RD_KAFKA_VTYPE_END,
            )
        };
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(());
        }
        self.client.notes.outstanding.fetch_sub(1, Ordering::AcqRel);
        if !headers.is_null() {
            // SAFETY: they are still ours.
            unsafe { c::rd_kafka_headers_destroy(headers) };
        }
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__QUEUE_FULL => Err(SendError::Full),
            code => Err(SendError::Refused(meaning(code))),
        }
    }

    fn topic(&mut self, name: &str) -> Result<*mut c::rd_kafka_topic_t, SendError> {
        if let Some(topic) = self.topics.get(name) {
            return Ok(topic.0.as_ptr());
        }
        let c_name = c_string(name);
        // SAFETY: the client lives.
        let topic =
            unsafe { c::rd_kafka_topic_new(self.client.ptr(), c_name.as_ptr(), null_mut()) };
        let Some(topic) = NonNull::new(topic) else {
            // SAFETY: it is the error of the call before, on this thread.
            let code = unsafe { c::rd_kafka_last_error() };
            return Err(SendError::Refused(meaning(code)));
        };
        self.topics.insert(name.to_owned(), Topic(topic));
        Ok(topic.as_ptr())
    }

    /// The headers of a message, as librdkafka has them; null if there are none.
    fn headers(&self, message: &MessageRef<'_>) -> Result<*mut c::rd_kafka_headers_t, SendError> {
        let mut list: *mut c::rd_kafka_headers_t = null_mut();
        for (name, value) in message.headers() {
            // SAFETY: the list is ours; the call copies name and value.
            unsafe {
                if list.is_null() {
                    list = c::rd_kafka_headers_new(8);
                }
                let (value, value_len) = pointer(value);
                let (name, name_len) = (name.as_ptr().cast(), name.len().cast_signed());
                let code =
                    c::rd_kafka_header_add(list, name, name_len, value, value_len.cast_signed());
                if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                    c::rd_kafka_headers_destroy(list);
                    return Err(SendError::Refused(meaning(code)));
                }
            }
        }
        Ok(list)
    }

    /// Sends what is queued, without waiting for more of it, and waits until the brokers have all of it or the time is over. Returns how
    /// many messages nothing was heard of yet.
    pub(in super::super) fn flush(&self, timeout_ms: i32) -> u64 {
        let turn = self.client.turn();
        // SAFETY: the client lives. It serves callbacks meanwhile.
        unsafe { c::rd_kafka_flush(self.client.ptr(), timeout_ms) };
        drop(turn);
        self.client.notes.outstanding.load(Ordering::Acquire)
    }

    /// The first message that was not delivered since this was asked last, and why. Of a transaction that the client has given up it
    /// says that it has thrown its messages away, so the reason for that is added.
    pub(in super::super) fn take_undelivered(&self) -> Option<String> {
        let notes = &self.client.notes;
        let undelivered = notes.undelivered.lock().take()?;
        Some(match notes.transaction_error.lock().take() {
            Some(why) => format!("{undelivered}; {why}"),
            None => undelivered,
        })
    }

    /// How often EndTxn was sent.
    pub(in super::super) fn end_txn_sent(&self) -> u64 {
        self.client.notes.end_txn_sent.load(Ordering::Acquire)
    }

    /// Takes the transactional id: whoever had it before can commit nothing any more.
    pub(in super::super) fn init(&self, timeout_ms: i32) -> Result<(), TransactionError> {
        // SAFETY: the client lives; the error is ours.
        check(unsafe { c::rd_kafka_init_transactions(self.client.ptr(), timeout_ms) })
    }

    /// Begins a transaction.
    pub(in super::super) fn begin(&self) -> Result<(), TransactionError> {
        // SAFETY: as above.
        check(unsafe { c::rd_kafka_begin_transaction(self.client.ptr()) })
    }

    /// Ends the transaction: readers see all of it.
    pub(in super::super) fn commit(&self, timeout_ms: i32) -> Result<(), TransactionError> {
        // SAFETY: as above.
        check(unsafe { c::rd_kafka_commit_transaction(self.client.ptr(), timeout_ms) })
    }

    /// Ends the transaction: readers see nothing of it.
    pub(in super::super) fn abort(&self, timeout_ms: i32) -> Result<(), TransactionError> {
        // SAFETY: as above.
        check(unsafe { c::rd_kafka_abort_transaction(self.client.ptr(), timeout_ms) })
    }
}

fn pointer(bytes: Option<&[u8]>) -> (*const c_void, usize) {
    match bytes {
        Some(bytes) => (bytes.as_ptr().cast(), bytes.len()),
        None => (std::ptr::null(), 0),
    }
}

fn check(error: *mut c::rd_kafka_error_t) -> Result<(), TransactionError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the error is ours, and destroyed after it was read.
    unsafe {
        let code = c::rd_kafka_error_code(error);
        let failure = TransactionError {
            is_retriable: c::rd_kafka_error_is_retriable(error) != 0,
            why: format!(
                "{} ({})",
                meaning(code),
                text(c::rd_kafka_error_string(error))
            ),
        };
        c::rd_kafka_error_destroy(error);
        Err(failure)
    }
}

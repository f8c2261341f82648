//! A partition that is read through a queue of its own, a batch at a time.

use std::collections::VecDeque;
use std::ffi::{CStr, c_int, c_void};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use rdkafka::bindings as c;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::Notify;

use super::client::CALLED_BACK;
use super::{Client, c_string, meaning, text};
use crate::model::{HeadersColumn, MessageRef, Messages, Offset};

/// How many messages are taken out of a queue at a time at most.
const TAKEN: usize = 1024;

/// What says that there is no such partition.
const GONE: [RDKafkaRespErr; 3] = [
    RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
    RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION,
];

/// A partition that is read.
#[derive(Debug)]
pub(in super::super) struct Partition {
    topic: NonNull<c::rd_kafka_topic_t>,
    number: i32,
    queue: NonNull<c::rd_kafka_queue_t>,
    /// Told when the queue has something. The queue knows its address.
    pub(in super::super) filled: Arc<Notify>,
    /// What has been taken out of the queue and not been looked at.
    taken: VecDeque<Taken>,
    /// Brokers say that there is no such partition.
    gone: bool,
    /// About how many bytes a message has.
    usual_bytes: usize,
    /// Last, because the others are parts of it.
    client: Arc<Client>,
}

// SAFETY: librdkafka's handles and messages may be used by any thread.
unsafe impl Send for Partition {}

/// A message of librdkafka's.
#[derive(Debug)]
struct Taken(NonNull<c::rd_kafka_message_t>);

impl Drop for Taken {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nothing borrows from it any more.
        unsafe { c::rd_kafka_message_destroy(self.0.as_ptr()) };
    }
}

impl Taken {
    fn get(&self) -> &c::rd_kafka_message_t {
        // SAFETY: it is ours, and lives as long as this.
        unsafe { self.0.as_ref() }
    }

    fn bytes(&self) -> usize {
        self.get().len + self.get().key_len
    }
}

/// What a queue has.
#[derive(Debug)]
pub(in super::super) enum Found {
    /// At least one message was added to the columns.
    Messages,
    /// Nothing now.
    Nothing,
    /// Everything that there is up to this offset was given.
    End(Offset),
    /// Nothing, and brokers say that there is no such partition.
    Gone,
    /// A message whose headers are no text.
    Undecodable {
        /// Its offset.
        offset: Offset,
        /// Its value.
        raw: Vec<u8>,
        /// How many bytes that has.
        length: u64,
        /// What is wrong.
        reason: String,
    },
    /// The partition cannot be read from here.
    Failed {
        /// Whether what was asked for is not there any more, or never was.
        out_of_range: bool,
        /// Why, in words.
        why: String,
    },
}

impl Partition {
    /// Begins to read at an offset. What comes of it, and errors too, comes through the queue.
    ///
    /// # Errors
    /// In words.
    pub(in super::super) fn open(
        client: Arc<Client>,
        topic: &str,
        number: i32,
        offset: i64,
    ) -> Result<Partition, String> {
        let filled = Arc::new(Notify::new());
        let name = c_string(topic);
        // SAFETY: the client lives as long as what is made here; the queue forgets `filled` before that goes.
        unsafe {
            let topic = c::rd_kafka_topic_new(client.ptr(), name.as_ptr(), null_mut());
            let Some(topic) = NonNull::new(topic) else {
                return Err(meaning(c::rd_kafka_last_error()));
            };
            let queue = c::rd_kafka_queue_new(client.ptr());
            let Some(queue) = NonNull::new(queue) else {
                c::rd_kafka_topic_destroy(topic.as_ptr());
                return Err("no queue can be made".to_owned());
            };
            let told = Arc::as_ptr(&filled).cast_mut().cast::<c_void>();
            c::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(on_filled), told);
            let started =
                c::rd_kafka_consume_start_queue(topic.as_ptr(), number, offset, queue.as_ptr());
            let partition = Partition {
                topic,
                number,
                queue,
                filled,
                taken: VecDeque::new(),
                gone: false,
                usual_bytes: 1024,
                client,
            };
            match started {
                0 => Ok(partition),
                _ => Err(meaning(c::rd_kafka_last_error())),
            }
        }
    }

    /// Adds messages to the columns, up to a number and until they have so many bytes.
    pub(in super::super) fn read(
        &mut self,
        (messages_max, bytes_max): (usize, usize),
        now: i64,
        offsets: &mut Vec<Offset>,
        messages: &mut Messages,
    ) -> Found {
        let mut bytes = 0;
        loop {
            let Some(next) = self.taken.front() else {
                let left = bytes_max.saturating_sub(bytes) / self.usual_bytes;
                let room = messages_max - offsets.len();
                if room == 0 || bytes >= bytes_max {
                    return Found::Messages;
                }
                if !self.take(room.min(left + 1)) {
                    let is_empty = offsets.is_empty();
                    return match (is_empty, is_empty && std::mem::take(&mut self.gone)) {
                        (false, _) => Found::Messages,
                        (true, true) => Found::Gone,
                        (true, false) => Found::Nothing,
                    };
                }
                continue;
            };
            let is_full = offsets.len() >= messages_max || bytes >= bytes_max;
            let is_message = next.get().err == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
            if !offsets.is_empty() && (is_full || !is_message) {
                return Found::Messages;
            }
            let headers = match is_message {
                true => headers_of(next),
                false => return self.special(),
            };
            match headers {
                Ok(headers) => {
                    let Some(next) = self.taken.pop_front() else {
                        unreachable!("it was there");
                    };
                    bytes += next.bytes();
                    self.usual_bytes = (self.usual_bytes * 7 + next.bytes()) / 8 + 1;
                    offsets.push(offset_of(next.get()));
                    push(&next, now, headers.as_ref(), messages);
                }
                Err(_) if !offsets.is_empty() => return Found::Messages,
                Err(reason) => return self.undecodable(reason),
            }
        }
    }

    /// Takes messages out of the queue. Returns whether there were any.
    fn take(&mut self, most: usize) -> bool {
        let mut taken = [null_mut(); TAKEN];
        let most = most.clamp(1, TAKEN);
        CALLED_BACK.set(None);
        // SAFETY: there is space for so many, and what is returned is ours.
        let count = unsafe {
            c::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, taken.as_mut_ptr(), most)
        };
        // Of a partition that is gone the queue tells by a callback.
        if let Some(code) = CALLED_BACK.take() {
            self.gone |= GONE.iter().any(|gone| *gone as c_int == code);
        }
        let count = usize::try_from(count).unwrap_or(0);
        let taken = taken[..count].iter().copied();
        self.taken.extend(taken.filter_map(NonNull::new).map(Taken));
        count > 0
    }

    /// What the next one says, which is no message.
    fn special(&mut self) -> Found {
        let Some(next) = self.taken.pop_front() else {
            return Found::Nothing;
        };
        let code = next.get().err;
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF {
            return Found::End(offset_of(next.get()));
        }
        // SAFETY: the message lives.
        let detail = unsafe { text(c::rd_kafka_message_errstr(next.0.as_ptr())) };
        Found::Failed {
            out_of_range: matches!(
                code,
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
                    | RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE
            ),
            why: format!("{} ({detail})", meaning(code)),
        }
    }

    fn undecodable(&mut self, reason: String) -> Found {
        let Some(next) = self.taken.pop_front() else {
            return Found::Nothing;
        };
        let value = value_of(&next).unwrap_or_default();
        Found::Undecodable {
            offset: offset_of(next.get()),
            raw: value.to_vec(),
            length: value.len() as u64,
            reason,
        }
    }

    /// The first offset that there is and the one after the last that can be read, as far as brokers have said.
    pub(in super::super) fn watermarks(&self) -> Option<(Offset, Offset)> {
        let (mut low, mut high) = (-1, -1);
        // SAFETY: the topic lives, and so does its name.
        unsafe {
            let name = c::rd_kafka_topic_name(self.topic.as_ptr());
            let known = c::rd_kafka_get_watermark_offsets(
                self.client.ptr(),
                name,
                self.number,
                &raw mut low,
                &raw mut high,
            );
            if known != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
        }
        Some((u64::try_from(low).ok()?, u64::try_from(high).ok()?))
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.taken.clear();
        // SAFETY: the queue does not know `filled` any more when that goes; the client lives.
        unsafe {
            c::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, null_mut());
            c::rd_kafka_consume_stop(self.topic.as_ptr(), self.number);
            c::rd_kafka_queue_destroy(self.queue.as_ptr());
            c::rd_kafka_topic_destroy(self.topic.as_ptr());
        }
    }
}

unsafe extern "C" fn on_filled(_: *mut c::rd_kafka_t, told: *mut c_void) {
    // SAFETY: it is the address that the queue was given, and forgets before it goes.
    let told = unsafe { &*told.cast::<Notify>() };
    told.notify_one();
}

fn offset_of(message: &c::rd_kafka_message_t) -> Offset {
    u64::try_from(message.offset).unwrap_or_default()
}

/// A part of a message; what is absent is null.
///
/// # Safety
/// It is a part of this message.
unsafe fn part_of(_: &Taken, data: *const c_void, len: usize) -> Option<&[u8]> {
    // SAFETY: it lives as long as the message.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) })
}

fn key_of(taken: &Taken) -> Option<&[u8]> {
    let message = taken.get();
    // SAFETY: as it says.
    unsafe { part_of(taken, message.key, message.key_len) }
}

fn value_of(taken: &Taken) -> Option<&[u8]> {
    let message = taken.get();
    // SAFETY: as it says.
    unsafe { part_of(taken, message.payload, message.len) }
}

/// Adds a message to the columns.
fn push(taken: &Taken, now: i64, headers: Option<&HeadersColumn>, messages: &mut Messages) {
    let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the message lives.
    let stamped = unsafe { c::rd_kafka_message_timestamp(taken.0.as_ptr(), &raw mut kind) };
    let time = match kind {
        c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => now,
        _ => stamped,
    };
    let message = MessageRef::new(key_of(taken), value_of(taken), time);
    messages.push(match headers {
        Some(headers) => message.with_headers(headers, 0),
        None => message,
    });
}

/// The headers of a message, if it has any.
fn headers_of(taken: &Taken) -> Result<Option<HeadersColumn>, String> {
    let mut list = null_mut();
    // SAFETY: the message lives, and what is returned lives with it.
    let found = unsafe { c::rd_kafka_message_headers(taken.0.as_ptr(), &raw mut list) };
    match found {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {}
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__NOENT => return Ok(None),
        error => return Err(format!("its headers cannot be read: {}", meaning(error))),
    }
    let mut column = HeadersColumn::default();
    for at in 0.. {
        let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: the list lives with the message; at its end nothing is written.
        let header = unsafe {
            let found =
                c::rd_kafka_header_get_all(list, at, &raw mut name, &raw mut value, &raw mut size);
            (found == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR)
                .then(|| CStr::from_ptr(name).to_bytes())
        };
        let Some(name) = header else { break };
        if std::str::from_utf8(name).is_err() {
            return Err(format!("the name of header {at} is not UTF-8"));
        }
        column.names.push(Some(name));
        // SAFETY: headers are parts of their message.
        column.values.push(unsafe { part_of(taken, value, size) });
    }
    column
        .ends
        .push(u32::try_from(column.names.len()).unwrap_or(u32::MAX));
    Ok(Some(column))
}

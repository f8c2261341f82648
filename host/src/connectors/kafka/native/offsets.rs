//! Committed offsets with their metadata, which may be any bytes; and committing them, with a way to hear what came of it.

use std::ffi::{c_int, c_void};
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use rdkafka::TopicPartitionList;
use rdkafka::bindings as c;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::types::RDKafkaRespErr;

use super::{meaning, text};
use crate::model::Offset;

/// What a group has committed of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Committed {
    pub(in super::super) topic: String,
    pub(in super::super) partition: u32,
    pub(in super::super) offset: Offset,
    pub(in super::super) metadata: Vec<u8>,
}

/// What a list of committed offsets says; partitions without one are left out.
///
/// # Errors
/// One of them could not be had. In words.
pub(in super::super) fn committed(list: &TopicPartitionList) -> Result<Vec<Committed>, String> {
    let mut found = Vec::new();
    // SAFETY: the list lives during the call, and so do its elements.
    let elements = unsafe {
        let list = &*list.ptr();
        let count = usize::try_from(list.cnt).unwrap_or(0);
        match list.elems.is_null() {
            true => &[],
            false => std::slice::from_raw_parts(list.elems, count),
        }
    };
    for element in elements {
        // SAFETY: as above.
        let topic = unsafe { text(element.topic) };
        if element.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            let why = meaning(element.err);
            return Err(format!(
                "topic {topic:?}, partition {}: {why}",
                element.partition
            ));
        }
        let (Ok(offset), Ok(partition)) = (
            u64::try_from(element.offset),
            u32::try_from(element.partition),
        ) else {
            continue;
        };
        found.push(Committed {
            topic,
            partition,
            offset,
            // SAFETY: as above.
            metadata: unsafe { bytes(element.metadata, element.metadata_size) }.to_vec(),
        });
    }
    Ok(found)
}

/// Commits offsets for the group of a consumer. The consumer's own callback is never called: the bindings serve events alone.
pub(in super::super) struct Commits<C: ConsumerContext + 'static> {
    queue: NonNull<c::rd_kafka_queue_t>,
    /// How many have been asked for and not been answered.
    pub(in super::super) open: usize,
    /// Last, because the queue is a part of it.
    consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's handles may be used by any thread.
unsafe impl<C: ConsumerContext> Send for Commits<C> {}

impl<C: ConsumerContext> Commits<C> {
    pub(in super::super) fn new(consumer: Arc<BaseConsumer<C>>) -> Option<Commits<C>> {
        // SAFETY: the consumer lives, and the queue ends before it.
        let queue = unsafe { c::rd_kafka_queue_new(consumer.client().native_ptr()) };
        Some(Commits {
            queue: NonNull::new(queue)?,
            open: 0,
            consumer,
        })
    }

    /// Asks to commit offsets.
    ///
    /// # Errors
    /// In words.
    pub(in super::super) fn ask(&mut self, offsets: &TopicPartitionList) -> Result<(), String> {
        // SAFETY: the list lives during the call, which copies it; the queue lives as long as the consumer.
        let code = unsafe {
            c::rd_kafka_commit_queue(
                self.consumer.client().native_ptr(),
                offsets.ptr(),
                self.queue.as_ptr(),
                None,
                null_mut(),
            )
        };
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                self.open += 1;
                Ok(())
            }
            code => Err(meaning(code)),
        }
    }

    /// Waits for an answer. `None`: there was none in time.
    pub(in super::super) fn answer(&mut self, timeout_ms: c_int) -> Option<Result<(), String>> {
        // SAFETY: the queue lives; the event is ours, and destroyed after it was read.
        let code = unsafe {
            let event = NonNull::new(c::rd_kafka_queue_poll(self.queue.as_ptr(), timeout_ms))?;
            let code = c::rd_kafka_event_error(event.as_ptr());
            c::rd_kafka_event_destroy(event.as_ptr());
            code
        };
        self.open = self.open.saturating_sub(1);
        Some(match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(meaning(code)),
        })
    }
}

impl<C: ConsumerContext> Drop for Commits<C> {
    fn drop(&mut self) {
        // SAFETY: it is ours, and the consumer lives.
        unsafe { c::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// # Safety
/// It is null, or has so many bytes, and lives as long as what is returned.
unsafe fn bytes<'a>(data: *const c_void, size: usize) -> &'a [u8] {
    match data.is_null() {
        true => &[],
        // SAFETY: as this function's.
        false => unsafe { std::slice::from_raw_parts(data.cast(), size) },
    }
}

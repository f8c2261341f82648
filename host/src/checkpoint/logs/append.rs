//! Appending to the embedded log, as part of a write.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{LogStream, Logs, Retention, read_record};
use crate::checkpoint::ledger::Written;
use crate::model::{Messages, Offset, PartitionId, StreamId, TimestampMs};
use crate::records::{self, LogRecord};
use crate::state::{Db, Family, StateError, WriteSet, chunk, keys};

/// A chunk is closed when it holds this many bytes of keys, values and headers.
const CHUNK_BYTES: usize = 64 << 10;

pub(super) struct Partition {
    /// As committed; changed by the committer only.
    pub(super) record: LogRecord,
    pub(super) retention: Retention,
    /// Where the first chunk begins, and when it was appended, as last read.
    pub(super) first: Cell<Option<(Offset, TimestampMs)>>,
}

/// The appending side. Owned by the committer.
pub(in crate::checkpoint) struct LogAppender {
    pub(super) logs: Arc<Logs>,
    pub(super) partitions: BTreeMap<(StreamId, PartitionId), Partition>,
}

/// What a write changes in the logs, to be shown once the write is proved.
#[derive(Default)]
pub(in crate::checkpoint) struct Appended(BTreeMap<(StreamId, PartitionId), LogRecord>);

impl LogAppender {
    /// Reads the state of every partition of the streams.
    pub(in crate::checkpoint) fn open(
        db: &Arc<Db>,
        streams: &[LogStream],
    ) -> Result<LogAppender, StateError> {
        let mut partitions = BTreeMap::new();
        for stream in streams {
            for partition in (0..stream.partitions).map(PartitionId) {
                let record = read_record(db, stream.id, partition)?;
                let retention = stream.retention;
                let first = Cell::new(None);
                let opened = Partition {
                    record,
                    retention,
                    first,
                };
                partitions.insert((stream.id, partition), opened);
            }
        }
        let logs = Logs::open(db, streams)?;
        Ok(LogAppender { logs, partitions })
    }

    pub(in crate::checkpoint) fn logs(&self) -> Arc<Logs> {
        Arc::clone(&self.logs)
    }

    /// Adds messages to the end of a partition, in chunks.
    pub(in crate::checkpoint) fn append(
        &self,
        writes: &mut WriteSet<'_>,
        appended: &mut Appended,
        at: (StreamId, PartitionId),
        messages: &Messages,
        now: TimestampMs,
    ) {
        let before = self.current(appended, at);
        let mut record = before;
        let mut start = 0;
        while start < messages.len() {
            let mut bytes = message_bytes(messages, start);
            let mut end = start + 1;
            while end < messages.len() && bytes + message_bytes(messages, end) <= CHUNK_BYTES {
                bytes += message_bytes(messages, end);
                end += 1;
            }
            let stored = if start == 0 && end == messages.len() {
                chunk::encode(now, messages)
            } else {
                let mut part = Messages::default();
                part.extend_from(messages, start..end);
                chunk::encode(now, &part)
            };
            writes.put(
                Family::Log,
                &keys::log_chunk(at.0, at.1, record.end),
                &stored,
            );
            record.end += (end - start) as u64;
            record.bytes += stored.len() as u64;
            start = end;
        }
        assert_eq!(
            record.end - before.end,
            messages.len() as u64,
            "each message has an offset"
        );
        appended.set(at, record);
    }

    /// Adds the partitions' new records to the write.
    pub(in crate::checkpoint) fn write_records(
        &self,
        writes: &mut WriteSet<'_>,
        appended: &Appended,
    ) {
        for (at, record) in &appended.0 {
            records::put(writes, at, record);
        }
    }

    /// Shows readers what a write has appended and deleted.
    pub(in crate::checkpoint) fn publish(&mut self, appended: Appended, _: &Written) {
        for (at, record) in appended.0 {
            if let Some(partition) = self.partitions.get_mut(&at) {
                let before = std::mem::replace(&mut partition.record, record);
                assert!(
                    record.start >= before.start && record.end >= before.end,
                    "the bounds of a log fall"
                );
            }
            if let Some(published) = self.logs.published.get(&at) {
                published.send_replace((record.start, record.end));
            }
        }
    }

    pub(super) fn current(&self, appended: &Appended, at: (StreamId, PartitionId)) -> LogRecord {
        appended.0.get(&at).copied().unwrap_or_else(|| {
            self.partitions
                .get(&at)
                .map(|p| p.record)
                .unwrap_or_default()
        })
    }
}

impl Appended {
    pub(super) fn set(&mut self, at: (StreamId, PartitionId), record: LogRecord) {
        self.0.insert(at, record);
    }
}

fn message_bytes(messages: &Messages, index: usize) -> usize {
    let message = messages.get(index);
    let headers: usize = message
        .headers()
        .map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len))
        .sum();
    message.key.map_or(0, <[u8]>::len) + message.value.map_or(0, <[u8]>::len) + headers
}

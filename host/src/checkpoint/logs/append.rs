//! Appending to the embedded log, as part of a write.
//!
//! A write that appends little has the chunks in it, and one sync makes it durable. A write that appends much has the places of
//! the chunks, which are in a segment: they pass neither through the write-ahead log nor through RocksDB's levels.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::grow::{Changes, Growing};
use super::letters::LetterCounter;
use super::stored::{Place, Placed};
use super::{LogStream, Logs, Retention, read_record};
use crate::checkpoint::BuildError;
use crate::checkpoint::LetterKey;
use crate::checkpoint::ledger::Written;
use crate::disk::{Disk, DiskError};
use crate::model::{Messages, Offset, PartitionId, StreamId, TimestampMs};
use crate::records::{self, LogRecord};
use crate::state::{Db, Durability, Family, StateError, WriteSet, chunk, keys};

/// A chunk is closed when it holds this many bytes of keys, values and headers.
const CHUNK_BYTES: usize = 64 << 10;
/// A chunk is in a segment only if it is not smaller than what is worth a sync, divided by this.
const SMALL: usize = 64;
/// Bytes that are written to a segment at a time.
const PIECE_BYTES: usize = 1 << 20;

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
    pub(super) partitions: Partitions,
    pub(super) segments: Growing,
    letters: LetterCounter,
    /// A write that appends fewer bytes to segments uses none.
    sync_bytes: usize,
    /// What every write survives. One that may be lost cannot have places: what they lead to may be lost without it.
    durability: Durability,
}

/// What a write changes in the logs, to be shown once the write is proved.
#[derive(Default)]
pub(in crate::checkpoint) struct Appended {
    bounds: BTreeMap<(StreamId, PartitionId), LogRecord>,
    pub(super) segments: Changes,
    waiting: Waiting,
}

/// Chunks of which it is not known yet where they will be.
#[derive(Default)]
struct Waiting {
    /// One after the other.
    bytes: Vec<u8>,
    chunks: Vec<WaitingChunk>,
}

struct WaitingChunk {
    key: Vec<u8>,
    count: u32,
    appended: TimestampMs,
    /// Where it ends in the bytes.
    end: usize,
}

/// Messages that follow each other, to be appended.
pub(in crate::checkpoint) struct Part<'a> {
    pub(in crate::checkpoint) messages: &'a Messages,
    pub(in crate::checkpoint) range: Range<usize>,
}

/// Messages by where they go, in their order.
pub(in crate::checkpoint) type Parts<'a> = BTreeMap<(StreamId, PartitionId), Vec<Part<'a>>>;

type Partitions = BTreeMap<(StreamId, PartitionId), Partition>;

/// The partitions of a stream, as they were left.
fn opened(db: &Db, stream: &LogStream) -> Result<Partitions, StateError> {
    let partitions = (0..stream.partitions).map(PartitionId);
    let open = |partition| {
        let opened = Partition {
            record: read_record(db, stream.id, partition)?,
            retention: stream.retention,
            first: Cell::new(None),
        };
        Ok(((stream.id, partition), opened))
    };
    partitions.map(open).collect()
}

impl LogAppender {
    /// Reads the state of every partition of the streams.
    pub(in crate::checkpoint) fn open(
        db: &Arc<Db>,
        directory: &Path,
        streams: &[LogStream],
        durability: Durability,
        disk: Disk,
    ) -> Result<LogAppender, StateError> {
        let mut partitions = BTreeMap::new();
        for stream in streams {
            partitions.extend(opened(db, stream)?);
        }
        let of_letters = streams.iter().filter(|stream| stream.letters);
        let letters = LetterCounter::new(of_letters.map(|stream| stream.id));
        let logs = Logs::open_counting(db, directory, streams, Arc::clone(&letters.counts))?;
        let sync_bytes = disk.sizes().sync;
        let segments = Growing::open(db, Arc::clone(&logs.segments), directory.to_owned(), disk)?;
        Ok(LogAppender {
            logs,
            partitions,
            segments,
            letters,
            sync_bytes,
            durability,
        })
    }

    /// The job writes another stream from now on, which is not for dead letters.
    pub(in crate::checkpoint) fn add(
        &mut self,
        db: &Db,
        stream: &LogStream,
    ) -> Result<(), StateError> {
        for (at, partition) in opened(db, stream)? {
            self.logs.add(at, &partition.record);
            self.partitions.insert(at, partition);
        }
        Ok(())
    }

    /// Removes files that are left over. To be called when everything that was written is durable.
    pub(in crate::checkpoint) fn clean_up(&self) -> Result<(), DiskError> {
        match self.durability {
            Durability::Sync => self.segments.remove_unknown(),
            // A power cut may bring back the records of what looks left over.
            Durability::Process => Ok(()),
        }
    }

    pub(in crate::checkpoint) fn logs(&self) -> Arc<Logs> {
        Arc::clone(&self.logs)
    }

    /// Whether a partition is one of a log.
    pub(in crate::checkpoint) fn holds(&self, at: (StreamId, PartitionId)) -> bool {
        self.partitions.contains_key(&at)
    }

    /// Adds messages to the end of a partition, in chunks. [`LogAppender::finish`] decides where the last of them are.
    pub(in crate::checkpoint) fn append<'a>(
        &self,
        writes: &mut WriteSet<'_>,
        appended: &mut Appended,
        at: (StreamId, PartitionId),
        parts: impl IntoIterator<Item = Part<'a>>,
        now: TimestampMs,
    ) -> Result<(), BuildError> {
        let before = self.current(appended, at);
        let (mut record, mut all) = (before, 0);
        let parts = parts.into_iter().inspect(|part| all += part.range.len());
        self.cut(writes, appended, parts, now, |count, len| {
            let key = keys::log_chunk(at.0, at.1, record.end);
            record.end += u64::from(count);
            record.bytes += len;
            key
        })?;
        assert_eq!(
            record.end - before.end,
            all as u64,
            "each message has an offset"
        );
        appended.set(at, record);
        Ok(())
    }

    /// Cuts messages into chunks. `key_of`: the key of the next one, from the number of its messages and its bytes.
    pub(super) fn cut<'a>(
        &self,
        writes: &mut WriteSet<'_>,
        appended: &mut Appended,
        parts: impl IntoIterator<Item = Part<'a>>,
        now: TimestampMs,
        mut key_of: impl FnMut(u32, u64) -> Vec<u8>,
    ) -> Result<(), BuildError> {
        // Filled again and again, so that it stays in the processor's caches.
        let (mut open, mut open_bytes) = (Messages::default(), 0);
        for Part { messages, range } in parts {
            let mut from = range.start;
            for index in range.clone() {
                let bytes = message_bytes(messages, index);
                let is_first = open.is_empty() && index == from;
                if !is_first && open_bytes + bytes > CHUNK_BYTES {
                    open.extend_from(messages, from..index);
                    self.close(writes, appended, &open, now, &mut key_of)?;
                    open.clear();
                    (from, open_bytes) = (index, 0);
                }
                open_bytes += bytes;
            }
            open.extend_from(messages, from..range.end);
        }
        match open.is_empty() {
            true => Ok(()),
            false => self.close(writes, appended, &open, now, &mut key_of),
        }
    }

    /// Adds a chunk.
    fn close(
        &self,
        writes: &mut WriteSet<'_>,
        appended: &mut Appended,
        messages: &Messages,
        now: TimestampMs,
        key_of: &mut impl FnMut(u32, u64) -> Vec<u8>,
    ) -> Result<(), BuildError> {
        let waiting = &mut appended.waiting;
        let begin = waiting.bytes.len();
        chunk::encode_into(&mut waiting.bytes, now, messages);
        let len = waiting.bytes.len() - begin;
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        let key = key_of(count, len as u64);
        if len < self.sync_bytes / SMALL || self.durability == Durability::Process {
            writes.put(Family::Log, &key, &waiting.bytes[begin..]);
            waiting.bytes.truncate(begin);
            return Ok(());
        }
        waiting.chunks.push(WaitingChunk {
            key,
            count,
            appended: now,
            end: waiting.bytes.len(),
        });
        match waiting.bytes.len() >= PIECE_BYTES {
            true => self.place(writes, appended),
            false => Ok(()),
        }
    }

    /// Writes what waits to a segment, and the places of its chunks to the database.
    fn place(&self, writes: &mut WriteSet<'_>, appended: &mut Appended) -> Result<(), BuildError> {
        let waiting = &mut appended.waiting;
        let (segment, first) = self
            .segments
            .append(&mut appended.segments, &waiting.bytes)?;
        let mut begin = 0;
        for chunk in waiting.chunks.drain(..) {
            let place = Place {
                segment,
                at: first + begin as u64,
                len: u32::try_from(chunk.end - begin).unwrap_or(u32::MAX),
            };
            let placed = Placed {
                appended: chunk.appended,
                count: chunk.count,
                crc: chunk::checksum(&waiting.bytes[begin..chunk.end]),
                place,
            };
            writes.put(Family::Log, &chunk.key, &placed.encode());
            begin = chunk.end;
        }
        waiting.bytes.clear();
        Ok(())
    }

    /// Adds to the write what is left: the last chunks, and the new records of partitions and segments.
    pub(in crate::checkpoint) fn finish(
        &self,
        writes: &mut WriteSet<'_>,
        appended: &mut Appended,
    ) -> Result<(), BuildError> {
        let waiting = &appended.waiting;
        if waiting.bytes.len() >= self.sync_bytes
            || appended.segments.appended() > 0 && !waiting.chunks.is_empty()
        {
            self.place(writes, appended)?;
        }
        let waiting = std::mem::take(&mut appended.waiting);
        let mut begin = 0;
        for chunk in &waiting.chunks {
            writes.put(Family::Log, &chunk.key, &waiting.bytes[begin..chunk.end]);
            begin = chunk.end;
        }
        for (at, record) in &appended.bounds {
            records::put(writes, at, record);
        }
        self.segments.write_records(writes, &mut appended.segments);
        Ok(())
    }

    /// Shows readers what a write has appended and deleted.
    pub(in crate::checkpoint) fn publish(&mut self, appended: Appended, _: &Written) {
        for (at, record) in appended.bounds {
            if let Some(partition) = self.partitions.get_mut(&at) {
                let before = std::mem::replace(&mut partition.record, record);
                let gone = (before.start, record.start);
                let expired = self.letters.expire(&self.logs.db, at, gone);
                let expired = expired.unwrap_or_else(|error| {
                    tracing::warn!("open dead letters are not counted any more: {error}");
                    self.letters.give_up();
                    0
                });
                if expired > 0 {
                    tracing::warn!(
                        "retention has deleted {expired} dead letters that nobody had replayed or dropped (stream {}, partition {})",
                        at.0.0,
                        at.1
                    );
                }
                assert!(
                    record.start >= before.start && record.end >= before.end,
                    "the bounds of a log fall"
                );
            }
            if let Some(published) = self.logs.published.read().get(&at) {
                published.send_replace((record.start, record.end));
            }
        }
        let synced = self.durability == Durability::Sync;
        self.segments.apply(appended.segments, synced);
    }

    /// Letters have marks that had none.
    pub(in crate::checkpoint) fn mark_letters<'a>(
        &self,
        letters: impl Iterator<Item = &'a LetterKey>,
    ) {
        // Retention may have deleted one since it was found.
        let is_there = |(stream, partition, offset): &&'a LetterKey| {
            *offset >= self.logs.published(*stream, *partition).0
        };
        self.letters.mark(letters.filter(is_there));
    }

    /// Counts some marks of former runs.
    pub(in crate::checkpoint) fn count_letters(&mut self) -> Result<(), StateError> {
        let logs = &self.logs;
        let oldest = |stream, partition| logs.published(stream, partition).0;
        self.letters.walk(&logs.db, oldest)
    }

    /// Whether there is room to be given back; `all`: also where it is little.
    pub(in crate::checkpoint) fn has_waste(&self, all: bool) -> bool {
        self.segments.has_waste(all)
    }

    /// Gives room back to the file system; `all`: also where it is little. The directory must be the one that was opened.
    pub(in crate::checkpoint) fn clear_away(&mut self, all: bool) {
        self.segments.clear_away();
        if all {
            self.segments.clear_away_all();
        }
    }

    pub(super) fn current(&self, appended: &Appended, at: (StreamId, PartitionId)) -> LogRecord {
        appended.bounds.get(&at).copied().unwrap_or_else(|| {
            self.partitions
                .get(&at)
                .map(|p| p.record)
                .unwrap_or_default()
        })
    }
}

impl Appended {
    /// Makes durable what a write has put into a segment. Comes before the write.
    pub(in crate::checkpoint) fn sync(&self) -> Result<(), DiskError> {
        self.segments.sync()
    }

    /// Bytes that are not in the write, but beside the database.
    pub(in crate::checkpoint) fn bytes_beside(&self) -> u64 {
        self.segments.appended()
    }

    pub(super) fn set(&mut self, at: (StreamId, PartitionId), record: LogRecord) {
        self.bounds.insert(at, record);
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

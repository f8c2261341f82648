//! Outboxes: output to places outside of the database, held in it until it is delivered.
//!
//! The bytes of an epoch are part of its checkpoint, in chunks; they are delivered after it, in order; the next checkpoint
//! records how far the sink has come and removes the chunks. After a crash the sink goes back to what was recorded, and
//! every chunk that is still there is delivered (again).
//!
//! An outbox chunk (numbers little-endian):
//!
//! | bytes | what |
//! | --- | --- |
//! | 0 | version, 1 |
//! | 1..5 | CRC-32C of the rest |
//! | rest | bytes, as the sink will write them |

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{CommitError, OpenError};
use crate::connectors::{Output, Sink, SinkError};
use crate::model::{Messages, PartitionId, StreamId};
use crate::records::{self, OutboxRecord};
use crate::state::{Db, Family, Order, StateError, WriteSet, keys};

const VERSION: u8 = 1;
/// A chunk has at most this many bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// The outbox of one partition of an output.
pub(super) struct Outbox {
    stream: StreamId,
    pub(super) name: String,
    partition: PartitionId,
    sink: Box<dyn Sink>,
    record: OutboxRecord,
    /// The record differs from what the database holds.
    unrecorded: bool,
    /// Because something was delivered.
    delivered: bool,
    /// Whether it may deliver while others do.
    pub(super) overlaps: bool,
}

/// Encoded bytes of an epoch on their way to a sink, and the record to keep once they are durable.
pub(in crate::checkpoint) struct Outgoing {
    pub(super) outbox: usize,
    pub(super) encoded: Vec<u8>,
    record: OutboxRecord,
}

impl Outbox {
    /// Opens a partition: the sink goes back to what was recorded, and what the database still holds is delivered.
    pub(super) fn open(
        db: &Db,
        stream: StreamId,
        name: &str,
        partition: PartitionId,
        output: &Arc<dyn Output>,
    ) -> Result<Outbox, OutboxOpenError> {
        let found: Option<OutboxRecord> = records::get(db, &(stream, partition))?;
        let known = found.is_some();
        let mut record = found.unwrap_or_default();
        let mut sink = output.sink(partition);
        let before = record.sink.clone();
        let state = sink.recover(record.sink.as_deref(), record.bytes)?;
        record.sink = Some(state);
        let mut outbox = Outbox {
            stream,
            name: name.to_owned(),
            partition,
            sink,
            unrecorded: !known || record.sink != before,
            delivered: false,
            overlaps: output.overlaps(),
            record,
        };
        let lower = keys::outbox_chunk(stream, partition, outbox.record.first);
        let upper = keys::outbox_chunk(stream, partition, outbox.record.next);
        let mut walk = db.walk(Family::Log, lower, upper, Order::Up);
        let (mut expected, mut found) = (outbox.record.first, 0);
        while let Some((key, stored)) = walk.entry().map_err(StateError::from)? {
            if keys::trailing_number(key) != Some(expected) {
                break;
            }
            let bytes = decode(stored)?;
            found += bytes.len() as u64;
            outbox.record.sink = Some(outbox.sink.deliver(bytes)?);
            outbox.unrecorded = true;
            outbox.delivered = true;
            expected += 1;
            walk.advance();
        }
        if expected != outbox.record.next {
            let what = format!(
                "chunk {expected} of the outbox of stream {name:?}, partition {partition}, is missing"
            );
            return Err(StateError::Damaged(what).into());
        }
        if found != outbox.record.bytes {
            let what = format!(
                "the outbox of stream {name:?}, partition {partition}, holds {found} bytes and should hold {}",
                outbox.record.bytes
            );
            return Err(StateError::Damaged(what).into());
        }
        Ok(outbox)
    }

    pub(super) fn place(&self) -> (StreamId, PartitionId) {
        (self.stream, self.partition)
    }

    /// Whether the next checkpoint must write the record.
    pub(super) fn is_unrecorded(&self) -> bool {
        self.unrecorded
    }

    /// Whether a delivery is not yet recorded.
    pub(super) fn has_delivered(&self) -> bool {
        self.delivered
    }

    /// Adds an epoch's messages to the checkpoint, and the record of what was delivered before.
    pub(super) fn stage(
        &self,
        index: usize,
        writes: &mut WriteSet<'_>,
        messages: Option<&Messages>,
    ) -> Outgoing {
        let mut record = self.record.clone();
        for number in record.first..record.next {
            let key = keys::outbox_chunk(self.stream, self.partition, number);
            writes.delete(Family::Log, &key);
        }
        record.first = record.next;
        record.bytes = 0;
        let mut encoded = Vec::new();
        if let Some(messages) = messages {
            self.sink.encode(record.next_offset, messages, &mut encoded);
            record.next_offset += messages.len() as u64;
        }
        for part in encoded.chunks(CHUNK_BYTES) {
            let key = keys::outbox_chunk(self.stream, self.partition, record.next);
            writes.put(Family::Log, &key, &encode(part));
            record.next += 1;
        }
        record.bytes = encoded.len() as u64;
        records::put(writes, &self.place(), &record);
        Outgoing {
            outbox: index,
            encoded,
            record,
        }
    }

    pub(super) fn deliver(&mut self, outgoing: Outgoing) -> Result<(), CommitError> {
        self.record = outgoing.record;
        self.unrecorded = false;
        self.delivered = false;
        if outgoing.encoded.is_empty() {
            return Ok(());
        }
        let state =
            self.sink
                .deliver(&outgoing.encoded)
                .map_err(|source| CommitError::Deliver {
                    stream: self.name.clone(),
                    source,
                })?;
        self.record.sink = Some(state);
        self.unrecorded = true;
        self.delivered = true;
        Ok(())
    }
}

/// Why an outbox could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutboxOpenError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Sink(#[from] SinkError),
}

impl OutboxOpenError {
    pub(super) fn at(self, path: &Path, stream: &str) -> OpenError {
        match self {
            OutboxOpenError::State(source) => OpenError::State {
                path: path.to_owned(),
                source,
            },
            OutboxOpenError::Sink(source) => OpenError::Sink {
                stream: stream.to_owned(),
                source,
            },
        }
    }
}

fn encode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(5 + bytes.len());
    out.push(VERSION);
    out.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    out.extend_from_slice(bytes);
    out
}

fn decode(stored: &[u8]) -> Result<&[u8], StateError> {
    let damaged = |what: &str| StateError::Damaged(format!("an outbox chunk: {what}"));
    match stored.split_first_chunk::<5>() {
        Some((&[VERSION, a, b, c, d], rest)) => {
            match u32::from_le_bytes([a, b, c, d]) == crc32c::crc32c(rest) {
                true => Ok(rest),
                false => Err(damaged("its checksum does not match")),
            }
        }
        Some((prefix, _)) => Err(damaged(&format!("unknown version {}", prefix[0]))),
        None => Err(damaged("it is cut")),
    }
}

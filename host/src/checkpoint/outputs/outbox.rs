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
use crate::connectors::{Carrier, Sink, SinkError};
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
    pub(super) partition: PartitionId,
    writer: Writer,
    record: OutboxRecord,
    /// The record differs from what the database holds.
    unrecorded: bool,
    /// Because something was delivered.
    delivered: bool,
}

/// Who delivers what is in an outbox.
pub(super) enum Writer {
    /// A sink of its own.
    Sink {
        /// The sink.
        sink: Box<dyn Sink>,
        /// Whether it may deliver while others do.
        overlaps: bool,
    },
    /// A carrier, with what is in other outboxes.
    Carrier {
        /// The carrier.
        carrier: Arc<dyn Carrier>,
        /// Its place among the carriers.
        at: usize,
    },
}

/// Encoded bytes of an epoch on their way to a sink, and the record to keep once they are durable.
pub(in crate::checkpoint) struct Outgoing {
    pub(super) outbox: usize,
    pub(super) encoded: Vec<u8>,
    record: OutboxRecord,
}

impl Outbox {
    /// Opens a partition: its sink goes back to what was recorded, and what the database still holds is delivered. What is for a carrier
    /// is returned.
    pub(super) fn open(
        db: &Db,
        (stream, name): (StreamId, &str),
        partition: PartitionId,
        mut writer: Writer,
    ) -> Result<(Outbox, Vec<u8>), OutboxOpenError> {
        let found: Option<OutboxRecord> = records::get(db, &(stream, partition))?;
        let known = found.is_some();
        let mut record = found.unwrap_or_default();
        let before = record.sink.clone();
        if let Writer::Sink { sink, .. } = &mut writer {
            record.sink = Some(sink.recover(record.sink.as_deref(), record.bytes)?);
        }
        let mut outbox = Outbox {
            stream,
            name: name.to_owned(),
            partition,
            writer,
            unrecorded: !known || record.sink != before,
            delivered: false,
            record,
        };
        let mut carried = Vec::new();
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
            match &mut outbox.writer {
                Writer::Sink { sink, .. } => {
                    outbox.record.sink = Some(sink.deliver(bytes)?);
                    outbox.note_delivered();
                }
                Writer::Carrier { .. } => carried.extend_from_slice(bytes),
            }
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
        Ok((outbox, carried))
    }

    /// The place of its carrier, if it has one.
    pub(super) fn carrier(&self) -> Option<usize> {
        match &self.writer {
            Writer::Sink { .. } => None,
            Writer::Carrier { at, .. } => Some(*at),
        }
    }

    /// Whether it may deliver while others do.
    pub(super) fn overlaps(&self) -> bool {
        matches!(self.writer, Writer::Sink { overlaps: true, .. })
    }

    /// What it holds was delivered, which the next checkpoint records.
    pub(super) fn note_delivered(&mut self) {
        self.unrecorded = true;
        self.delivered = true;
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
            match &self.writer {
                Writer::Sink { sink, .. } => {
                    sink.encode(record.next_offset, messages, &mut encoded);
                }
                Writer::Carrier { carrier, .. } => carrier.encode(messages, &mut encoded),
            }
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

    /// A write has recorded what is in it. Returns the bytes to deliver, if there are any.
    pub(super) fn take(&mut self, outgoing: Outgoing) -> Option<Vec<u8>> {
        self.record = outgoing.record;
        self.unrecorded = false;
        self.delivered = false;
        (!outgoing.encoded.is_empty()).then_some(outgoing.encoded)
    }

    /// Delivers by its sink.
    pub(super) fn deliver(&mut self, outgoing: Outgoing) -> Result<(), CommitError> {
        let Some(encoded) = self.take(outgoing) else {
            return Ok(());
        };
        let Writer::Sink { sink, .. } = &mut self.writer else {
            unreachable!("a carrier delivers for several");
        };
        let delivered = sink.deliver(&encoded);
        let state = delivered.map_err(|source| CommitError::Deliver {
            stream: self.name.clone(),
            source,
        })?;
        self.record.sink = Some(state);
        self.note_delivered();
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

//! The keys of records. Numbers are big-endian, so that the order of bytes is the order of numbers.

use crate::model::{Epoch, Offset, PartitionId, SegmentId, StageId, StreamId, TaskId};

/// The key of a record among those of its kind.
pub trait RecordKey: Sized {
    /// Appends its bytes.
    fn write(&self, into: &mut Vec<u8>);

    /// Reads what [`RecordKey::write`] wrote; `None` for anything else.
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// The key of a kind with a single record.
impl RecordKey for () {
    fn write(&self, _into: &mut Vec<u8>) {}

    fn read(bytes: &[u8]) -> Option<()> {
        bytes.is_empty().then_some(())
    }
}

/// A name.
impl RecordKey for String {
    fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(self.as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<String> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

impl RecordKey for TaskId {
    fn write(&self, into: &mut Vec<u8>) {
        write_pair(self.stage.0, self.partition, into);
    }

    fn read(bytes: &[u8]) -> Option<TaskId> {
        let (stage, partition) = read_pair(bytes)?;
        let stage = StageId(stage);
        Some(TaskId { stage, partition })
    }
}

impl RecordKey for (StreamId, PartitionId) {
    fn write(&self, into: &mut Vec<u8>) {
        write_pair(self.0.0, self.1, into);
    }

    fn read(bytes: &[u8]) -> Option<(StreamId, PartitionId)> {
        let (stream, partition) = read_pair(bytes)?;
        Some((StreamId(stream), partition))
    }
}

impl RecordKey for (StreamId, PartitionId, Offset) {
    fn write(&self, into: &mut Vec<u8>) {
        write_pair(self.0.0, self.1, into);
        into.extend_from_slice(&self.2.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<(StreamId, PartitionId, Offset)> {
        let (pair, offset) = bytes.split_last_chunk()?;
        let (stream, partition) = read_pair(pair)?;
        Some((StreamId(stream), partition, Offset::from_be_bytes(*offset)))
    }
}

impl RecordKey for StageId {
    fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.0.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<StageId> {
        Some(StageId(u16::from_be_bytes(bytes.try_into().ok()?)))
    }
}

impl RecordKey for Epoch {
    fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.0.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Epoch> {
        Some(Epoch(u64::from_be_bytes(bytes.try_into().ok()?)))
    }
}

/// A number.
impl RecordKey for u64 {
    fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<u64> {
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    }
}

impl RecordKey for SegmentId {
    fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.0.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<SegmentId> {
        Some(SegmentId(u64::from_be_bytes(bytes.try_into().ok()?)))
    }
}

fn write_pair(number: u16, partition: PartitionId, into: &mut Vec<u8>) {
    into.extend_from_slice(&number.to_be_bytes());
    into.extend_from_slice(&partition.0.to_be_bytes());
}

fn read_pair(bytes: &[u8]) -> Option<(u16, PartitionId)> {
    let (number, partition) = bytes.split_first_chunk()?;
    let partition = u32::from_be_bytes(partition.try_into().ok()?);
    Some((u16::from_be_bytes(*number), PartitionId(partition)))
}

//! The progress of a task: stamp, positions, counts, and what it is held at.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Kind, Record};
use crate::model::{Offset, Position, Stamp, StreamId, TaskId, TimestampMs};

/// A task at its last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Names the checkpoint.
    pub stamp: Stamp,
    /// Store time.
    pub store_time: TimestampMs,
    /// The latest timestamp of any message it has processed.
    pub latest: TimestampMs,
    /// Where each input goes on.
    pub positions: BTreeMap<StreamId, Position>,
    /// For each output stream, where round robin goes on.
    pub round_robin: BTreeMap<StreamId, u64>,
    /// Messages processed in all.
    pub processed: u64,
    /// Messages rejected in all.
    pub rejected: u64,
    /// Whether `on-end` has been called for these positions.
    pub ended: bool,
    /// What went wrong with its messages.
    pub counts: FaultCounts,
    /// How many of the last messages failed.
    pub failing: Failing,
    /// What it is held at, if it was when this was written.
    pub held: Option<Held>,
}

/// What went wrong with the messages of a task, in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FaultCounts {
    /// Calls that failed.
    pub faults: u64,
    /// Messages that were found to be at fault.
    pub condemned: u64,
    /// Messages and records that became dead letters.
    pub dead_lettered: u64,
    /// Messages and records that were passed over without a dead letter.
    pub skipped: u64,
}

/// How many of the last messages failed: what the breaker judges. Both counts are halved when they reach its window together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Failing {
    /// Messages that were processed.
    pub passed: u32,
    /// Messages that were rejected, or found to be at fault.
    pub failed: u32,
    /// So many of the next messages are not judged.
    pub unjudged: u64,
}

/// Why a task waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Since when, on the wall clock.
    pub since: TimestampMs,
    /// A word for the cause.
    pub kind: String,
    /// A sentence, of 4 KiB at most.
    pub reason: String,
    /// What the guest wrote and its backtrace, as lines; empty if there is nothing.
    pub detail: String,
    /// The message, if there is one: it can be skipped.
    pub message: Option<(StreamId, Offset)>,
    /// Where it was read first, if it is replayed.
    pub origin: Option<(StreamId, Offset)>,
}

impl Held {
    /// The place of the message as a person knows it.
    pub fn place(&self) -> Option<(StreamId, Offset)> {
        self.origin.or(self.message)
    }
}

impl Record for TaskRecord {
    type Key = TaskId;
    const KIND: Kind = Kind::Task;
    const VERSION: u8 = 2;

    fn upgrade(version: u8, fields: &[u8]) -> Option<Result<TaskRecord, postcard::Error>> {
        (version == 1).then(|| postcard::from_bytes(fields).map(TaskRecordV1::upgraded))
    }
}

/// Version 1.
#[derive(Deserialize)]
struct TaskRecordV1 {
    stamp: Stamp,
    store_time: TimestampMs,
    latest: TimestampMs,
    positions: BTreeMap<StreamId, Position>,
    round_robin: BTreeMap<StreamId, u64>,
    processed: u64,
    rejected: u64,
    ended: bool,
}

impl TaskRecordV1 {
    fn upgraded(self) -> TaskRecord {
        TaskRecord {
            stamp: self.stamp,
            store_time: self.store_time,
            latest: self.latest,
            positions: self.positions,
            round_robin: self.round_robin,
            processed: self.processed,
            rejected: self.rejected,
            ended: self.ended,
            ..TaskRecord::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Nonce, PartitionId, StageId};
    use crate::records::testing::assert_stored_as;

    fn record() -> TaskRecord {
        TaskRecord {
            stamp: Stamp {
                task_epoch: 5,
                container_epoch: Epoch(300),
                nonce: Nonce(0x0102_0304_0506_0708),
            },
            store_time: 1_000,
            latest: -1,
            positions: [(
                StreamId(2),
                Position {
                    next: 70_000,
                    detail: Some(vec![9, 8].into()),
                },
            )]
            .into(),
            round_robin: [(StreamId(3), 4)].into(),
            processed: 10,
            rejected: 1,
            ended: true,
            ..TaskRecord::default()
        }
    }

    #[test]
    fn its_bytes_are_frozen() {
        let task = TaskId {
            stage: StageId(1),
            partition: PartitionId(258),
        };
        let record = TaskRecord {
            counts: FaultCounts {
                faults: 300,
                condemned: 3,
                dead_lettered: 2,
                skipped: 1,
            },
            failing: Failing {
                passed: 999,
                failed: 4,
                unjudged: 5,
            },
            held: Some(Held {
                since: 2_000,
                kind: "trap".into(),
                reason: "r".into(),
                detail: "d".into(),
                message: Some((StreamId(2), 70_000)),
                origin: Some((StreamId(1), 5)),
            }),
            ..record()
        };
        assert_stored_as(
            &task,
            &record,
            (
                "7461736b2f000100000102",
                "0205ac02888e98a8c0e0808101d00f010102f0a204010209080103040a0101ac02030201e7070405\
                 01a01f04747261700172016401\
                 02f0a204010105",
            ),
        );
    }

    #[test]
    fn version_1_is_read() {
        let fields = [
            0x05, 0xac, 0x02, 0x88, 0x8e, 0x98, 0xa8, 0xc0, 0xe0, 0x80, 0x81, 0x01, 0xd0, 0x0f,
            0x01, 0x01, 0x02, 0xf0, 0xa2, 0x04, 0x01, 0x02, 0x09, 0x08, 0x01, 0x03, 0x04, 0x0a,
            0x01, 0x01,
        ];
        assert_eq!(TaskRecord::upgrade(1, &fields), Some(Ok(record())));
        assert_eq!(TaskRecord::upgrade(3, &fields), None);
    }
}

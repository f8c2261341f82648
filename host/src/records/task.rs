//! The progress of a task: stamp, positions, counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Kind, Record};
use crate::model::{Position, Stamp, StreamId, TaskId, TimestampMs};

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
}

impl Record for TaskRecord {
    type Key = TaskId;
    const KIND: Kind = Kind::Task;
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Epoch, Nonce, PartitionId, StageId};
    use crate::records::testing::assert_stored_as;

    #[test]
    fn its_bytes_are_frozen() {
        let task = TaskId {
            stage: StageId(1),
            partition: PartitionId(258),
        };
        let record = TaskRecord {
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
        };
        assert_stored_as(
            &task,
            &record,
            (
                "7461736b2f000100000102",
                "0105ac02888e98a8c0e0808101d00f010102f0a204010209080103040a0101",
            ),
        );
    }
}

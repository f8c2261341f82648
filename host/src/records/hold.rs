//! What a stage has done since a moment, and can take back: its output waits, and what its tasks were then is kept.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Kind, Record, TaskRecord};
use crate::model::{StageId, StoreId, StreamId, TaskId};

/// What a stage holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HoldRecord {
    /// What becomes of it.
    pub phase: HoldPhase,
    /// The version of the state when it began.
    pub state_version: u32,
    /// The stores of the stage then, by name.
    pub stores: BTreeMap<String, StoreId>,
    /// The streams of the output that was held so far.
    pub streams: BTreeSet<StreamId>,
    /// The number of the first chunk of output that is held.
    pub first: u64,
    /// The number of the next chunk.
    pub next: u64,
    /// Bytes of the chunks that are held.
    pub output_bytes: u64,
    /// Keys with an undo record.
    pub undo_keys: u64,
    /// Bytes of the undo records.
    pub undo_bytes: u64,
}

/// What becomes of what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum HoldPhase {
    /// It is held.
    #[default]
    Holding,
    /// It goes out, and new output behind it. Nothing can be taken back any more.
    Releasing,
    /// It is taken back, and no task of the stage runs before it is.
    RollingBack,
    /// The state is being migrated. A start takes back what is there of that.
    Migrating,
}

impl HoldRecord {
    /// Nothing is held yet.
    pub fn begin(
        phase: HoldPhase,
        state_version: u32,
        stores: BTreeMap<String, StoreId>,
    ) -> HoldRecord {
        HoldRecord {
            phase,
            state_version,
            stores,
            ..HoldRecord::default()
        }
    }

    /// Whether nobody has decided what becomes of it.
    pub fn is_undecided(&self) -> bool {
        self.phase == HoldPhase::Holding
    }

    /// Whether what is overwritten is saved.
    pub fn saves(&self) -> bool {
        matches!(self.phase, HoldPhase::Holding | HoldPhase::Migrating)
    }

    /// Whether state is not as any code has left it: the next start takes it back.
    pub fn is_between(&self) -> bool {
        matches!(self.phase, HoldPhase::Migrating | HoldPhase::RollingBack)
    }

    /// What it takes: output and undo records.
    pub fn bytes(&self) -> u64 {
        self.output_bytes + self.undo_bytes
    }
}

impl Record for HoldRecord {
    type Key = StageId;
    const KIND: Kind = Kind::Hold;
    const VERSION: u8 = 2;

    fn upgrade(version: u8, fields: &[u8]) -> Option<Result<HoldRecord, postcard::Error>> {
        (version == 1).then(|| postcard::from_bytes(fields).map(HoldRecordV1::upgraded))
    }
}

/// Version 1: state had no version.
#[derive(Deserialize)]
struct HoldRecordV1 {
    phase: HoldPhase,
    stores: BTreeMap<String, StoreId>,
    streams: BTreeSet<StreamId>,
    first: u64,
    next: u64,
    output_bytes: u64,
    undo_keys: u64,
    undo_bytes: u64,
}

impl HoldRecordV1 {
    fn upgraded(self) -> HoldRecord {
        HoldRecord {
            phase: self.phase,
            state_version: 0,
            stores: self.stores,
            streams: self.streams,
            first: self.first,
            next: self.next,
            output_bytes: self.output_bytes,
            undo_keys: self.undo_keys,
            undo_bytes: self.undo_bytes,
        }
    }
}

/// What a task was when its stage began to hold; with the places where inputs that were new since have begun.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldTask(pub TaskRecord);

impl Record for HeldTask {
    type Key = TaskId;
    const KIND: Kind = Kind::HeldTask;
    const VERSION: u8 = TaskRecord::VERSION;

    fn upgrade(version: u8, fields: &[u8]) -> Option<Result<HeldTask, postcard::Error>> {
        TaskRecord::upgrade(version, fields).map(|read| read.map(HeldTask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PartitionId;
    use crate::records::testing::assert_stored_as;

    fn record() -> HoldRecord {
        HoldRecord {
            phase: HoldPhase::Releasing,
            state_version: 4,
            stores: BTreeMap::from([("counts".to_owned(), StoreId(1))]),
            streams: BTreeSet::from([StreamId(3)]),
            first: 2,
            next: 130,
            output_bytes: 1_000,
            undo_keys: 5,
            undo_bytes: 400,
        }
    }

    #[test]
    fn its_bytes_are_frozen() {
        let stored_as = (
            "686f6c642f0102",
            "0201040106636f756e7473010103028201e807059003",
        );
        assert_stored_as(&StageId(0x0102), &record(), stored_as);
    }

    #[test]
    fn version_1_is_read() {
        let fields = [
            0x01, 0x01, 0x06, 0x63, 0x6f, 0x75, 0x6e, 0x74, 0x73, 0x01, 0x01, 0x03, 0x02, 0x82,
            0x01, 0xe8, 0x07, 0x05, 0x90, 0x03,
        ];
        let expected = HoldRecord {
            state_version: 0,
            ..record()
        };
        assert_eq!(HoldRecord::upgrade(1, &fields), Some(Ok(expected)));
        assert_eq!(HoldRecord::upgrade(3, &fields), None);
    }

    #[test]
    fn a_kept_task_is_stored_as_a_task_is() {
        let task = TaskId {
            stage: StageId(1),
            partition: PartitionId(2),
        };
        let record = TaskRecord {
            processed: 5,
            ..TaskRecord::default()
        };
        let stored = postcard::to_stdvec(&HeldTask(record.clone())).expect("it can be encoded");
        assert_eq!(
            stored,
            postcard::to_stdvec(&record).expect("it can be encoded")
        );
        let value: String = stored.iter().map(|byte| format!("{byte:02x}")).collect();
        let stored_as = ("68656c642f000100000002", format!("02{value}"));
        assert_stored_as(&task, &HeldTask(record), (stored_as.0, &stored_as.1));
    }
}

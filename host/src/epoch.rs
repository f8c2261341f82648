//! What tasks hand over at a barrier: the parts of an epoch, frozen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{
    Epoch, Messages, PartitionId, StageId, Staged, StoreId, StreamId, TaskId, TimestampMs,
};
use crate::records::{Encoded, Failing, HoldPhase, StageRecord, TaskRecord};
use crate::state::SealedState;

/// An epoch that all of its tasks have sealed.
pub struct SealedEpoch {
    /// Its number.
    pub epoch: Epoch,
    /// What asked for it.
    pub trigger: &'static str,
    /// When the barrier was set.
    pub began: Instant,
    /// The same, on the wall clock.
    pub time: TimestampMs,
    /// Its tasks.
    pub tasks: Vec<SealedTask>,
    /// Other records that are written with it.
    pub records: Vec<Encoded>,
    /// Stages that hold what they do after it.
    pub holds: Vec<HoldBegin>,
    /// Stages whose state is migrated with it.
    pub migrated: Vec<Migrated>,
}

/// A stage is to be able to take back what it does after an epoch, and its output is held.
#[derive(Debug, Clone)]
pub struct HoldBegin {
    /// The stage.
    pub stage: StageId,
    /// What it holds for.
    pub phase: HoldPhase,
    /// The version of its state.
    pub state_version: u32,
    /// Its stores, by name.
    pub stores: BTreeMap<String, StoreId>,
}

impl HoldBegin {
    /// Of a stage as it is recorded.
    pub fn of(record: &StageRecord, phase: HoldPhase) -> HoldBegin {
        HoldBegin {
            stage: record.id,
            phase,
            state_version: record.state_version,
            stores: record.stores.clone(),
        }
    }
}

/// The state of a stage is migrated with an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The stage.
    pub stage: StageId,
    /// It goes on holding, so that the migration can be taken back with all that comes after.
    pub holds: bool,
}

impl SealedEpoch {
    /// Whether nothing that a stage has done can be taken back any more after it, because its state is migrated.
    pub fn ends_hold(&self, stage: StageId) -> bool {
        self.migrated
            .iter()
            .any(|of| of.stage == stage && !of.holds)
    }

    /// Whether the components of the stages have done something in it.
    pub fn has_work(&self) -> bool {
        self.tasks.is_empty() || self.tasks.iter().any(|task| task.worked)
    }
}

/// The messages of an epoch, by stream and partition.
pub type Sent = BTreeMap<(StreamId, PartitionId), Messages>;

/// A task's part of an epoch: all that becomes durable at once.
pub struct SealedTask {
    /// Whose it is.
    pub task: TaskId,
    /// Its writes, if it made any.
    pub state: Option<SealedState>,
    /// What it sent.
    pub staged: Staged,
    /// The stream of each output port, by index.
    pub ports: Arc<[StreamId]>,
    /// Its positions and the rest; the stamp is set by the commit.
    pub record: TaskRecord,
    /// Streams that began in the epoch, at a position in place of which another start would choose a later one.
    pub began: Vec<StreamId>,
    /// Whether it did something: a task that only says that it is held did not.
    pub worked: bool,
    /// Messages that failed, as the breaker counts them, and that the code before does not fail at as well.
    pub failed: u64,
    /// How many of the last messages had failed under the code before, if it took other code since it sealed last.
    pub failing_before: Failing,
    /// How long it could not process because of the barrier.
    pub pause: Duration,
}

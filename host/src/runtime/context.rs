//! What a task lends to a guest's call, and what undoing and keeping a batch means.

use std::sync::Arc;

use parking_lot::Mutex;

use super::limits::{CALL_STAGES_BYTES, Limits};
use super::logs::TaskLog;
use super::metrics::TaskMetrics;
use crate::model::{OutputIndex, PartitionId, Staged, StagedMark, TaskId, TimestampMs};
use crate::state::TaskState;

/// An output port of a stage.
#[derive(Debug, Clone)]
pub struct OutputPort {
    /// The name that guests use.
    pub name: String,
    /// The partitions of the stream behind it.
    pub partitions: u32,
    /// The first port that is bound to the same stream: they share its counter for round robin.
    pub counter: OutputIndex,
}

/// Who a task is. The same for every call.
#[derive(Debug, Clone)]
pub struct TaskInfo {
    /// Its number.
    pub id: TaskId,
    /// The job.
    pub job: String,
    /// The stage.
    pub stage: String,
    /// Tasks of the stage.
    pub partitions: u32,
    /// Ports of the inputs, in order.
    pub inputs: Vec<String>,
    /// Output ports, in order.
    pub outputs: Vec<OutputPort>,
    /// Names of the stores, in order.
    pub stores: Vec<String>,
    /// SHA-256 of the component, hexadecimal.
    pub component: String,
    /// What it may use.
    pub limits: Limits,
    /// Whether it may ask to be stopped.
    pub may_request_stop: bool,
}

impl TaskInfo {
    /// The task's name: stage, slash, partition.
    pub fn name(&self) -> String {
        format!("{}/{}", self.stage, self.id.partition)
    }
}

/// What the guest asked of the host in a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// A checkpoint.
    pub checkpoint: bool,
    /// To be stopped, and why.
    pub stop: Option<String>,
}

/// All that a call of the guest can change. Changes belong to the batch until it is kept.
pub struct TaskContext {
    /// Who the task is.
    pub info: Arc<TaskInfo>,
    /// Its stores.
    pub state: TaskState,
    /// What it has sent in this epoch.
    pub staged: Staged,
    /// Where round robin goes on, by output port.
    pub round_robin: Vec<u64>,
    /// What it has reported.
    pub metrics: TaskMetrics,
    /// What it has asked for.
    pub requests: Requests,
    /// Store time: fixed during a batch.
    pub now: TimestampMs,
    /// The timestamp of what is sent without one.
    pub timestamp: TimestampMs,
    /// Inside of a batch: writing and sending are allowed.
    pub(super) in_batch: bool,
    /// Bytes that the current call has staged.
    pub(super) call_bytes: usize,
    /// Where its guest's lines go.
    pub(super) log: Arc<Mutex<TaskLog>>,
    batch: Marks,
    message: Marks,
}

#[derive(Debug, Clone, Default)]
struct Marks {
    staged: StagedMark,
    round_robin: Vec<u64>,
    requests: Requests,
}

impl TaskContext {
    /// The context of a task at a checkpoint: `round_robin` has one counter for each output port.
    pub fn new(
        info: Arc<TaskInfo>,
        state: TaskState,
        metrics: TaskMetrics,
        round_robin: Vec<u64>,
    ) -> TaskContext {
        assert_eq!(
            round_robin.len(),
            info.outputs.len(),
            "a counter for each port"
        );
        let marks = Marks {
            round_robin: round_robin.clone(),
            ..Marks::default()
        };
        TaskContext {
            log: Arc::new(Mutex::new(TaskLog::new(info.name()))),
            info,
            state,
            staged: Staged::default(),
            round_robin,
            metrics,
            requests: Requests::default(),
            now: 0,
            timestamp: 0,
            in_batch: false,
            call_bytes: 0,
            batch: marks.clone(),
            message: marks,
        }
    }

    /// Counts bytes that a call stages.
    ///
    /// # Errors
    /// The sentence with which the guest is trapped.
    pub(super) fn stage_bytes(&mut self, bytes: usize) -> Result<(), String> {
        self.call_bytes = self.call_bytes.saturating_add(bytes);
        if self.call_bytes > CALL_STAGES_BYTES {
            return Err(format!(
                "one call may write and send {CALL_STAGES_BYTES} bytes together, and this one came to {}",
                self.call_bytes
            ));
        }
        Ok(())
    }

    /// A message begins: it can be undone alone.
    pub fn mark_message(&mut self) {
        self.state.mark_message();
        self.metrics.mark_message();
        self.message.staged = self.staged.mark();
        self.message.round_robin.clone_from(&self.round_robin);
        self.message.requests.clone_from(&self.requests);
    }

    /// Undoes what the guest did since [`TaskContext::mark_message`].
    pub fn undo_message(&mut self) {
        self.state.undo_message();
        self.metrics.undo_message();
        self.staged.undo_to(self.message.staged);
        self.round_robin.clone_from(&self.message.round_robin);
        self.requests.clone_from(&self.message.requests);
    }

    /// Undoes what the guest did since the last kept batch.
    pub fn undo_batch(&mut self) {
        self.state.undo_batch();
        self.metrics.undo_batch();
        self.staged.undo_to(self.batch.staged);
        self.round_robin.clone_from(&self.batch.round_robin);
        self.requests.clone_from(&self.batch.requests);
    }

    /// Keeps what the guest did: it belongs to the epoch.
    pub fn keep_batch(&mut self) {
        self.state.keep_batch();
        self.metrics.keep_batch();
        self.mark_batch();
    }

    /// Takes what was sent in the epoch that is being sealed.
    pub fn take_staged(&mut self) -> Staged {
        let staged = std::mem::take(&mut self.staged);
        self.mark_batch();
        staged
    }

    /// Takes what the guest asked for in kept batches.
    pub fn take_requests(&mut self) -> Requests {
        let requests = std::mem::take(&mut self.requests);
        self.mark_batch();
        requests
    }

    fn mark_batch(&mut self) {
        self.batch.staged = self.staged.mark();
        self.batch.round_robin.clone_from(&self.round_robin);
        self.batch.requests.clone_from(&self.requests);
        self.message.clone_from(&self.batch);
    }

    /// Bytes of the open epoch.
    pub fn open_bytes(&self) -> usize {
        self.state.open_bytes() + self.staged.bytes()
    }

    /// The partition of a message that names none.
    pub(super) fn partition_for(&mut self, port: OutputIndex, key: Option<&[u8]>) -> PartitionId {
        let partitions = self.info.outputs[port.index()].partitions;
        match key {
            Some(key) => PartitionId(crate::model::partition_of_key(key, partitions)),
            None => {
                let counter = self.info.outputs[port.index()].counter;
                let next = &mut self.round_robin[counter.index()];
                let partition = *next % u64::from(partitions);
                *next = next.wrapping_add(1);
                PartitionId(u32::try_from(partition).unwrap_or(0))
            }
        }
    }
}

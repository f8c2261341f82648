//! What a job looks like from outside, as plain values.

use std::collections::BTreeMap;

use crate::model::{Epoch, Offset, TimestampMs};
use crate::runtime::MetricSnapshot;
use crate::state::meta::CheckpointRecord;
use crate::task::TaskFailure;

/// A job at a moment.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its name.
    pub job: String,
    /// It is being stopped.
    pub draining: bool,
    /// The last committed epoch.
    pub epoch: Epoch,
    /// The last checkpoint of this process.
    pub last_checkpoint: Option<CheckpointRecord>,
    /// Checkpoints of this process.
    pub checkpoints: u64,
    /// Attempts that failed, in this process.
    pub failed_attempts: u64,
    /// Bytes of the open epoch.
    pub open_bytes: u64,
    /// Bytes of the epoch that is being committed.
    pub sealed_bytes: u64,
    /// How many bytes may be uncommitted.
    pub bytes_max: u64,
    /// Bytes in the clean cache, and how many may be.
    pub cache: (u64, u64),
    /// Instances alive.
    pub instances: u64,
    /// When the process started with the job.
    pub started: TimestampMs,
    /// Its tasks.
    pub tasks: Vec<TaskStatus>,
    /// Why tasks stopped.
    pub failures: Vec<TaskFailure>,
    /// What guests reported, by stage.
    pub metrics: BTreeMap<String, MetricSnapshot>,
    /// Figures of the database, by name.
    pub database: BTreeMap<&'static str, u64>,
}

/// A task at a moment.
#[derive(Debug, Clone)]
pub struct TaskStatus {
    /// Its name.
    pub task: String,
    /// The SHA-256 of its component.
    pub component: String,
    /// Messages processed since the start of the job.
    pub processed: u64,
    /// Messages rejected since the start of the job.
    pub rejected: u64,
    /// Batches kept by this process.
    pub batches: u64,
    /// Batches undone by this process.
    pub undone: u64,
    /// Instances made by this process.
    pub instances: u64,
    /// Its inputs.
    pub inputs: Vec<InputStatus>,
}

/// An input of a task at a moment.
#[derive(Debug, Clone)]
pub struct InputStatus {
    /// The stream.
    pub stream: String,
    /// The offset of the next message, of kept batches.
    pub position: Offset,
    /// How far its reader has come: done, total, and whether these are bytes.
    pub progress: Option<(u64, u64, bool)>,
    /// Messages behind the end, where the system knows.
    pub lag: Option<u64>,
    /// The input has ended.
    pub ended: bool,
}

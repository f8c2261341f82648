//! Why a task stopped.

use std::fmt;

use crate::model::Offset;

/// A task stopped. What it did before is committed; a restart meets the same messages.
#[derive(Debug, Clone)]
pub struct TaskFailure {
    /// The stage.
    pub stage: String,
    /// The task: stage, slash, partition.
    pub task: String,
    /// The input stream, where a message was the cause.
    pub stream: Option<String>,
    /// Offsets of the first and the last message of the batch that was undone.
    pub offsets: Option<(Offset, Offset)>,
    /// `trap`, `deadline`, `rejected`, `undecodable`, `source`, `instantiate`, `host`, `panic`, `stop`, `on-end`.
    pub kind: &'static str,
    /// What happened, with the guest's message and backtrace.
    pub reason: String,
}

impl fmt::Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {:?}: task {} stopped", self.stage, self.task)?;
        match (&self.stream, self.offsets) {
            (Some(stream), Some((first, last))) if first == last => {
                write!(f, " at stream {stream:?}, offset {first}")?;
            }
            (Some(stream), Some((first, last))) => {
                write!(f, " at stream {stream:?}, offsets {first} to {last}")?;
            }
            (Some(stream), None) => write!(f, " at stream {stream:?}")?,
            (None, _) => {}
        }
        write!(f, " ({}): {}", self.kind, self.reason)
    }
}

impl std::error::Error for TaskFailure {}

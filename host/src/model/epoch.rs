//! Epochs, and what names a checkpoint without ambiguity.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Everything between two barriers, by number. The first epoch of a state directory is 1; 0 means "nothing yet".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a synced write to the database: one more for each, whatever its purpose.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Seq(pub u64);

impl Seq {
    /// The number of the next write.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A random number that tells apart two writes which claim the same place in the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Nonce(pub u64);

/// Names a checkpoint of one task. A copy of a state directory that was continued separately has other nonces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// How many checkpoints have contained a change of this task.
    pub task_epoch: u64,
    /// The container's epoch in which the last of them fell.
    pub container_epoch: Epoch,
    /// The nonce of that commit.
    pub nonce: Nonce,
}

/// The database's own account of the last synced write: because it exists, the write happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommitKey {
    /// The number of the write.
    pub seq: Seq,
    /// The last committed epoch.
    pub epoch: Epoch,
    /// This write's nonce.
    pub nonce: Nonce,
    /// The nonce of the write before.
    pub prev_nonce: Nonce,
}

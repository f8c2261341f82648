//! What a task has sent in an epoch, before any reader sees it.

use super::{MessageRef, Messages, OutputIndex, PartitionId};

/// Messages in the order in which a task sent them, each with its port and partition. Appending is all that the
/// hot path does; partitions are sorted out by the commit.
#[derive(Debug, Default)]
pub struct Staged {
    /// Port and partition of each message.
    pub routes: Vec<(OutputIndex, PartitionId)>,
    /// The messages.
    pub messages: Messages,
}

/// A point to which [`Staged`] can be undone.
#[derive(Debug, Clone, Copy, Default)]
pub struct StagedMark(usize);

impl Staged {
    /// How many messages are staged.
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Whether nothing is staged.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Bytes held, an estimate of columns included.
    pub fn bytes(&self) -> usize {
        self.messages.data_len() + self.routes.len() * 24
    }

    /// Appends a message.
    pub fn push(&mut self, port: OutputIndex, partition: PartitionId, message: MessageRef<'_>) {
        self.routes.push((port, partition));
        self.messages.push(message);
    }

    /// A point to return to when undoing.
    pub fn mark(&self) -> StagedMark {
        StagedMark(self.routes.len())
    }

    /// Forgets what was appended since `mark`.
    pub fn undo_to(&mut self, mark: StagedMark) {
        self.routes.truncate(mark.0);
        self.messages.truncate(mark.0);
    }
}

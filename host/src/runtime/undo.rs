//! What a batch may change, as one list, and how it is undone: a message alone, or the whole batch.

use crate::model::{MessageRef, OutputIndex, PartitionId, Staged, StagedMark};
use crate::runtime::context::Requests;
use crate::runtime::metrics::TaskMetrics;
use crate::state::TaskState;

/// Something that a batch may change. It remembers how it was when the batch began, and when the message began.
pub(super) trait Undo {
    /// A message begins: from here on it can be undone alone.
    fn mark_message(&mut self);
    /// Goes back to where the message began.
    fn undo_message(&mut self);
    /// Goes back to where the batch began.
    fn undo_batch(&mut self);
    /// Keeps what was done. The next batch begins here.
    fn keep_batch(&mut self);
}

/// Everything that a batch may change.
///
/// Architecture invariant: what a guest can change, and what must be undone with its batch, is here and nowhere else.
pub(super) struct Effects {
    /// The stores.
    pub(super) state: TaskState,
    /// What was sent.
    pub(super) sent: Sent,
    /// Where round robin goes on, by output port.
    pub(super) round_robin: Marked<Vec<u64>>,
    /// What was reported.
    pub(super) metrics: TaskMetrics,
    /// What was asked of the host.
    pub(super) requests: Marked<Requests>,
}

impl Effects {
    /// All parts. It takes the struct apart without `..`: a new part does not compile until it is undone too.
    fn parts(&mut self) -> [&mut dyn Undo; 5] {
        let Effects {
            state,
            sent,
            round_robin,
            metrics,
            requests,
        } = self;
        [state, sent, round_robin, metrics, requests]
    }
}

impl Undo for Effects {
    fn mark_message(&mut self) {
        self.parts().into_iter().for_each(Undo::mark_message);
    }

    fn undo_message(&mut self) {
        self.parts().into_iter().for_each(Undo::undo_message);
    }

    fn undo_batch(&mut self) {
        self.parts().into_iter().for_each(Undo::undo_batch);
    }

    fn keep_batch(&mut self) {
        self.parts().into_iter().for_each(Undo::keep_batch);
    }
}

impl Undo for TaskState {
    fn mark_message(&mut self) {
        self.mark_message();
    }

    fn undo_message(&mut self) {
        self.undo_message();
    }

    fn undo_batch(&mut self) {
        self.undo_batch();
    }

    fn keep_batch(&mut self) {
        self.keep_batch();
    }
}

/// What a task has sent in the open epoch.
#[derive(Debug, Default)]
pub(super) struct Sent {
    staged: Staged,
    batch: StagedMark,
    message: StagedMark,
}

impl Sent {
    /// Sends a message.
    pub(super) fn push(
        &mut self,
        port: OutputIndex,
        partition: PartitionId,
        message: MessageRef<'_>,
    ) {
        self.staged.push(port, partition, message);
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.staged.bytes()
    }

    /// Takes what was sent in kept batches. Not within a batch.
    pub(super) fn take(&mut self) -> Staged {
        std::mem::take(self).staged
    }
}

impl Undo for Sent {
    fn mark_message(&mut self) {
        self.message = self.staged.mark();
    }

    fn undo_message(&mut self) {
        self.staged.undo_to(self.message);
    }

    fn undo_batch(&mut self) {
        self.staged.undo_to(self.batch);
        self.message = self.batch;
    }

    fn keep_batch(&mut self) {
        self.batch = self.staged.mark();
        self.message = self.batch;
    }
}

/// A small value, copied when a batch or a message begins.
#[derive(Debug, Default)]
pub(super) struct Marked<T> {
    pub(super) now: T,
    batch: T,
    message: T,
}

impl<T: Clone + Default> Marked<T> {
    /// A value that no batch has changed.
    pub(super) fn new(value: T) -> Marked<T> {
        Marked {
            batch: value.clone(),
            message: value.clone(),
            now: value,
        }
    }

    /// Takes what kept batches came to. Not within a batch.
    pub(super) fn take(&mut self) -> T {
        std::mem::take(self).now
    }
}

impl<T: Clone> Undo for Marked<T> {
    fn mark_message(&mut self) {
        self.message.clone_from(&self.now);
    }

    fn undo_message(&mut self) {
        self.now.clone_from(&self.message);
    }

    fn undo_batch(&mut self) {
        self.now.clone_from(&self.batch);
        self.message.clone_from(&self.batch);
    }

    fn keep_batch(&mut self) {
        self.batch.clone_from(&self.now);
        self.message.clone_from(&self.now);
    }
}

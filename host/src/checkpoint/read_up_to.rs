//! How far the job has read what it reads: retention keeps the rest.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Offset, PartitionId, StageId, StreamId, TaskId};

/// For each partition of a stream the tasks that read it, each with the offset up to which it has done so.
#[derive(Default)]
pub(super) struct ReadUpTo {
    read: BTreeMap<(StreamId, PartitionId), BTreeMap<TaskId, Offset>>,
    /// Stages whose tasks may go back: what they read from now on counts as unread.
    frozen: BTreeSet<StageId>,
}

impl ReadUpTo {
    /// A task reads a stream. As long as nothing else is known, all of it is unread.
    pub(super) fn add_reader(&mut self, task: TaskId, stream: StreamId) {
        let tasks = self.read.entry((stream, task.partition)).or_default();
        tasks.insert(task, 0);
    }

    /// A task has read up to before `next`. Tasks and streams that are not declared are ignored.
    pub(super) fn note(&mut self, task: TaskId, stream: StreamId, next: Offset) {
        if self.frozen.contains(&task.stage) {
            return;
        }
        let readers = self.read.get_mut(&(stream, task.partition));
        if let Some(position) = readers.and_then(|readers| readers.get_mut(&task)) {
            *position = next;
        }
    }

    /// The tasks of a stage may go back to where they are.
    pub(super) fn freeze(&mut self, stage: StageId) {
        self.frozen.insert(stage);
    }

    /// They cannot any more.
    pub(super) fn thaw(&mut self, stage: StageId) {
        self.frozen.remove(&stage);
    }

    /// That a task goes on from where it was, or after.
    ///
    /// # Panics
    /// It does not.
    pub(super) fn check(&self, task: TaskId, stream: StreamId, next: Offset) {
        let readers = self.read.get(&(stream, task.partition));
        let before = readers.and_then(|readers| readers.get(&task));
        assert!(
            before.is_none_or(|before| next >= *before),
            "a position falls: {task:?} was before offset {before:?} of {stream:?} and is before {next}"
        );
    }

    /// The first offset that a task of the job has not read; `None`: no task reads the partition.
    pub(super) fn unread_from(&self, stream: StreamId, partition: PartitionId) -> Option<Offset> {
        self.read.get(&(stream, partition))?.values().min().copied()
    }
}

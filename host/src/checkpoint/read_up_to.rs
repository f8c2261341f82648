//! How far the job has read what it reads: retention keeps the rest.

use std::collections::BTreeMap;

use crate::model::{Offset, PartitionId, StreamId, TaskId};

/// For each partition of a stream the tasks that read it, each with the offset up to which it has done so.
#[derive(Default)]
pub(super) struct ReadUpTo(BTreeMap<(StreamId, PartitionId), BTreeMap<TaskId, Offset>>);

impl ReadUpTo {
    /// A task reads a stream. As long as nothing else is known, all of it is unread.
    pub(super) fn add_reader(&mut self, task: TaskId, stream: StreamId) {
        let tasks = self.0.entry((stream, task.partition)).or_default();
        tasks.insert(task, 0);
    }

    /// A task has read up to before `next`. Tasks and streams that are not declared are ignored.
    pub(super) fn note(&mut self, task: TaskId, stream: StreamId, next: Offset) {
        let readers = self.0.get_mut(&(stream, task.partition));
        if let Some(position) = readers.and_then(|readers| readers.get_mut(&task)) {
            *position = next;
        }
    }

    /// That a task goes on from where it was, or after.
    ///
    /// # Panics
    /// It does not.
    pub(super) fn check(&self, task: TaskId, stream: StreamId, next: Offset) {
        let readers = self.0.get(&(stream, task.partition));
        let before = readers.and_then(|readers| readers.get(&task));
        assert!(
            before.is_none_or(|before| next >= *before),
            "a position falls: {task:?} was before offset {before:?} of {stream:?} and is before {next}"
        );
    }

    /// The first offset that a task of the job has not read; `None`: no task reads the partition.
    pub(super) fn unread_from(&self, stream: StreamId, partition: PartitionId) -> Option<Offset> {
        self.0.get(&(stream, partition))?.values().min().copied()
    }
}

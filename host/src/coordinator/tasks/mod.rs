//! The tasks of a job as the coordinator sees them: which there are, how one is made, who reads for it.

mod cut;
mod factory;
mod readers;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinHandle;

pub(super) use factory::{Made, StageNow, StreamNow, TaskFactory, TaskSpec};
pub(super) use readers::ReaderFigures;

use crate::model::{PartitionId, StreamId};
use crate::scheduler::{TaskIndex, Waker};
use crate::task::{Inbox, TaskFigures};

/// A task that the job declares.
pub(super) struct TaskEntry {
    /// Its stage and partition.
    pub(super) spec: TaskSpec,
    /// Its name: stage, slash, partition.
    pub(super) name: String,
    pub(super) figures: Arc<TaskFigures>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) inputs: Vec<InputEntry>,
    /// Messages it had processed when the process started.
    pub(super) processed_before: u64,
    /// What reads for it.
    readers: Vec<JoinHandle<()>>,
}

/// An input of a task.
pub(super) struct InputEntry {
    pub(super) stream: String,
    pub(super) id: StreamId,
    pub(super) partition: PartitionId,
    /// Whether it is of the embedded log.
    pub(super) in_log: bool,
    pub(super) bounded: bool,
    /// Whether it says when it has nothing for the moment: a replay queue.
    pub(super) may_lull: bool,
    pub(super) rewindable: bool,
    pub(super) reader: Arc<ReaderFigures>,
}

impl TaskEntry {
    /// Starts the readers of a task that has taken its place.
    pub(super) fn read(
        &mut self,
        readers: Vec<factory::PendingReader>,
        task: TaskIndex,
        waker: &Waker,
        io: &tokio::runtime::Handle,
    ) {
        let spawn = |reader: factory::PendingReader| io.spawn(reader.start(task, waker.clone()));
        self.readers = readers.into_iter().map(spawn).collect();
    }

    /// Asks the readers to end.
    pub(super) fn stop_readers(&self) {
        self.readers.iter().for_each(JoinHandle::abort);
    }

    /// The readers, which were asked to end, to be waited for.
    pub(super) fn take_readers(&mut self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut self.readers)
    }

    /// Goes on with a task that was made again.
    pub(super) fn replace(&mut self, made: TaskEntry) {
        made.figures.follow(&self.figures);
        *self = TaskEntry {
            processed_before: self.processed_before,
            ..made
        };
    }

    /// Messages that this process has processed for it.
    pub(super) fn processed(&self) -> u64 {
        let processed = self.figures.processed.load(Ordering::Relaxed);
        processed.saturating_sub(self.processed_before)
    }
}

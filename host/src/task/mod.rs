//! One task: its inbox, the batch step, what is undone and what is kept, where rejected messages go.
//!
//! A step takes one batch from the inbox, lends the context to the instance for the call, and decides what the answer means.
//! What it keeps is in the epoch that is open; a seal hands that over. Must never know other tasks or checkpoints.
//!
//! Invariants: a batch is wholly kept or wholly undone; the position moves with the batch and never without; a failed task
//! keeps its last good batch and does nothing more.

mod dead_letter;
mod failure;
mod inbox;
mod step;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use failure::TaskFailure;
pub use inbox::{Delivery, Inbox, ReadAhead, Recorded};
pub use step::{Outcome, StepControl};

use crate::epoch::SealedTask;
use crate::model::{Clock, InputIndex, OutputIndex, Position, StreamId, TaskId};
use crate::records::TaskRecord;
use crate::runtime::{Component, Instance, Requests, TaskContext, TaskInfo};

/// Where a rejected message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRejected {
    /// To the dead-letter stream.
    DeadLetter,
    /// Nowhere: it is counted.
    Skip,
    /// The task stops before it.
    Fail,
}

/// A stream that a stage sends to.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    /// The place of its stream in [`TaskOptions::ports`].
    pub port: OutputIndex,
    /// Its partitions.
    pub partitions: u32,
}

/// What a task is made of.
pub struct TaskOptions {
    /// Who it is.
    pub info: Arc<TaskInfo>,
    /// The stream of each input.
    pub inputs: Vec<(String, StreamId)>,
    /// The stream of each output port, and of the dead letters.
    pub ports: Arc<[StreamId]>,
    /// What to do with rejected messages.
    pub on_rejected: OnRejected,
    /// Where dead letters go.
    pub dead_letters: Option<DeadLetters>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// Figures of a task that anybody may read while it runs.
#[derive(Debug, Default)]
pub struct TaskFigures {
    /// Messages processed since the start of the job, kept batches only.
    pub processed: AtomicU64,
    /// Messages rejected.
    pub rejected: AtomicU64,
    /// Batches kept since the start of the process.
    pub batches: AtomicU64,
    /// Batches undone since the start of the process.
    pub undone: AtomicU64,
    /// Instances made.
    pub instances: AtomicU64,
    /// Instances that were replaced because they were worn out.
    pub recycled: AtomicU64,
    /// The offset of the next message of each input.
    pub positions: Vec<AtomicU64>,
}

/// A task at work.
pub struct Task {
    options: TaskOptions,
    component: Arc<Component>,
    /// Lent to the instance during a call.
    context: Option<Box<TaskContext>>,
    instance: Option<Instance>,
    inbox: Arc<Inbox>,
    /// As it will be committed next.
    record: TaskRecord,
    figures: Arc<TaskFigures>,
    /// Inputs that have ended, with the position there.
    ended: Vec<Option<Position>>,
    /// Something was kept, or a position moved, since the last seal.
    dirty: bool,
    /// `on-end` has answered `done`, or there is no such export.
    finished: bool,
    failed: bool,
    next_input: usize,
    /// Who waits until the place where an input begins is recorded: by the open epoch, and by the sealed one.
    begun: Vec<Recorded>,
    begun_sealed: Vec<Recorded>,
    /// Such a place has come since somebody last asked.
    begins: bool,
    /// Messages processed when the process began.
    processed_before: u64,
}

impl Task {
    /// A task at its last checkpoint.
    pub fn new(
        options: TaskOptions,
        component: Arc<Component>,
        context: TaskContext,
        record: TaskRecord,
        inbox: Arc<Inbox>,
    ) -> Task {
        let inputs = options.inputs.len();
        let processed_before = record.processed;
        let positions = options
            .inputs
            .iter()
            .map(|(_, stream)| {
                record
                    .positions
                    .get(stream)
                    .map_or(0, |position| position.next)
            })
            .map(AtomicU64::new)
            .collect();
        let figures = TaskFigures {
            processed: AtomicU64::new(record.processed),
            rejected: AtomicU64::new(record.rejected),
            positions,
            ..TaskFigures::default()
        };
        Task {
            options,
            component,
            context: Some(Box::new(context)),
            instance: None,
            inbox,
            record,
            figures: Arc::new(figures),
            ended: vec![None; inputs],
            dirty: false,
            finished: false,
            failed: false,
            next_input: 0,
            begun: Vec::new(),
            begun_sealed: Vec::new(),
            begins: false,
            processed_before,
        }
    }

    /// Who it is.
    pub fn id(&self) -> TaskId {
        self.options.info.id
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.options.info.name()
    }

    /// Its figures.
    pub fn figures(&self) -> Arc<TaskFigures> {
        Arc::clone(&self.figures)
    }

    /// Whether it has something that the next checkpoint must contain.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Whether an instance lives.
    pub fn has_instance(&self) -> bool {
        self.instance.is_some()
    }

    /// Whether a step has something to do that may need an instance.
    pub fn has_work(&self) -> bool {
        !self.failed
            && (!self.inbox.is_empty()
                || (!self.finished && self.ended.iter().all(Option::is_some)))
    }

    /// Bytes of the open epoch.
    pub fn open_bytes(&self) -> usize {
        self.context().open_bytes()
    }

    /// Whether an input has begun at a place that the next checkpoint must record soon. Asked again, it has not.
    pub fn take_begins(&mut self) -> bool {
        std::mem::take(&mut self.begins)
    }

    /// Whether nothing was processed since the process began.
    pub fn is_fresh(&self) -> bool {
        self.record.processed == self.processed_before
    }

    /// What the guest asked for in the batches that were kept since the last time.
    pub fn take_requests(&mut self) -> Requests {
        self.context_mut().take_requests()
    }

    /// Freezes the open epoch; `None` where nothing changed.
    pub fn seal(&mut self, pause: impl FnOnce() -> Duration) -> Option<SealedTask> {
        if !self.dirty {
            return None;
        }
        self.dirty = false;
        let context = match &mut self.context {
            Some(context) => context,
            None => panic!("a task is sealed during a call"),
        };
        self.record.store_time = self.record.store_time.max(context.now);
        for (port, stream) in self.options.ports.iter().enumerate() {
            if let Some(port) = self.options.info.outputs.get(port) {
                let next = context.round_robin(port.counter);
                self.record.round_robin.insert(*stream, next);
            }
        }
        self.begun_sealed.append(&mut self.begun);
        let (state, staged) = context.seal();
        Some(SealedTask {
            task: self.options.info.id,
            state,
            staged,
            ports: Arc::clone(&self.options.ports),
            record: self.record.clone(),
            pause: pause(),
        })
    }

    /// The sealed epoch is committed.
    pub fn release(&mut self) {
        for recorded in self.begun_sealed.drain(..) {
            // A reader that is gone does not wait.
            let _ = recorded.send(());
        }
        self.context_mut().release();
    }

    /// Drops the instance; the next batch makes a new one.
    pub fn drop_instance(&mut self, control: &StepControl) {
        let (Some(instance), Some(context)) = (self.instance.take(), self.context.take()) else {
            return;
        };
        let (context, closed) = instance.close(context);
        self.context = Some(context);
        // A `close` that was interrupted for the drain's sake did nothing wrong.
        if let Err(fault) = closed
            && !control.give_up.load(Ordering::Relaxed)
        {
            tracing::warn!(task = %self.name(), "`close` failed: {fault}");
        }
    }

    fn context(&self) -> &TaskContext {
        match &self.context {
            Some(context) => context,
            None => panic!("the context of a task is used during a call"),
        }
    }

    fn context_mut(&mut self) -> &mut TaskContext {
        match &mut self.context {
            Some(context) => context,
            None => panic!("the context of a task is used during a call"),
        }
    }

    fn stream_of(&self, input: InputIndex) -> &(String, StreamId) {
        &self.options.inputs[input.index()]
    }
}

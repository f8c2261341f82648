//! One task: its inbox, its guest, how a batch runs, what is kept of it, and what becomes of what goes wrong.
//!
//! A step takes one arrival from the inbox (`inbox/`), calls the guest with its messages (`run`, `guest`), keeps or undoes the
//! batch (`keep`), and answers rejections and faults (`policy`). What is kept belongs to the open epoch; a seal hands that over.
//! Must never know other tasks or checkpoints.
//!
//! Invariants: a batch is wholly kept or wholly undone; the position moves with the batch and never without; a failed task
//! keeps its last good batch and does nothing more.

mod dead_letter;
mod failure;
mod guest;
mod inbox;
mod isolation;
mod keep;
mod policy;
mod run;
mod step;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

pub use failure::{Cause, TaskFailure};
use guest::Guest;
pub use inbox::{Arrival, Inbox, ReadAhead, Recorded};
use isolation::Isolation;
pub use step::{Outcome, StepControl};

use crate::epoch::SealedTask;
use crate::model::{Clock, InputIndex, OutputIndex, StreamId, TaskId};
use crate::records::TaskRecord;
use crate::runtime::{Component, Requests, TaskContext, TaskInfo};

/// What becomes of a message that cannot be processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It goes to the dead-letter stream.
    DeadLetter,
    /// It is counted, and dropped.
    Skip,
    /// The task stops before it.
    Fail,
}

/// The stream of a stage's dead letters.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    /// The index of the stream in [`TaskOptions::ports`].
    pub port: OutputIndex,
    /// The stream's partitions.
    pub partitions: u32,
}

/// What a task is made of.
pub struct TaskOptions {
    /// Its identity and its ports.
    pub info: Arc<TaskInfo>,
    /// The stream of each input.
    pub inputs: Vec<(String, StreamId)>,
    /// The stream of each output port, and of the dead letters.
    pub ports: Arc<[StreamId]>,
    /// What to do with messages that the guest rejects.
    pub on_rejected: Policy,
    /// What to do with messages that the guest fails at, and with records that are no messages.
    pub on_fault: Policy,
    /// Where dead letters go.
    pub dead_letters: Option<DeadLetters>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// Figures of a task, for readers on any thread.
#[derive(Debug, Default)]
pub struct TaskFigures {
    /// Messages processed since the start of the job, kept batches only.
    pub processed: AtomicU64,
    /// Messages rejected.
    pub rejected: AtomicU64,
    /// Messages, and records that were none, passed over because of `on-fault`, since the start of the process.
    pub condemned: AtomicU64,
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

/// How often a message must fail alone, in a new instance each time, until it is taken to be at fault.
const ATTEMPTS: u32 = 2;

/// A task at work.
pub struct Task {
    options: TaskOptions,
    guest: Guest,
    /// Which message is to blame for faults, and the input that it is of.
    isolation: Isolation,
    suspected: InputIndex,
    /// The sentence of the last fault.
    reported: String,
    /// The sentence of the last fault for which a message was passed over.
    passed_over: String,
    inbox: Arc<Inbox>,
    /// As it will be committed next.
    record: TaskRecord,
    figures: Arc<TaskFigures>,
    /// Which inputs have ended.
    ended: Vec<bool>,
    /// Something was kept, or a position moved, since the last seal.
    dirty: bool,
    life: Life,
    /// Readers that wait until the position where they began is recorded: by the open epoch, and by the sealed one.
    begun: Vec<Recorded>,
    begun_sealed: Vec<Recorded>,
    /// Such a position has come since [`Task::take_begins`] was last called.
    begins: bool,
    /// Messages processed when the process began.
    processed_before: u64,
}

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It processes what arrives.
    Running,
    /// All inputs have ended, and the guest has nothing more to send.
    Ended,
    /// It stopped, and does nothing more.
    Failed,
}

impl Life {
    fn end(&mut self) {
        self.leave_running(Life::Ended);
    }

    fn fail(&mut self) {
        self.leave_running(Life::Failed);
    }

    fn leave_running(&mut self, next: Life) {
        assert_eq!(*self, Life::Running, "a task becomes {next:?}");
        *self = next;
    }
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
        let figures = Arc::new(TaskFigures {
            processed: AtomicU64::new(record.processed),
            rejected: AtomicU64::new(record.rejected),
            positions,
            ..TaskFigures::default()
        });
        Task {
            options,
            guest: Guest::new(component, context, Arc::clone(&figures)),
            isolation: Isolation::new(ATTEMPTS),
            suspected: InputIndex(0),
            reported: String::new(),
            passed_over: String::new(),
            inbox,
            record,
            figures,
            ended: vec![false; inputs],
            dirty: false,
            life: Life::Running,
            begun: Vec::new(),
            begun_sealed: Vec::new(),
            begins: false,
            processed_before,
        }
    }

    /// Its id.
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
        self.guest.has_instance()
    }

    /// Whether a step has something to do that may need an instance.
    pub fn has_work(&self) -> bool {
        match self.life {
            Life::Running => !self.inbox.is_empty() || self.ended.iter().all(|ended| *ended),
            Life::Ended => !self.inbox.is_empty(),
            Life::Failed => false,
        }
    }

    /// Bytes of the open epoch.
    pub fn open_bytes(&self) -> usize {
        self.guest.context().open_bytes()
    }

    /// Whether an input has begun, since the last call, at a position that the next checkpoint must record soon.
    pub fn take_begins(&mut self) -> bool {
        std::mem::take(&mut self.begins)
    }

    /// Whether nothing was processed since the process began.
    pub fn is_fresh(&self) -> bool {
        self.record.processed == self.processed_before
    }

    /// What the guest asked for in the batches that were kept since the last call.
    pub fn take_requests(&mut self) -> Requests {
        self.guest.context_mut().take_requests()
    }

    /// Freezes the open epoch; `None` if nothing changed.
    pub fn seal(&mut self, pause: impl FnOnce() -> Duration) -> Option<SealedTask> {
        if !self.dirty {
            return None;
        }
        self.dirty = false;
        let context = self.guest.context_mut();
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
        self.guest.context_mut().release();
    }

    /// Whether all tasks together hold more committed values than they may.
    pub fn holds_too_much(&self) -> bool {
        self.guest.context().holds_too_much()
    }

    /// Gives up some of the committed values that it holds, if all tasks together hold too many. Whether there was something.
    pub fn trim(&mut self) -> bool {
        self.guest.context_mut().trim()
    }

    /// Drops the instance; the next batch makes a new one.
    pub fn drop_instance(&mut self, control: &StepControl) {
        self.guest.close(control);
    }

    fn stream_of(&self, input: InputIndex) -> &(String, StreamId) {
        &self.options.inputs[input.index()]
    }
}

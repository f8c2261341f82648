//! One task: its inbox, its guest, how a batch runs, what is kept of it, and what becomes of what goes wrong.
//!
//! A step takes one arrival from the inbox (`inbox/`), calls the guest with its messages (`run`, `guest`), keeps or undoes the
//! batch (`keep`), and answers rejections and faults by the stage's rules (`policy`, `rules`). What is kept belongs to the open
//! epoch; a seal hands that over. Must never know other tasks or checkpoints.
//!
//! Invariants: a batch is wholly kept or wholly undone; the position moves with the batch and never without; a held task
//! keeps its last good batch, and does nothing more until it is resumed.

mod careful;
mod code;
mod dead_letter;
mod failure;
mod figures;
mod groups;
mod guest;
mod held;
mod inbox;
mod isolation;
mod keep;
mod migration;
mod parked;
mod pending;
mod policy;
mod regression;
mod rules;
mod run;
mod step;
mod turns;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use careful::suspects;
pub use code::{CodeSource, NewCode};
pub use failure::{Cause, TaskFailure};
pub use figures::{Doing, TaskFigures};
use groups::Groups;
use guest::Guest;
pub use held::Resume;
use held::{Restarts, Skip};
pub use inbox::{Arrival, Inbox, ReadAhead, Recorded};
use isolation::Isolation;
use migration::Migration;
pub use parked::Parked;
use pending::Pending;
use policy::Rejected;
pub use rules::{Backoff, Breaker, Policy, Rules, WhenHeld};
pub use step::{Outcome, StepControl};
use turns::Turns;

use crate::crumbs::{Crumbs, Suspects};
use crate::epoch::SealedTask;
use crate::model::{Clock, InputIndex, MessageBounds, Offset, OutputIndex, StreamId, TaskId};
use crate::records::{Failing, Held, TaskRecord};
use crate::runtime::{Component, Requests, TaskContext, TaskInfo};

/// The stream of a stage's dead letters.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    /// The index of the stream in [`TaskOptions::ports`].
    pub port: OutputIndex,
    /// The stream's partitions.
    pub partitions: u32,
    /// What it refuses.
    pub bounds: Option<MessageBounds>,
}

/// What a task is made of.
pub struct TaskOptions {
    /// Its identity and its ports.
    pub info: Arc<TaskInfo>,
    /// The stream of each input.
    pub inputs: Vec<(String, StreamId)>,
    /// The stream of each output port, and of the dead letters.
    pub ports: Arc<[StreamId]>,
    /// Its rules for what goes wrong.
    pub rules: Rules,
    /// Where dead letters go.
    pub dead_letters: Option<DeadLetters>,
    /// Messages of a batch at most.
    pub batch_messages: usize,
    /// The message that it was held at is passed over, and nothing else is done before that.
    pub skips_held: bool,
    /// The code before, as long as it may come back.
    pub before: Weak<Component>,
    /// Which of the codes of its stage in this process it has: one more with each.
    pub generation: u64,
    /// It does nothing until it gets other code.
    pub waits_for_code: bool,
    /// The version of the state that its code is to migrate first.
    pub migrates_from: Option<u32>,
    /// Where it says what it takes, so that a death of the process is understood.
    pub crumbs: Arc<Crumbs>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// A task at work.
pub struct Task {
    options: TaskOptions,
    guest: Guest,
    /// Which message is to blame for faults, and the input that it is of.
    isolation: Isolation,
    suspected: InputIndex,
    /// How often the message was rejected that was last.
    rejected: Option<Rejected>,
    /// How often `on-end` has failed in a row.
    end_failures: u32,
    restarts: Restarts,
    /// The code before, as long as it may come back.
    before: Weak<Component>,
    /// Its code failed at a message that the code before passes, or cannot migrate its state: it does nothing until other code comes.
    regressed: bool,
    /// Its state has to be migrated before it goes on.
    migration: Option<Migration>,
    /// It is about to be held because of its code.
    blames_code: bool,
    /// The code before fails at the message as well that is about to be passed over.
    fails_before_too: bool,
    /// Messages that failed and that the code before does not fail at as well, and how many of the last ones had failed when it took its
    /// code: since the last seal.
    failed: u64,
    failing_before: Failing,
    /// Nothing is done before that.
    not_before: Option<Instant>,
    /// The breaker has tripped, or may, and lets one message pass all the same: once after each start and each time the task is
    /// resumed.
    spares_one: bool,
    /// What the running batch adds to the counts.
    pending: Pending,
    /// Where the replayed message was read first that it is about to be held at.
    origin: Option<(InputIndex, Offset)>,
    /// What it was held at when it was made, or last.
    held_before: Option<Held>,
    /// A message that is passed over, and comes next.
    skip: Option<Skip>,
    /// The replay queue is read to its end before anything else: it may free keys that are parked.
    queue_first: bool,
    /// Whose turn it is while letters are replayed.
    turns: Turns,
    /// Messages at one of which the process may have died.
    suspects: Vec<Suspects>,
    /// What it has met before.
    groups: Groups,
    /// The keys that wait for a letter, if the order of keys is kept.
    parked: Option<Parked>,
    inbox: Arc<Inbox>,
    /// As it will be committed next.
    record: TaskRecord,
    figures: Arc<TaskFigures>,
    /// Which inputs have ended.
    ended: Vec<bool>,
    /// Something was kept, or a position moved, since the last seal.
    dirty: bool,
    /// The same, and not only that the task is held.
    worked: bool,
    life: Life,
    /// Readers that wait until the position where they began is recorded: by the open epoch, and by the sealed one.
    begun: Vec<(StreamId, Recorded)>,
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
    /// It does nothing more until it is resumed.
    Held,
}

impl Life {
    fn end(&mut self) {
        self.leave_running(Life::Ended);
    }

    fn hold(&mut self) {
        self.leave_running(Life::Held);
    }

    fn leave_running(&mut self, next: Life) {
        assert_eq!(*self, Life::Running, "a task becomes {next:?}");
        *self = next;
    }
}

impl Task {
    /// A task at its last checkpoint. `parked`: the keys that wait for a letter, if the order of keys is kept.
    pub fn new(
        options: TaskOptions,
        component: Arc<Component>,
        context: TaskContext,
        mut record: TaskRecord,
        parked: Option<Parked>,
        inbox: Arc<Inbox>,
    ) -> Task {
        let inputs = options.inputs.len();
        let processed_before = record.processed;
        let held_before = record.held.take();
        let held = held_before.as_ref().filter(|_| options.skips_held);
        let skip = held.and_then(Skip::of);
        let held_at = held.and_then(|held| held.message);
        let suspected = held_at.and_then(|(stream, _)| {
            let at = options.inputs.iter().position(|(_, id)| *id == stream)?;
            u16::try_from(at).ok().map(InputIndex)
        });
        let streams = options.inputs.iter().map(|(_, stream)| *stream);
        let figures = Arc::new(TaskFigures::new(&record, streams, options.batch_messages));
        let suspects = suspects(&options, &record);
        let attempts = options.rules.attempts;
        let before = Weak::clone(&options.before);
        figures.note_parked(parked.as_ref().map_or(0, Parked::len));
        figures.note_migrating(options.migrates_from.is_some());
        let (waits_for_code, migrates_from) = (options.waits_for_code, options.migrates_from);
        Task {
            options,
            guest: Guest::new(component, context, Arc::clone(&figures)),
            isolation: Isolation::new(attempts),
            suspected: suspected.unwrap_or(InputIndex(0)),
            rejected: None,
            end_failures: 0,
            restarts: Restarts::default(),
            before,
            regressed: waits_for_code,
            migration: migrates_from.map(Migration::from),
            blames_code: false,
            fails_before_too: false,
            failed: 0,
            failing_before: Failing::default(),
            not_before: None,
            spares_one: true,
            pending: Pending::default(),
            origin: None,
            held_before,
            skip,
            queue_first: false,
            turns: Turns::default(),
            suspects,
            groups: Groups::default(),
            parked,
            inbox,
            record,
            figures,
            ended: vec![false; inputs],
            dirty: false,
            worked: false,
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
        if self.is_migrating() {
            return self.has_to_migrate();
        }
        match self.life {
            Life::Running if self.is_waiting() || self.regressed => false,
            Life::Running => !self.inbox.is_empty() || self.ended.iter().all(|ended| *ended),
            Life::Ended => !self.inbox.is_empty(),
            Life::Held => false,
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
        self.record.store_time = self.record.store_time.max(context.now());
        for (port, stream) in self.options.ports.iter().enumerate() {
            if let Some(port) = self.options.info.outputs.get(port) {
                let next = context.round_robin(port.counter);
                self.record.round_robin.insert(*stream, next);
            }
        }
        let (began, begun): (Vec<_>, Vec<_>) = self.begun.drain(..).unzip();
        self.begun_sealed.extend(begun);
        let (state, staged) = context.seal();
        Some(SealedTask {
            task: self.options.info.id,
            state,
            staged,
            ports: Arc::clone(&self.options.ports),
            record: self.record.clone(),
            began,
            worked: std::mem::take(&mut self.worked),
            failed: std::mem::take(&mut self.failed),
            failing_before: std::mem::take(&mut self.failing_before),
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

//! Other code takes over: a task at a barrier, between what it has sealed and its next batch.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::isolation::Isolation;
use super::migration::Migration;
use super::{DeadLetters, Rules, StepControl, Task};
use crate::model::{StoreIndex, StreamId, TaskId};
use crate::records::Failing;
use crate::runtime::{Component, TaskInfo};
use crate::state::StoreFrom;

/// What becomes another with the code of a task.
pub struct NewCode {
    /// The component.
    pub component: Arc<Component>,
    /// Its ports and stores.
    pub info: Arc<TaskInfo>,
    /// The stream of each output port, and of the dead letters.
    pub ports: Arc<[StreamId]>,
    /// Where dead letters go.
    pub dead_letters: Option<DeadLetters>,
    /// Its rules for what goes wrong.
    pub rules: Rules,
    /// All of its stores, in their new order.
    pub stores: Vec<StoreFrom>,
    /// The store of the keys that wait for a letter, if their order is kept.
    pub parked: Option<StoreIndex>,
    /// The code before, as long as it may come back.
    pub before: Weak<Component>,
    /// Which of the codes of its stage in this process it is: one more with each.
    pub generation: u64,
    /// The version of the state that it has to migrate first.
    pub migrates_from: Option<u32>,
}

/// Where the tasks of a stage find their new code.
pub trait CodeSource: Send + Sync {
    /// That of a task.
    fn code_of(&self, task: TaskId) -> NewCode;
}

impl Task {
    /// Before it seals for the last time under its old code: what was held against the messages counts no more.
    pub fn forget_failures(&mut self) {
        if self.record.failing != Failing::default() {
            self.failing_before = std::mem::take(&mut self.record.failing);
            self.dirty = true;
        }
    }

    /// Closes its instance and takes other code. It has just sealed, and nothing of it is open.
    pub fn take_code(&mut self, code: NewCode, control: &StepControl, pause: Duration) {
        let began = Instant::now();
        self.guest.close(control);
        let counter = |stream: &StreamId| self.record.round_robin.get(stream).copied();
        let counters = code.ports[..code.info.outputs.len()].iter().map(counter);
        let counters = counters.map(Option::unwrap_or_default).collect();
        let context = self.guest.context_mut();
        context.take_code(Arc::clone(&code.info), code.stores, counters);
        if let (Some(parked), Some(store)) = (&mut self.parked, code.parked) {
            parked.move_to(store);
        }
        self.options.info = code.info;
        self.options.ports = code.ports;
        self.options.dead_letters = code.dead_letters;
        self.options.rules = code.rules;
        self.before = code.before;
        self.options.generation = code.generation;
        self.migration = code.migrates_from.map(Migration::from);
        self.figures.note_migrating(self.is_migrating());
        self.forget_attempts();
        let away = pause + began.elapsed();
        self.figures.note_pause_at_swap(away);
        self.guest.take_component(code.component, away);
    }

    /// What the old code could not do, the new code is asked to do as if for the first time.
    fn forget_attempts(&mut self) {
        self.isolation = Isolation::new(self.options.rules.attempts);
        self.note_isolation();
        self.rejected = None;
        self.end_failures = 0;
        self.restarts = Default::default();
        self.not_before = None;
        self.go_on();
        self.spares_one = true;
    }
}

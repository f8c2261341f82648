//! An epoch from its barrier to its release.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Command, Content, Cut, Deliveries, Machine};
use crate::checkpoint::decide::Trigger;
use crate::model::Epoch;
use crate::scheduler::TaskIndex;

/// A barrier that has been set.
pub(super) struct Barrier {
    epoch: Epoch,
    /// The tasks that have yet to seal.
    awaited: BTreeSet<TaskIndex>,
    /// Whether there is something to commit: of a task that has sealed, or other code.
    has_content: bool,
}

impl Machine {
    pub(super) fn sealed(
        &mut self,
        task: TaskIndex,
        epoch: Epoch,
        content: Content,
        commands: &mut Vec<Command>,
        now: Instant,
    ) {
        let Some(barrier) = &mut self.barrier else {
            panic!("a task sealed for no barrier");
        };
        assert_eq!(barrier.epoch, epoch, "a task sealed for another barrier");
        assert!(
            barrier.awaited.remove(&task),
            "a task sealed that was not asked"
        );
        barrier.has_content |= content == Content::Some;
        self.try_commit(commands, now);
    }

    /// Other code takes over at the next barrier. A drain is the end of the code that runs.
    pub(super) fn want_cut(&mut self, tasks: &BTreeSet<TaskIndex>) {
        if self.stopping.is_none() {
            self.cut.get_or_insert_default().extend(tasks);
            self.requested = self.requested.max(Some(Trigger::Swap));
        }
    }

    fn try_commit(&mut self, commands: &mut Vec<Command>, now: Instant) {
        let Some(barrier) = &self.barrier else { return };
        if !barrier.awaited.is_empty() {
            return;
        }
        let (epoch, has_content) = (barrier.epoch, barrier.has_content);
        self.barrier = None;
        if !has_content && self.deliveries == Deliveries::Recorded {
            // Nothing changed, so nothing is written; the last checkpoint answers those who asked.
            self.release(commands);
            commands.push(Command::Answer(self.last_epoch));
            return;
        }
        self.committing = Some((epoch, now));
        commands.push(Command::Commit(epoch));
    }

    pub(super) fn committed(&mut self, epoch: Epoch, commands: &mut Vec<Command>) {
        self.last_epoch = epoch;
        self.release(commands);
    }

    pub(super) fn delivered(
        &mut self,
        epoch: Epoch,
        deliveries: Deliveries,
        commands: &mut Vec<Command>,
        now: Instant,
    ) {
        let Some((committing, began)) = self.committing.take() else {
            panic!("an epoch is delivered that was not committed");
        };
        assert_eq!(committing, epoch, "another epoch is delivered");
        self.last_end = now;
        self.last_cost = now.saturating_duration_since(began);
        self.deliveries = deliveries;
        commands.push(Command::Answer(epoch));
    }

    /// The tasks of the epoch have nothing in it any more.
    fn release(&mut self, commands: &mut Vec<Command>) {
        let tasks: Vec<TaskIndex> = std::mem::take(&mut self.tasks.in_flight)
            .into_iter()
            .collect();
        if tasks.is_empty() {
            return;
        }
        commands.push(Command::Release(tasks.clone()));
        for task in tasks {
            self.settle(task, commands);
        }
    }

    pub(super) fn set_barrier(
        &mut self,
        trigger: Trigger,
        commands: &mut Vec<Command>,
        now: Instant,
    ) {
        let trigger = match self.cut {
            Some(_) => Trigger::Swap,
            None => trigger,
        };
        let epoch = self.last_epoch.next();
        self.open_bytes_due = false;
        self.requested = None;
        self.last_barrier = now;
        let mut awaited = std::mem::take(&mut self.tasks.changed);
        let cut = match self.cut.take() {
            None => Cut::None,
            Some(tasks) => {
                let can_be_cut = |task: &TaskIndex| self.tasks.can_be_cut(*task);
                awaited.extend(tasks.into_iter().filter(can_be_cut));
                Cut::Some
            }
        };
        assert!(self.tasks.in_flight.is_empty(), "one epoch at a time");
        self.tasks.in_flight.clone_from(&awaited);
        commands.push(Command::Seal(
            epoch,
            trigger,
            awaited.iter().copied().collect(),
            cut,
        ));
        self.barrier = Some(Barrier {
            epoch,
            awaited,
            has_content: cut == Cut::Some,
        });
        // A barrier that no task has changes for is over at once.
        self.try_commit(commands, now);
    }
}

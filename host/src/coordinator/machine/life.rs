//! How tasks come, go and fail.

use std::time::Instant;

use super::{Command, Ending, Machine, Phase, REPRIEVE, Then, Wish};
use crate::checkpoint::decide::Trigger;
use crate::scheduler::{Met, TaskIndex};

impl Machine {
    pub(super) fn failed(
        &mut self,
        task: TaskIndex,
        met: Met,
        commands: &mut Vec<Command>,
        now: Instant,
    ) {
        self.failed.insert(task);
        match self.tasks.phase(task) {
            Phase::Running => self.tasks.set(task, Phase::Failed),
            Phase::Restoring => self.tasks.set(task, Phase::NotMade),
            // One that was asked to stop may fail before it does.
            _ => {}
        }
        match met == Met::First && self.stopping.is_none() && !self.tasks.are_over() {
            true => _ = self.reprieve.get_or_insert(now + REPRIEVE),
            false => self.fail(commands, now),
        }
    }

    /// The others go on, and the job ends as one in which a task has failed.
    pub(super) fn held(&mut self, task: TaskIndex) {
        let next = match self.tasks.phase(task) {
            Phase::Running => Phase::Held,
            // Until somebody wants it made again.
            Phase::Restoring => Phase::Suspended,
            // One that was asked to stop may be held before it does.
            _ => return,
        };
        self.failed.insert(task);
        self.tasks.set(task, next);
        if let Some((ending, _)) = &mut self.stopping {
            *ending = Ending::Failed;
        }
    }

    /// Something is wanted of a task. What its phase or a drain does not allow is passed over.
    pub(super) fn wish(&mut self, task: TaskIndex, wish: Wish, commands: &mut Vec<Command>) {
        if self.stopping.is_some() {
            return;
        }
        let phase = self.tasks.phase(task);
        let away = match wish {
            Wish::Abandon => return self.abandon(task, commands),
            Wish::Suspend => Phase::Suspended,
            Wish::Retire => Phase::Retired,
            Wish::Restart(_) | Wish::Start => Phase::Restoring,
            Wish::Resume => {
                if phase == Phase::Held {
                    self.tasks.set(task, Phase::Running);
                    self.forgive(task);
                    commands.push(Command::Resume(task));
                }
                return;
            }
        };
        let then = match wish {
            Wish::Suspend => Some(Then::Suspend),
            Wish::Retire => Some(Then::Retire),
            Wish::Restart(until) => Some(Then::Restart(until)),
            Wish::Start | Wish::Resume | Wish::Abandon => None,
        };
        if let Some(then) = then
            && phase.may_become(Phase::Stopping(then))
        {
            self.tasks.set(task, Phase::Stopping(then));
            commands.push(Command::StopTask(task));
        } else if phase.is_here() || phase == Phase::Restoring || !phase.may_become(away) {
            // It is on its way already.
        } else {
            self.tasks.set(task, away);
            if away == Phase::Restoring {
                commands.push(Command::Make(task));
            }
        }
    }

    /// A task leaves, and drops what it has in the open epoch. One that is being made is not needed once it is.
    fn abandon(&mut self, task: TaskIndex, commands: &mut Vec<Command>) {
        match self.tasks.phase(task) {
            Phase::Running | Phase::Ended | Phase::Failed | Phase::Held => {
                self.tasks.set(task, Phase::Stopping(Then::Abandon));
                commands.push(Command::StopTask(task));
            }
            Phase::Stopping(Then::Restart(_) | Then::Suspend) => {
                self.tasks.redirect(task);
                self.settle(task, commands);
            }
            Phase::Leaving(Then::Restart(_)) => self.tasks.redirect(task),
            Phase::BackingOff(_) => self.tasks.set(task, Phase::Suspended),
            _ => {}
        }
    }

    /// Goes on with a task that has stopped: its last changes are committed, then it leaves.
    pub(super) fn settle(&mut self, task: TaskIndex, commands: &mut Vec<Command>) {
        if let Some(then) = self.tasks.settled(task) {
            self.tasks.changed.remove(&task);
            self.tasks.set(task, Phase::Leaving(then));
            commands.push(Command::Remove(task));
        } else if self.tasks.wants_checkpoint(task) && self.stopping.is_none() {
            self.requested = self.requested.max(Some(Trigger::Operator));
        }
    }

    pub(super) fn left(&mut self, task: TaskIndex) {
        let Phase::Leaving(then) = self.tasks.phase(task) else {
            panic!("task {task:?} has left unasked");
        };
        let next = match then {
            Then::Suspend | Then::Abandon => Phase::Suspended,
            Then::Retire => Phase::Retired,
            Then::Restart(until) => Phase::BackingOff(until),
        };
        self.tasks.set(task, next);
    }

    /// Makes those again whose time has come.
    pub(super) fn restart(&mut self, commands: &mut Vec<Command>, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        while let Some(task) = self.tasks.due(now) {
            self.tasks.set(task, Phase::Restoring);
            commands.push(Command::Make(task));
        }
    }

    pub(super) fn made(&mut self, task: TaskIndex, commands: &mut Vec<Command>) {
        if self.stopping.is_some() {
            self.tasks.set(task, Phase::Suspended);
            commands.push(Command::Discard(task));
            return;
        }
        self.forgive(task);
        self.tasks.set(task, Phase::Running);
        commands.push(Command::Put(task));
    }

    /// That a task has failed is over.
    fn forgive(&mut self, task: TaskIndex) {
        self.failed.remove(&task);
        if self.failed.is_empty() {
            self.reprieve = None;
        }
    }
}

//! What happens next: events in, commands out. No thread, clock, channel or disk.
//!
//! [`events`] has the vocabulary, [`barrier`] an epoch from its barrier to its release, [`tasks`] the phases of the tasks and
//! [`life`] how a task goes from one to the next; this file has the drain, and what an event means for all of them.

mod barrier;
mod events;
mod life;
mod tasks;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub use events::{Command, Content, Cut, Deliveries, Ending, Event, Wish};
pub use tasks::{Phase, Then};

use barrier::Barrier;
use tasks::Tasks;

use crate::checkpoint::decide::{self, CadenceOptions, Due, Facts, Trigger};
use crate::model::Epoch;
use crate::scheduler::TaskIndex;

/// How long the other tasks have to catch up if one fails at what it met first.
pub const REPRIEVE: Duration = Duration::from_secs(10);

/// A checkpoint that is being written is looked at so often.
const LOOK: Duration = Duration::from_secs(1);

/// A drain that was asked for ends so long after `drain-timeout`, whatever hangs.
pub const STUCK_AFTER: Duration = Duration::from_secs(3);

/// So long after `drain-timeout` the process ends, where not even that comes to pass; another second may go by while it says so.
pub const LAST_RESORT_AFTER: Duration = Duration::from_secs(4);

/// Settings of the decisions.
#[derive(Debug, Clone)]
pub struct MachineOptions {
    /// When barriers are due.
    pub cadence: CadenceOptions,
    /// Consecutive failed attempts tolerated.
    pub tolerate_failures: u32,
    /// One attempt.
    pub timeout: Duration,
    /// From the wish to stop to the interruption of running calls.
    pub drain_timeout: Duration,
    /// Tasks.
    pub tasks: usize,
}

/// The coordinator's state machine.
pub struct Machine {
    options: MachineOptions,
    tasks: Tasks,
    last_epoch: Epoch,
    barrier: Option<Barrier>,
    committing: Option<(Epoch, Instant)>,
    /// When the last event came.
    seen: Instant,
    open_bytes_due: bool,
    requested: Option<Trigger>,
    /// The tasks in which other code takes over at the next barrier.
    cut: Option<BTreeSet<TaskIndex>>,
    last_barrier: Instant,
    last_end: Instant,
    last_cost: Duration,
    /// Tasks that have failed in this process, and were not made again.
    failed: BTreeSet<TaskIndex>,
    /// Until then the others go on although a task has failed.
    reprieve: Option<Instant>,
    deliveries: Deliveries,
    stopping: Option<(Ending, Instant)>,
    /// When it was asked to stop, or a task failed: what goes on then has an end.
    hurried: Option<Instant>,
    gave_up: bool,
    quiet: bool,
    exited: bool,
}

impl Machine {
    /// A job that starts at `now` after the committed epoch `last`.
    pub fn new(
        options: MachineOptions,
        last: Epoch,
        deliveries: Deliveries,
        now: Instant,
    ) -> Machine {
        Machine {
            tasks: Tasks::new(options.tasks),
            options,
            last_epoch: last,
            barrier: None,
            committing: None,
            seen: now,
            open_bytes_due: false,
            requested: None,
            cut: None,
            last_barrier: now,
            last_end: now,
            last_cost: decide::FIRST_COST,
            failed: BTreeSet::new(),
            reprieve: None,
            deliveries,
            stopping: None,
            hurried: None,
            gave_up: false,
            quiet: false,
            exited: false,
        }
    }

    /// Takes an event and says what to do.
    pub fn step(&mut self, event: &Event, now: Instant) -> Vec<Command> {
        let mut commands = Vec::new();
        self.note_standstill(now);
        match event {
            Event::Tick => {}
            Event::Changed(task) => _ = self.tasks.changed.insert(*task),
            Event::Bytes => self.open_bytes_due = true,
            // A drain takes its own checkpoints, so a request made by the last batch would never be served.
            Event::Wanted(_) if self.stopping.is_some() => {}
            Event::Wanted(trigger) => self.requested = self.requested.max(Some(*trigger)),
            Event::Cut(tasks) => self.want_cut(tasks),
            Event::Sealed(task, epoch, content) => {
                self.sealed(*task, *epoch, *content, &mut commands, now);
            }
            Event::Ended(task) => {
                // One that was asked to stop may come to its end before it does.
                if self.tasks.phase(*task) == Phase::Running {
                    self.tasks.set(*task, Phase::Ended);
                }
            }
            Event::Failed(task, met) => self.failed(*task, *met, &mut commands, now),
            Event::Held(task) => self.held(*task),
            Event::Wish(task, wish) => self.wish(*task, *wish, &mut commands),
            Event::Wishes(tasks, wish) => {
                for task in tasks {
                    self.wish(*task, *wish, &mut commands);
                }
            }
            Event::NotNeeded(task) => self.tasks.set(*task, Phase::Suspended),
            Event::Stopped(task) => {
                self.tasks.note_stopped(*task);
                self.settle(*task, &mut commands);
            }
            Event::Left(task) => self.left(*task),
            Event::Made(task) => self.made(*task, &mut commands),
            Event::CaughtUp => {
                if self.reprieve.is_some() {
                    self.fail(&mut commands, now);
                }
            }
            Event::Committed(epoch) => self.committed(*epoch, &mut commands),
            Event::Delivered(epoch, deliveries) => {
                self.delivered(*epoch, *deliveries, &mut commands, now);
            }
            Event::AttemptFailed(failed) => self.attempt_failed(*failed, &mut commands, now),
            Event::CommitFailed => self.exit(Ending::Host, &mut commands),
            Event::Quiet => self.quiet = true,
            Event::Stop => {
                self.hurried.get_or_insert(now);
                self.stop(Ending::Drained, &mut commands, now);
            }
            Event::Idle => self.stop(Ending::Drained, &mut commands, now),
        }
        if self.reprieve.is_some_and(|until| now >= until) {
            self.fail(&mut commands, now);
        }
        self.restart(&mut commands, now);
        if self.stopping.is_none() && self.tasks.are_over() {
            match self.failed.is_empty() {
                true => self.stop(Ending::Finished, &mut commands, now),
                false => self.fail(&mut commands, now),
            }
        }
        self.proceed(&mut commands, now);
        commands
    }

    /// When [`Event::Tick`] is needed, if nothing else happens.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        let due = match decide::barrier(&self.options.cadence, &self.facts(), now) {
            Due::At(at) => Some(at),
            Due::Now(_) | Due::WhenChanged => None,
        };
        let drain = match self.stopping {
            Some((_, began)) if !self.gave_up => Some(began + self.options.drain_timeout),
            _ => None,
        };
        let stuck = self.committing.map(|_| self.seen + LOOK);
        let end = self.hurried.map(|began| self.end_of_drain(began));
        let restart = match self.stopping {
            None => self.tasks.next_restart(),
            Some(_) => None,
        };
        [due, drain, stuck, end, restart, self.reprieve]
            .into_iter()
            .flatten()
            .min()
    }

    /// A checkpoint is not stuck because the process stood still: the time between two looks counts up to twice what it should be.
    fn note_standstill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.seen);
        if let Some((_, began)) = &mut self.committing {
            *began += passed.saturating_sub(2 * LOOK);
        }
        self.seen = now;
    }

    /// Whether a checkpoint is between its barrier and its delivery.
    pub fn is_committing(&self) -> bool {
        self.barrier.is_some() || self.committing.is_some()
    }

    /// Whether tasks have yet to seal.
    pub fn awaits_seals(&self) -> bool {
        self.barrier.is_some()
    }

    /// Whether the job goes on for a while although a task has failed.
    pub fn is_reprieved(&self) -> bool {
        self.reprieve.is_some()
    }

    /// Where a task is in its life.
    pub fn phase(&self, task: TaskIndex) -> Phase {
        self.tasks.phase(task)
    }

    /// Since when it was asked to stop.
    pub fn hurried(&self) -> Option<Instant> {
        self.hurried
    }

    /// Whether it waits for [`Event::Quiet`].
    pub fn awaits_quiet(&self) -> bool {
        self.stopping.is_some() && !self.quiet
    }

    /// Whether the open epoch has changes.
    pub fn is_changed(&self) -> bool {
        !self.tasks.changed.is_empty()
    }

    /// An attempt that has not reached its write gives up after `timeout` plus one back-off. If it takes longer, the write itself is
    /// stuck.
    fn stuck_after(&self) -> Duration {
        decide::BACKOFF_MAX + 2 * self.options.timeout
    }

    fn end_of_drain(&self, began: Instant) -> Instant {
        began + self.options.drain_timeout + STUCK_AFTER
    }

    fn facts(&self) -> Facts {
        Facts {
            changed: self.is_changed(),
            open_bytes: if self.open_bytes_due {
                self.options.cadence.bytes_max
            } else {
                0
            },
            committing: self.is_committing(),
            requested: self.requested,
            last_barrier: self.last_barrier,
            last_end: self.last_end,
            last_cost: self.last_cost,
        }
    }

    /// Tasks have failed, and the others have had their time.
    fn fail(&mut self, commands: &mut Vec<Command>, now: Instant) {
        self.reprieve = None;
        self.hurried.get_or_insert(now);
        self.stop(Ending::Failed, commands, now);
    }

    fn stop(&mut self, ending: Ending, commands: &mut Vec<Command>, now: Instant) {
        match &mut self.stopping {
            None => {
                let ending = match self.failed.is_empty() {
                    true => ending,
                    false => Ending::Failed,
                };
                self.reprieve = None;
                self.cut = None;
                self.stopping = Some((ending, now));
                commands.push(Command::Drain);
                let trigger = match ending {
                    Ending::Finished => Trigger::EndOfInput,
                    _ => Trigger::Drain,
                };
                self.requested = Some(trigger);
            }
            // A failure is the reason to tell, before a drain as during it.
            Some((current, _)) if ending == Ending::Failed => *current = ending,
            Some(_) => {}
        }
    }

    fn attempt_failed(&mut self, failed: u32, commands: &mut Vec<Command>, now: Instant) {
        if let Some((_, began)) = &mut self.committing {
            *began = now;
        }
        if failed > self.options.tolerate_failures {
            self.exit(Ending::Host, commands);
        }
    }

    fn exit(&mut self, ending: Ending, commands: &mut Vec<Command>) {
        if !self.exited {
            self.exited = true;
            commands.push(Command::Exit(ending));
        }
    }

    fn proceed(&mut self, commands: &mut Vec<Command>, now: Instant) {
        if self.exited {
            return;
        }
        if let Some((_, began)) = self.committing
            && now >= began + self.stuck_after()
        {
            return self.exit(Ending::Host, commands);
        }
        if self
            .hurried
            .is_some_and(|began| now >= self.end_of_drain(began))
        {
            return self.exit(Ending::Stuck, commands);
        }
        if let Some((ending, began)) = self.stopping
            && self.drain(ending, began, commands, now)
        {
            return;
        }
        if let Due::Now(trigger) = decide::barrier(&self.options.cadence, &self.facts(), now) {
            self.set_barrier(trigger, commands, now);
            // A drain may be over with a barrier that had nothing to seal.
            if let Some((ending, began)) = self.stopping
                && !self.is_committing()
            {
                self.drain(ending, began, commands, now);
            }
        }
    }

    /// Whether the drain is over. Before that, it asks for what it still needs.
    fn drain(
        &mut self,
        ending: Ending,
        began: Instant,
        commands: &mut Vec<Command>,
        now: Instant,
    ) -> bool {
        if !self.gave_up && now >= began + self.options.drain_timeout {
            self.gave_up = true;
            commands.push(Command::GiveUp);
        }
        if self.is_committing() || self.requested.is_some() || !self.quiet {
            return false;
        }
        if self.is_changed() || self.deliveries == Deliveries::Unrecorded {
            // One more checkpoint: for what the last calls did, or to record a delivery.
            self.requested = Some(Trigger::Drain);
            return false;
        }
        self.exit(ending, commands);
        true
    }
}

#[cfg(test)]
mod tests;

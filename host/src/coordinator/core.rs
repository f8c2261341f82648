//! What happens next: events in, commands out. No thread, clock, channel or disk.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::checkpoint::decide::{self, CadenceOptions, Due, Facts, Trigger};
use crate::model::Epoch;
use crate::scheduler::TaskIndex;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nothing but time.
    Tick,
    /// The open epoch has its first change.
    Changed,
    /// Half of the bytes that may be uncommitted are.
    Bytes,
    /// Somebody wants a checkpoint.
    Wanted(Trigger),
    /// A task has sealed; `true`: with something in it.
    Sealed(Epoch, bool),
    /// A task's inputs have ended.
    Ended(TaskIndex),
    /// A task stopped: the others are drained, then the job ends. `true`: it stopped at what it met first. At the next start it
    /// will again, so the others are drained when they have caught up, or after [`REPRIEVE`].
    Failed(TaskIndex, bool),
    /// What the tasks that have not failed can read is read and processed.
    CaughtUp,
    /// The epoch is durable, and readers see it.
    Committed(Epoch),
    /// Its output is delivered; `true`: a delivery is still to be recorded.
    Delivered(Epoch, bool),
    /// An attempt failed before the decision point; so many in a row.
    AttemptFailed(u32),
    /// A checkpoint's outcome is unknown, or the disk is full.
    CommitFailed,
    /// A signal, or an operator, asks to stop.
    Stop,
    /// All inputs are read and nothing is to be done (only with `--until-idle`).
    Idle,
    /// After [`Command::Drain`]: no call of a guest runs any more.
    Quiet,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Ask every changed task to seal. The answer is how many will; it comes back as [`Core::barrier_set`].
    SetBarrier(Epoch, Trigger),
    /// Hand what was sealed to the commit.
    Commit(Epoch),
    /// No batch starts any more; readers stop.
    Drain,
    /// Interrupt the calls that still run: their batches are undone.
    GiveUp,
    /// Whoever waited for the last barrier has its checkpoint.
    Answer(Epoch),
    /// End, for this reason.
    Exit(Ending),
}

/// Why the job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All inputs have ended.
    Finished,
    /// It was asked to stop.
    Drained,
    /// Tasks failed.
    Failed,
    /// The host failed.
    Host,
    /// It was to stop, and something did not.
    Stuck,
}

/// The tasks beside one that stops at once have this long to catch up.
pub const REPRIEVE: Duration = Duration::from_secs(10);

/// A checkpoint that is being written is looked at so often.
const LOOK: Duration = Duration::from_secs(1);

/// A drain that was asked for ends so long after `drain-timeout`, whatever hangs.
pub const STUCK_AFTER: Duration = Duration::from_secs(3);

/// So long after `drain-timeout` the process ends, where not even that comes to pass; another second may go by while it says so.
pub const LAST_RESORT_AFTER: Duration = Duration::from_secs(4);

/// Settings of the decisions.
#[derive(Debug, Clone)]
pub struct CoreOptions {
    /// When barriers are due.
    pub cadence: CadenceOptions,
    /// Failed attempts in a row that are borne.
    pub tolerate_failures: u32,
    /// One attempt.
    pub timeout: Duration,
    /// From the wish to stop to the interruption of running calls.
    pub drain_timeout: Duration,
    /// Tasks.
    pub tasks: usize,
}

struct Barrier {
    epoch: Epoch,
    /// How many tasks have yet to seal; `None`: not known yet.
    awaited: Option<usize>,
    sealed: usize,
    content: usize,
}

/// The coordinator's mind.
pub struct Core {
    options: CoreOptions,
    last_epoch: Epoch,
    barrier: Option<Barrier>,
    committing: Option<(Epoch, Instant)>,
    /// When the last event came.
    seen: Instant,
    changed: bool,
    open_bytes_due: bool,
    requested: Option<Trigger>,
    last_barrier: Instant,
    last_end: Instant,
    ended: BTreeSet<TaskIndex>,
    failed: BTreeSet<TaskIndex>,
    /// Until then the others go on although a task has failed.
    reprieve: Option<Instant>,
    unrecorded: bool,
    stopping: Option<(Ending, Instant)>,
    /// When somebody asked it to stop, or a task failed: what goes on then has an end.
    hurried: Option<Instant>,
    gave_up: bool,
    quiet: bool,
    exited: bool,
}

impl Core {
    /// A job that starts at `now` after the committed epoch `last`.
    pub fn new(options: CoreOptions, last: Epoch, unrecorded: bool, now: Instant) -> Core {
        Core {
            options,
            last_epoch: last,
            barrier: None,
            committing: None,
            seen: now,
            changed: false,
            open_bytes_due: false,
            requested: None,
            last_barrier: now,
            last_end: now,
            ended: BTreeSet::new(),
            failed: BTreeSet::new(),
            reprieve: None,
            unrecorded,
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
            Event::Changed => self.changed = true,
            Event::Bytes => self.open_bytes_due = true,
            // A drain takes its own checkpoints; what a last batch asks for on top would be waited for in vain.
            Event::Wanted(_) if self.stopping.is_some() => {}
            Event::Wanted(trigger) => self.requested = self.requested.max(Some(*trigger)),
            Event::Sealed(epoch, content) => self.sealed(*epoch, *content, &mut commands, now),
            Event::Ended(task) => {
                self.ended.insert(*task);
            }
            Event::Failed(task, at_once) => {
                self.ended.insert(*task);
                self.failed.insert(*task);
                match *at_once && self.stopping.is_none() && self.ended.len() < self.options.tasks {
                    true => _ = self.reprieve.get_or_insert(now + REPRIEVE),
                    false => self.fail(&mut commands, now),
                }
            }
            Event::CaughtUp => {
                if self.reprieve.is_some() {
                    self.fail(&mut commands, now);
                }
            }
            Event::Committed(epoch) => self.last_epoch = *epoch,
            Event::Delivered(epoch, unrecorded) => {
                assert_eq!(
                    self.committing.map(|(epoch, _)| epoch),
                    Some(*epoch),
                    "another epoch is delivered"
                );
                self.committing = None;
                self.last_end = now;
                self.unrecorded = *unrecorded;
                commands.push(Command::Answer(*epoch));
            }
            Event::AttemptFailed(failed) => {
                if let Some((_, began)) = &mut self.committing {
                    *began = now;
                }
                if *failed > self.options.tolerate_failures {
                    self.exit(Ending::Host, &mut commands);
                }
            }
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
        if self.ended.len() == self.options.tasks && self.stopping.is_none() {
            match self.failed.is_empty() {
                true => self.stop(Ending::Finished, &mut commands, now),
                false => self.fail(&mut commands, now),
            }
        }
        self.proceed(&mut commands, now);
        commands
    }

    /// The answer to [`Command::SetBarrier`]: so many tasks will seal.
    pub fn barrier_set(&mut self, tasks: usize, now: Instant) -> Vec<Command> {
        let mut commands = Vec::new();
        if let Some(barrier) = &mut self.barrier {
            barrier.awaited = Some(tasks);
        }
        self.try_commit(&mut commands, now);
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
        [due, drain, stuck, end, self.reprieve]
            .into_iter()
            .flatten()
            .min()
    }

    /// A checkpoint is not stuck because the process stood still: what passed between two looks at it counts up to twice as long as
    /// there should be between them.
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

    /// Whether a task has failed.
    pub fn has_failed(&self, task: TaskIndex) -> bool {
        self.failed.contains(&task)
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
        self.changed
    }

    /// An attempt that is not yet at its write ends by itself in `timeout`, after a wait; one that takes longer is stuck in it.
    fn stuck_after(&self) -> Duration {
        decide::BACKOFF_MAX + 2 * self.options.timeout
    }

    fn end_of_drain(&self, began: Instant) -> Instant {
        began + self.options.drain_timeout + STUCK_AFTER
    }

    fn facts(&self) -> Facts {
        Facts {
            changed: self.changed,
            open_bytes: if self.open_bytes_due {
                self.options.cadence.bytes_max
            } else {
                0
            },
            committing: self.is_committing(),
            requested: self.requested,
            last_barrier: self.last_barrier,
            last_end: self.last_end,
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

    fn exit(&mut self, ending: Ending, commands: &mut Vec<Command>) {
        if !self.exited {
            self.exited = true;
            commands.push(Command::Exit(ending));
        }
    }

    fn sealed(&mut self, epoch: Epoch, content: bool, commands: &mut Vec<Command>, now: Instant) {
        let Some(barrier) = &mut self.barrier else {
            panic!("a task sealed for no barrier");
        };
        assert_eq!(barrier.epoch, epoch, "a task sealed for another barrier");
        barrier.sealed += 1;
        barrier.content += usize::from(content);
        self.try_commit(commands, now);
    }

    fn try_commit(&mut self, commands: &mut Vec<Command>, now: Instant) {
        let Some(barrier) = &self.barrier else { return };
        if barrier.awaited != Some(barrier.sealed) {
            return;
        }
        let (epoch, content) = (barrier.epoch, barrier.content);
        self.barrier = None;
        if content == 0 && !self.unrecorded {
            // Nothing changed: nothing is written, and whoever waits has the last checkpoint.
            commands.push(Command::Answer(self.last_epoch));
            return;
        }
        self.committing = Some((epoch, now));
        commands.push(Command::Commit(epoch));
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
            let epoch = self.last_epoch.next();
            self.changed = false;
            self.open_bytes_due = false;
            self.requested = None;
            self.last_barrier = now;
            self.barrier = Some(Barrier {
                epoch,
                awaited: None,
                sealed: 0,
                content: 0,
            });
            commands.push(Command::SetBarrier(epoch, trigger));
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
        if self.changed || self.unrecorded {
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

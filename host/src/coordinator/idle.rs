//! What the loop waits for, and whether everything is read.

use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::machine::Phase;
use super::tasks::{InputEntry, TaskEntry};
use super::{Coordinator, Mail};
use crate::connectors::log::LogReader as _;
use crate::scheduler::TaskIndex;
use crate::task::Doing;

/// How often a drain looks whether a task still runs.
const LOOK: Duration = Duration::from_millis(5);
/// How often a job that ends when everything is read looks whether it is.
const LOOK_IDLE: Duration = Duration::from_millis(20);

impl Coordinator {
    /// The next mail, or the time at which the machine wants to hear of it.
    pub(super) fn wait(&self, now: Instant) -> Result<Mail, RecvTimeoutError> {
        let mut until = self.machine.wake_at(now);
        let mut by = |at: Instant| until = Some(until.map_or(at, |until| until.min(at)));
        if let Some(barrier) = self
            .barrier
            .as_ref()
            .filter(|_| self.machine.awaits_seals())
        {
            by(barrier.late_at);
        }
        self.next_look_at_watches().into_iter().for_each(&mut by);
        let draining = self.draining.is_some();
        if draining && self.machine.awaits_quiet() {
            if !self.scheduler.is_busy() {
                let _ = self.sender.send(Mail::Quiet);
            }
            by(now + LOOK);
        } else if (self.until_idle || self.machine.is_reprieved()) && !draining {
            if self.is_read() {
                let _ = self.sender.send(match self.machine.is_reprieved() {
                    true => Mail::CaughtUp,
                    false => Mail::Idle,
                });
            }
            by(now + LOOK_IDLE);
        }
        match until {
            None => self.mail.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => self.mail.recv_timeout(until.saturating_duration_since(now)),
        }
    }

    /// Whether every input is read to its end, and nothing is on its way.
    pub(super) fn is_read(&self) -> bool {
        // What is read arrives, is taken, and is worked on: whether it still is anywhere is asked in that order.
        !self.machine.is_committing()
            && !self.ends_holds()
            && !self.migrates()
            && self.tasks.iter().enumerate().all(|(index, task)| {
                match self.machine.phase(TaskIndex(index)) {
                    Phase::Failed
                    | Phase::Held
                    | Phase::NotMade
                    | Phase::Suspended
                    | Phase::Retired => true,
                    // What is replayed for one that has ended waits for the next start.
                    Phase::Ended => true,
                    Phase::Running => self.has_read(task),
                    _ => false,
                }
            })
            && !self.scheduler.is_busy()
    }

    fn has_read(&self, task: &TaskEntry) -> bool {
        let mut inputs = task.inputs.iter().enumerate();
        let waits = task.figures.doing() == Doing::Waiting;
        let at_end = inputs.all(|(at, input)| self.is_at_end(task, at, input));
        at_end && task.inbox.is_empty() && !waits
    }

    fn is_at_end(&self, task: &TaskEntry, at: usize, input: &InputEntry) -> bool {
        if input.in_log {
            let (_, end) = self.logs.bounds(input.id, input.partition);
            let is_read = task.figures.positions[at].load(Ordering::Acquire) >= end;
            // Before its task has heard that a replay queue lulls, it may have its end to come.
            return is_read && (!input.may_lull || input.reader.idle.load(Ordering::Acquire));
        }
        // A bounded input that says it has nothing now is only slow.
        let reader = &input.reader;
        let is_idle = !input.bounded && reader.idle.load(Ordering::Acquire);
        is_idle || reader.ended.load(Ordering::Acquire)
    }
}

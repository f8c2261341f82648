//! A task that does not go on: it waits and tries again by itself, or it is held until somebody resumes it.

use std::sync::Weak;
use std::time::{Duration, Instant};

use super::failure::{Cause, TaskFailure};
use super::rules::WhenHeld;
use super::{Life, Outcome, Task};
use crate::model::{InputIndex, Offset};
use crate::records::Held;

/// After so long without a failure, a task has not failed.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// How a held task goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The message that it is held at is tried again. So many messages are passed over without asking the breaker.
    Retry {
        /// How many.
        unjudged: u64,
    },
    /// The message that it is held at is passed over.
    Skip,
}

/// How often a task had to try again although no message was to blame.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    failures: u32,
    last: Option<Instant>,
}

/// A message that somebody wants to be passed over.
#[derive(Debug)]
pub(super) struct Skip {
    pub(super) offset: Offset,
    /// Why the task was held at it.
    pub(super) reason: String,
}

impl Task {
    /// Nothing is done until then, and then the task is to be woken.
    pub(super) fn wait(&mut self, wait: Option<Duration>) -> Outcome {
        let Some(wait) = wait else {
            return Outcome::Worked;
        };
        let until = Instant::now() + wait;
        self.not_before = Some(until);
        self.figures.note_waiting(true);
        Outcome::Waiting(until)
    }

    /// Whether a wait goes on.
    pub(super) fn is_waiting(&self) -> bool {
        self.not_before.is_some_and(|until| Instant::now() < until)
    }

    /// As [`Task::is_waiting`]; a wait that is over is forgotten.
    pub(super) fn still_waits(&mut self) -> bool {
        let waits = self.is_waiting();
        if !waits && self.not_before.take().is_some() {
            self.figures.note_waiting(false);
        }
        waits
    }

    /// The task could not go on, and no message is to blame: it tries again some times, then it is held.
    pub(super) fn restart(
        &mut self,
        cause: Cause,
        input: Option<InputIndex>,
        offsets: Option<(Offset, Offset)>,
    ) -> Outcome {
        if let Cause::Fault(fault) = &cause {
            self.note_fault(fault);
        }
        let now = Instant::now();
        let restarts = &mut self.restarts;
        if restarts
            .last
            .is_some_and(|last| now.saturating_duration_since(last) >= FORGOTTEN)
        {
            restarts.failures = 0;
        }
        let rules = &self.options.rules;
        if restarts.failures >= rules.restarts {
            restarts.failures = 0;
            self.blames_code = cause.may_be_of_the_code();
            return self.hold(cause, input, offsets);
        }
        restarts.failures += 1;
        let (failures, attempts) = (restarts.failures, rules.restarts);
        let wait = rules.restart_backoff.wait(failures, rand::random());
        self.restarts.last = Some(now + wait.unwrap_or_default());
        self.figures.note_restart();
        tracing::warn!(
            task = %self.name(),
            "it cannot go on ({}): {}; it tries again in {:.1} s, {failures} of {attempts}",
            cause.kind(),
            cause.sentence(),
            wait.unwrap_or_default().as_secs_f64()
        );
        self.wait(wait)
    }

    /// Holds the task. `input`: where the cause was met; `offsets`: the first and the last message concerned, which are in the inbox
    /// again.
    pub(super) fn hold(
        &mut self,
        cause: Cause,
        input: Option<InputIndex>,
        offsets: Option<(Offset, Offset)>,
    ) -> Outcome {
        self.life.hold();
        if let Some(input) = input {
            self.suspected = input;
        }
        let message = match (input, offsets) {
            (Some(input), Some((first, _))) if cause.is_of_a_message() => {
                Some((self.stream_of(input).1, first))
            }
            _ => None,
        };
        // A start that meets the same message again changes nothing about since when it is held there.
        let before = self.held_before.take();
        let before = before.filter(|held| message.is_some() && held.message == message);
        let now = self.options.clock.now_ms();
        let origin = self.origin.take().filter(|_| message.is_some());
        let held = Held {
            since: before.map_or(now, |held| held.since),
            kind: cause.kind().to_owned(),
            reason: cause.sentence(),
            detail: cause.detail(),
            message,
            origin: origin.map(|(input, offset)| (self.stream_of(input).1, offset)),
        };
        self.figures.note_held(Some(held.clone()));
        self.record.held = Some(held);
        self.dirty = true;
        Outcome::Failed(Box::new(TaskFailure {
            stage: self.options.info.stage.clone(),
            task: self.name(),
            stream: origin
                .map(|(input, _)| input)
                .or(input)
                .map(|input| self.stream_of(input).0.clone()),
            offsets: origin.map(|(_, offset)| (offset, offset)).or(offsets),
            waits: self.options.rules.when_held == WhenHeld::Wait,
            blames_code: std::mem::take(&mut self.blames_code),
            generation: self.options.generation,
            cause,
        }))
    }

    /// Waits for the code before, which passes this message.
    pub(super) fn regress(&mut self, cause: Cause, input: InputIndex, offset: Offset) -> Outcome {
        self.regressed = true;
        self.figures.note_waiting(true);
        Outcome::Regressed(Box::new(TaskFailure {
            stage: self.options.info.stage.clone(),
            task: self.name(),
            stream: Some(self.stream_of(input).0.clone()),
            offsets: Some((offset, offset)),
            waits: true,
            blames_code: true,
            generation: self.options.generation,
            cause,
        }))
    }

    /// The code before does not come back: the message is judged without it.
    pub fn go_on_without(&mut self, generation: u64) {
        // Of other code it is not said.
        if generation == self.options.generation {
            self.before = Weak::new();
            self.go_on();
        }
    }

    /// Waits for the code before no more.
    pub(super) fn go_on(&mut self) {
        self.regressed = false;
        self.figures.note_waiting(false);
    }

    /// Goes on after [`Task::hold`].
    ///
    /// # Panics
    /// The task is not held.
    pub fn resume(&mut self, how: Resume) {
        assert_eq!(self.life, Life::Held, "a task is resumed that is not held");
        self.life = Life::Running;
        let held = self.record.held.take();
        self.figures.note_held(None);
        self.dirty = true;
        self.isolation.try_again();
        self.rejected = None;
        self.restarts = Default::default();
        self.end_failures = 0;
        self.spares_one = true;
        match how {
            Resume::Retry { unjudged } => {
                self.record.failing.unjudged = unjudged;
                self.held_before = held;
            }
            Resume::Skip => self.skip = held.and_then(|held| Skip::of(&held)),
        }
    }
}

impl Skip {
    /// Passes over what a task is held at, if that is a message.
    pub(super) fn of(held: &Held) -> Option<Skip> {
        let (_, offset) = held.message?;
        Some(Skip {
            offset,
            reason: format!("{}: {}", held.kind, held.reason),
        })
    }
}

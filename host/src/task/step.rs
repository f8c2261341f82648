//! A step: one arrival of the inbox, from the lane whose turn it is; or the end of all inputs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::failure::Cause;
use super::guest::{Between, Stopped};
use super::keep::latest;
use super::{Arrival, Life, Task, TaskFailure};
use crate::connectors::Fetched;
use crate::model::{Batch, InputIndex, TimestampMs};
use crate::runtime::{EndProgress, Instance};

/// What the scheduler and a step tell each other while the step runs.
#[derive(Debug, Default)]
pub struct StepControl {
    /// One more for each call of the guest: a number that stands still is a slow call.
    pub calls: AtomicU64,
    /// A barrier or a drain is due: end the batch after the running call.
    pub end_batch: AtomicBool,
    /// The drain's time is over: a call that was interrupted is undone and is not a fault.
    pub give_up: AtomicBool,
}

impl StepControl {
    pub(super) fn begin_call(&self) {
        // One writer: no read-modify-write is needed.
        let calls = self.calls.load(Ordering::Relaxed);
        self.calls.store(calls.wrapping_add(1), Ordering::Relaxed);
    }
}

/// The outcome of a step.
#[derive(Debug)]
pub enum Outcome {
    /// Something was done; there may be more.
    Worked,
    /// Nothing to do until something arrives.
    Idle,
    /// All inputs have ended, and `on-end` is done.
    Ended,
    /// The task stopped.
    Failed(Box<TaskFailure>),
}

impl Task {
    /// Takes one arrival, and processes it.
    pub fn step(&mut self, control: &StepControl) -> Outcome {
        if self.life == Life::Failed {
            return Outcome::Idle;
        }
        if let Some((input, arrival)) = self.inbox.next() {
            return self.take(input, arrival, control);
        }
        match self.ended.iter().all(|ended| *ended) {
            true => self.end(control),
            false => Outcome::Idle,
        }
    }

    fn take(&mut self, input: InputIndex, arrival: Arrival, control: &StepControl) -> Outcome {
        match arrival {
            Arrival::Messages(fetched) => return self.process(input, fetched, control),
            Arrival::Undecodable {
                offset,
                raw,
                reason,
                ..
            } => {
                let cause = Cause::Undecodable { raw, reason };
                return self.fail(cause, Some(input), Some((offset, offset)));
            }
            Arrival::Failed(error) => {
                return self.fail(Cause::Source(Arc::new(error)), Some(input), None);
            }
            Arrival::Begin { position, chosen } => self.keep_beginning(input, position, chosen),
            Arrival::Passed(position) => {
                self.keep_position(input, position);
                self.dirty = true;
            }
            Arrival::End(position) => {
                // A position that only passed what belongs to others is worth keeping, but no reason for a checkpoint.
                self.keep_position(input, position);
                self.ended[input.index()] = true;
            }
        }
        Outcome::Worked
    }

    fn process(&mut self, input: InputIndex, fetched: Fetched, control: &StepControl) -> Outcome {
        let batch = Batch {
            input,
            partition: self.options.info.id.partition,
            offsets: fetched.offsets,
            messages: fetched.messages,
        };
        self.guest.recycle(control, Between::Batches);
        self.begin_batch(latest(&batch.messages.timestamps));
        let stopped = match self.run(&batch, control) {
            Ok(processed) => {
                let details = (fetched.start_detail, fetched.end_detail);
                self.keep_batch(&batch, &processed, details);
                return Outcome::Worked;
            }
            Err(stopped) => stopped,
        };
        self.guest.context_mut().undo_batch();
        self.figures.undone.fetch_add(1, Ordering::Relaxed);
        match stopped {
            Stopped::GivenUp => Outcome::Idle,
            Stopped::By(cause) => {
                let offset = |offset: Option<&u64>| offset.copied().unwrap_or_default();
                let range = (offset(batch.offsets.first()), offset(batch.offsets.last()));
                self.fail(cause, Some(input), Some(range))
            }
        }
    }

    /// Store time moves on, and is fixed for the batch.
    fn begin_batch(&mut self, latest: TimestampMs) {
        let wall = self.options.clock.now_ms();
        let store_time = self.record.store_time;
        let context = self.guest.context_mut();
        context.now = context.now.max(store_time).max(wall);
        context.timestamp = latest;
    }

    /// All inputs have ended.
    fn end(&mut self, control: &StepControl) -> Outcome {
        if self.life == Life::Ended {
            return Outcome::Ended;
        }
        // After the restart of a job that had ended, and found nothing new, the guest has nothing to add.
        if self.record.ended || !self.guest.component().has_on_end() {
            self.keep_ended();
            return Outcome::Ended;
        }
        self.guest.recycle(control, Between::Calls);
        self.begin_batch(self.record.latest);
        let called = self
            .guest
            .ensure_instance(control)
            .and_then(|()| self.guest.call(control, Instance::on_end));
        let cause = match called {
            Ok(Some(Ok(EndProgress::Again))) => {
                self.keep_end_call();
                return Outcome::Worked;
            }
            Ok(None | Some(Ok(EndProgress::Done))) => {
                self.keep_end_call();
                self.keep_ended();
                return Outcome::Ended;
            }
            Ok(Some(Err(reason))) => Some(Cause::OnEnd(reason)),
            Err(Stopped::By(cause)) => Some(cause),
            Err(Stopped::GivenUp) => None,
        };
        self.guest.context_mut().undo_batch();
        match cause {
            Some(cause) => self.fail(cause, None, None),
            None => Outcome::Idle,
        }
    }
}

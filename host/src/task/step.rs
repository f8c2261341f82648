//! A step: one arrival of the inbox, from the lane whose turn it is; or the end of all inputs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::failure::Cause;
use super::guest::{Between, Stopped};
use super::isolation::Call;
use super::keep::latest;
use super::policy::{Answer, Record};
use super::run::Processed;
use super::{Arrival, Life, Policy, Task, TaskFailure};
use crate::connectors::Fetched;
use crate::model::{Batch, InputIndex, TimestampMs};
use crate::runtime::{EndProgress, Instance, World};

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
        let arrival = match self.isolation.has_suspects() {
            true => self.inbox.next_of(self.suspected),
            false => self.inbox.next(),
        };
        if let Some((input, arrival)) = arrival {
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
                length,
                reason,
                end_detail,
            } => {
                if self.options.on_fault == Policy::Fail {
                    let cause = Cause::Undecodable { raw, reason };
                    return self.fail(cause, Some(input), Some((offset, offset)));
                }
                self.pass_over_record(
                    input,
                    offset,
                    &Record {
                        raw,
                        length,
                        reason,
                    },
                );
                self.keep_passed(input, offset, end_detail);
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
        let attempt = self.isolation.next();
        let fetched = self.front_of(input, fetched, attempt.messages);
        let batch = Batch {
            input,
            partition: self.options.info.id.partition,
            offsets: fetched.offsets,
            messages: fetched.messages,
        };
        let details = (fetched.start_detail, fetched.end_detail);
        match attempt.new_instance {
            true => self.guest.close(control),
            false => self.guest.recycle(control, Between::Batches),
        }
        let new_instance = !self.guest.has_instance();
        self.begin_batch(latest(&batch.messages.timestamps));
        let stopped = match self.run(&batch, control) {
            Ok(processed) => {
                self.keep_batch(&batch, &processed, details);
                self.isolation.passed(processed.messages);
                return Outcome::Worked;
            }
            Err(stopped) => stopped,
        };
        self.guest.context_mut().undo_batch();
        self.figures.undone.fetch_add(1, Ordering::Relaxed);
        let call = Call {
            messages: match self.guest.component().world() {
                World::Batch => batch.len(),
                // Those before it are kept.
                World::Message => 1,
            },
            new_instance,
        };
        let (cause, answer) = match stopped {
            Stopped::GivenUp => return Outcome::Idle,
            Stopped::Unmade(cause) => (cause, Answer::Stop),
            Stopped::By(cause) => {
                let answer = self.judge(&cause, &batch, call);
                (cause, answer)
            }
        };
        match answer {
            Answer::Stop => {
                let range = (batch.offsets[0], batch.offsets[batch.len() - 1]);
                return self.fail(cause, Some(input), Some(range));
            }
            Answer::TryAgain => {
                // It answered, so it may remember what is undone.
                if matches!(cause, Cause::Rejected { .. }) {
                    self.guest.close(control);
                }
                self.put_back(batch, details);
            }
            Answer::PassOver => {
                self.pass_over(&cause, &batch);
                let passed = Processed {
                    messages: 1,
                    rejected: 0,
                };
                self.keep_batch(&batch, &passed, details);
            }
        }
        Outcome::Worked
    }

    /// The first `messages` of what was fetched, or all. The rest goes back in halves of halves, each a whole number of such calls:
    /// where one message is taken after the other, each is copied a few times and not once for each before it.
    fn front_of(&mut self, input: InputIndex, mut fetched: Fetched, messages: usize) -> Fetched {
        while fetched.offsets.len() > messages {
            let calls = (fetched.offsets.len() / 2 / messages).max(1);
            let rest = fetched.split_off(calls * messages);
            self.inbox.push_front(input, Arrival::Messages(rest));
        }
        fetched
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
            Err(Stopped::By(cause) | Stopped::Unmade(cause)) => Some(cause),
            Err(Stopped::GivenUp) => None,
        };
        self.guest.context_mut().undo_batch();
        match cause {
            Some(cause) => self.fail(cause, None, None),
            None => Outcome::Idle,
        }
    }
}

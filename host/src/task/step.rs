//! The batch step.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::dead_letter::Reason;
use super::{Delivery, OnRejected, Task, TaskFailure};
use crate::connectors::Fetched;
use crate::model::shown::{self, SENTENCE_BYTES};
use crate::model::{Batch, Detail, InputIndex, MessageRef, Position};
use crate::runtime::{EndProgress, Fault, Instance, Rejection, Wear, World};

/// A batch of several calls ends when it has staged so much: as much as one call may.
const BATCH_BYTES: usize = 16 << 20;

/// What the scheduler and a step tell each other while the step runs.
#[derive(Debug, Default)]
pub struct StepControl {
    /// One more for each call of the guest: a number that stands still is a slow call.
    pub calls: AtomicU64,
    /// A barrier or a drain is due: end the batch after the running call.
    pub end_batch: AtomicBool,
    /// The drain's time is over: a call that was interrupted is undone and is no fault.
    pub give_up: AtomicBool,
}

impl StepControl {
    fn begin_call(&self) {
        // One writer: no read-modify-write is needed.
        let calls = self.calls.load(Ordering::Relaxed);
        self.calls.store(calls.wrapping_add(1), Ordering::Relaxed);
    }
}

/// What a step came to.
#[derive(Debug)]
pub enum Outcome {
    /// Something was done; there may be more.
    Worked,
    /// Nothing to do until something is delivered.
    Idle,
    /// All inputs have ended, and `on-end` is done.
    Ended,
    /// The task stopped.
    Failed(Box<TaskFailure>),
}

/// Why a batch is not kept.
enum Undo {
    Fault(Fault),
    Rejected { index: usize, reason: String },
    GivenUp,
}

/// Where an instance may be replaced.
#[derive(PartialEq, Eq)]
enum Between {
    Batches,
    Calls,
}

/// How much of a batch was processed, and what was rejected of it.
struct Processed {
    messages: usize,
    rejected: u64,
}

impl Task {
    /// Processes one batch.
    pub fn step(&mut self, control: &StepControl) -> Outcome {
        if self.failed {
            return Outcome::Idle;
        }
        for _ in 0..self.options.inputs.len() {
            let input = self.next_input;
            self.next_input = (input + 1) % self.options.inputs.len();
            if let Some(delivery) = self.inbox.pop(input) {
                return self.take(input, delivery, control);
            }
        }
        match self.ended.iter().all(Option::is_some) {
            true => self.end(control),
            false => Outcome::Idle,
        }
    }

    fn take(&mut self, input: usize, delivery: Delivery, control: &StepControl) -> Outcome {
        let index = InputIndex(u16::try_from(input).unwrap_or(u16::MAX));
        match delivery {
            Delivery::Begin { position, chosen } => {
                let stream = self.stream_of(index).1;
                self.figures.positions[input].store(position.next, Ordering::Relaxed);
                self.record.positions.insert(stream, position);
                if let Some(recorded) = chosen {
                    self.dirty = true;
                    self.begun.push(recorded);
                    self.begins = true;
                }
                Outcome::Worked
            }
            Delivery::Passed(position) => {
                let stream = self.stream_of(index).1;
                self.figures.positions[input].store(position.next, Ordering::Relaxed);
                self.record.positions.insert(stream, position);
                self.dirty = true;
                Outcome::Worked
            }
            Delivery::Messages(fetched) => self.process(index, fetched, control),
            Delivery::Undecodable { offset, reason, .. } => {
                let reason = shown::line(reason, SENTENCE_BYTES);
                self.fail("undecodable", Some(index), Some((offset, offset)), reason)
            }
            Delivery::End(position) => {
                let stream = self.stream_of(index).1;
                // A position that only passed what belongs to others is worth keeping, but no reason for a checkpoint.
                self.record.positions.insert(stream, position.clone());
                self.figures.positions[input].store(position.next, Ordering::Relaxed);
                self.ended[input] = Some(position);
                Outcome::Worked
            }
            Delivery::Failed(error) => {
                let mut reason = error.to_string();
                let mut source = std::error::Error::source(&error);
                while let Some(error) = source {
                    reason = format!("{reason}: {error}");
                    source = error.source();
                }
                let reason = shown::line(reason, SENTENCE_BYTES);
                self.fail("source", Some(index), None, reason)
            }
        }
    }

    fn process(&mut self, input: InputIndex, fetched: Fetched, control: &StepControl) -> Outcome {
        let batch = Batch {
            input,
            partition: self.options.info.id.partition,
            offsets: fetched.offsets,
            messages: fetched.messages,
        };
        let latest = batch
            .messages
            .timestamps
            .iter()
            .copied()
            .max()
            .unwrap_or_default();
        self.recycle(control, Between::Batches);
        self.begin_batch(latest);
        match self.run(&batch, control) {
            Ok(processed) => {
                self.keep(
                    &batch,
                    &processed,
                    latest,
                    (fetched.start_detail, fetched.end_detail),
                );
                Outcome::Worked
            }
            Err(undo) => {
                self.context_mut().undo_batch();
                self.figures.undone.fetch_add(1, Ordering::Relaxed);
                let offset = |index: usize| batch.offsets.get(index).copied().unwrap_or_default();
                let range = (offset(0), offset(batch.len() - 1));
                match undo {
                    Undo::GivenUp => Outcome::Idle,
                    Undo::Fault(fault) => {
                        self.instance = None;
                        self.fail(
                            fault.kind.name(),
                            Some(input),
                            Some(range),
                            fault.to_string(),
                        )
                    }
                    Undo::Rejected { index, reason } => {
                        let at = offset(index);
                        let reason = format!(
                            "offset {at} was rejected and `on-rejected` is \"fail\": {}",
                            shown::line(reason, SENTENCE_BYTES)
                        );
                        self.fail("rejected", Some(input), Some(range), reason)
                    }
                }
            }
        }
    }

    /// Drops an instance that is worn out; the next call has a new one.
    fn recycle(&mut self, control: &StepControl, between: Between) {
        let Some(instance) = &self.instance else {
            return;
        };
        let Some(wear) = instance.worn() else { return };
        // The next one would be no better, so a new one for each call is too dear.
        if wear == Wear::TooLarge && between == Between::Calls {
            return;
        }
        let messages = instance.messages();
        let recycled = self.figures.recycled.fetch_add(1, Ordering::Relaxed);
        if recycled == 0 && wear == Wear::TooLarge {
            tracing::warn!(
                task = %self.name(),
                "an instance has more than `recycle-memory` as soon as it is made and opened, so each batch has a new one: raise it, or `memory`, in [stage.limits]"
            );
        }
        tracing::debug!(task = %self.name(), messages, ?wear, "an instance is replaced");
        control.begin_call();
        self.drop_instance(control);
    }

    fn begin_batch(&mut self, latest: i64) {
        let wall = self.options.clock.now_ms();
        let store_time = self.record.store_time;
        let context = self.context_mut();
        context.now = context.now.max(store_time).max(wall);
        context.timestamp = latest;
    }

    /// Everything that a kept batch changes.
    fn keep(
        &mut self,
        batch: &Batch,
        processed: &Processed,
        latest: i64,
        (start_detail, end_detail): (Option<Detail>, Option<Detail>),
    ) {
        self.context_mut().keep_batch();
        let done = processed.messages;
        let next = batch.offsets[done - 1] + 1;
        let input = batch.input;
        let stream = self.stream_of(input).1;
        let all = done == batch.len();
        let latest = match all {
            true => latest,
            // The rest may be of a later time, and is not processed.
            false => {
                let done = batch.messages.timestamps.iter().take(done);
                done.copied().max().unwrap_or_default()
            }
        };
        let detail = if all {
            end_detail.clone()
        } else {
            start_detail.clone()
        };
        if !all {
            let rest = batch.slice(done..batch.len());
            let rest = Fetched {
                offsets: rest.offsets,
                messages: rest.messages,
                start_detail,
                end_detail,
            };
            self.inbox
                .push_front(input.index(), Delivery::Messages(rest));
        }
        self.record
            .positions
            .insert(stream, Position { next, detail });
        // Before the first it is 0, and a first one may be older than the epoch of Unix.
        self.record.latest = match self.record.processed {
            0 => latest,
            _ => self.record.latest.max(latest),
        };
        self.record.processed += done as u64;
        self.record.rejected += processed.rejected;
        self.record.ended = false;
        self.dirty = true;
        let figures = &self.figures;
        figures
            .processed
            .store(self.record.processed, Ordering::Relaxed);
        figures
            .rejected
            .store(self.record.rejected, Ordering::Relaxed);
        figures.batches.fetch_add(1, Ordering::Relaxed);
        figures.positions[input.index()].store(next, Ordering::Relaxed);
    }

    fn run(&mut self, batch: &Batch, control: &StepControl) -> Result<Processed, Undo> {
        self.ensure_instance(control)?;
        match self.component.world() {
            World::Batch => self.run_columns(batch, control),
            World::Message => self.run_messages(batch, control),
        }
    }

    fn run_columns(&mut self, batch: &Batch, control: &StepControl) -> Result<Processed, Undo> {
        let answer = self.call(control, |instance, context| {
            instance.process_batch(context, batch)
        })?;
        let mut rejected = 0;
        match answer {
            Ok(rejections) => {
                rejected += self.reject_all(batch, &rejections)?;
                return Ok(Processed {
                    messages: batch.len(),
                    rejected,
                });
            }
            Err(reason) if batch.len() == 1 => {
                self.context_mut().undo_batch();
                rejected += self.reject(batch, 0, &reason, None, 1)?;
            }
            Err(_) => {
                self.context_mut().undo_batch();
                let before = self.open_bytes();
                for index in 0..batch.len() {
                    rejected += self.run_alone(batch, index, control)?;
                    if self.ends_after_call(before, control) {
                        return Ok(Processed {
                            messages: index + 1,
                            rejected,
                        });
                    }
                }
            }
        }
        Ok(Processed {
            messages: batch.len(),
            rejected,
        })
    }

    /// One message of a batch that failed as a whole, in a call of its own.
    fn run_alone(
        &mut self,
        batch: &Batch,
        index: usize,
        control: &StepControl,
    ) -> Result<u64, Undo> {
        let one = batch.slice(index..index + 1);
        self.recycle(control, Between::Calls);
        self.ensure_instance(control)?;
        self.context_mut().mark_message();
        self.context_mut().timestamp = one.messages.timestamps[0];
        match self.call(control, |instance, context| {
            instance.process_batch(context, &one)
        })? {
            Ok(rejections) => self.reject_all(&one, &rejections),
            Err(reason) => {
                self.context_mut().undo_message();
                self.reject(batch, index, &reason, None, 2)
            }
        }
    }

    fn run_messages(&mut self, batch: &Batch, control: &StepControl) -> Result<Processed, Undo> {
        let mut rejected = 0;
        let before = self.open_bytes();
        for index in 0..batch.len() {
            if index > 0 {
                self.recycle(control, Between::Calls);
                self.ensure_instance(control)?;
            }
            let context = self.context_mut();
            context.mark_message();
            context.timestamp = batch.messages.timestamps[index];
            let answer = self.call(control, |instance, context| {
                instance.process_message(context, batch, index)
            })?;
            if let Err(reason) = answer {
                self.context_mut().undo_message();
                rejected += self.reject(batch, index, &reason, None, 1)?;
            }
            if self.ends_after_call(before, control) {
                return Ok(Processed {
                    messages: index + 1,
                    rejected,
                });
            }
        }
        Ok(Processed {
            messages: batch.len(),
            rejected,
        })
    }

    /// Whether a batch of several calls ends here: something is due, or it has become as large as one call may.
    fn ends_after_call(&self, bytes_before: usize, control: &StepControl) -> bool {
        control.end_batch.load(Ordering::Relaxed)
            || self.open_bytes().saturating_sub(bytes_before) >= BATCH_BYTES
    }

    fn reject_all(&mut self, batch: &Batch, rejections: &[Rejection]) -> Result<u64, Undo> {
        let mut rejected = 0;
        for rejection in rejections {
            rejected += self.reject(
                batch,
                rejection.index,
                &rejection.reason,
                rejection.detail.as_deref(),
                1,
            )?;
        }
        Ok(rejected)
    }

    fn reject(
        &mut self,
        batch: &Batch,
        index: usize,
        reason: &str,
        detail: Option<&[u8]>,
        attempts: u32,
    ) -> Result<u64, Undo> {
        let message: MessageRef<'_> = batch.messages.get(index);
        match (self.options.on_rejected, self.options.dead_letters.clone()) {
            (OnRejected::Skip, _) => Ok(1),
            (OnRejected::DeadLetter, Some(to)) => {
                let why = Reason {
                    reason,
                    detail,
                    attempts,
                };
                self.stage_dead_letter(&to, batch.input, batch.offsets[index], message, &why);
                Ok(1)
            }
            _ => Err(Undo::Rejected {
                index,
                reason: reason.to_owned(),
            }),
        }
    }

    fn ensure_instance(&mut self, control: &StepControl) -> Result<(), Undo> {
        if self.instance.is_some() {
            return Ok(());
        }
        let Some(context) = self.context.take() else {
            panic!("an instance is made during a call");
        };
        control.begin_call();
        let (context, made) = Instance::new(&self.component, context);
        self.context = Some(context);
        self.figures.instances.fetch_add(1, Ordering::Relaxed);
        let given_up = control.give_up.load(Ordering::Relaxed);
        self.instance = Some(made.map_err(|fault| match given_up {
            true => Undo::GivenUp,
            false => Undo::Fault(fault),
        })?);
        Ok(())
    }

    fn call<R>(
        &mut self,
        control: &StepControl,
        call: impl FnOnce(
            &mut Instance,
            Box<crate::runtime::TaskContext>,
        ) -> (Box<crate::runtime::TaskContext>, Result<R, Fault>),
    ) -> Result<R, Undo> {
        let (Some(instance), Some(context)) = (&mut self.instance, self.context.take()) else {
            panic!("a guest is called without instance or context");
        };
        control.begin_call();
        let (context, result) = call(instance, context);
        self.context = Some(context);
        match result {
            Ok(answer) => Ok(answer),
            Err(fault) => {
                // An instance that trapped is never entered again.
                self.instance = None;
                match control.give_up.load(Ordering::Relaxed) {
                    true => Err(Undo::GivenUp),
                    false => Err(Undo::Fault(fault)),
                }
            }
        }
    }

    /// All inputs have ended.
    fn end(&mut self, control: &StepControl) -> Outcome {
        if self.finished {
            return Outcome::Ended;
        }
        // A restart of a finished job that finds nothing new says nothing new.
        if self.record.ended || !self.component.has_on_end() {
            self.finished = true;
            if !self.record.ended {
                self.record.ended = true;
                self.dirty = true;
            }
            return Outcome::Ended;
        }
        self.recycle(control, Between::Calls);
        self.begin_batch(self.record.latest);
        let called = self
            .ensure_instance(control)
            .and_then(|()| self.call(control, Instance::on_end));
        match called {
            Ok(Some(Ok(EndProgress::Again))) => {
                self.context_mut().keep_batch();
                self.dirty = true;
                Outcome::Worked
            }
            Ok(None | Some(Ok(EndProgress::Done))) => {
                self.context_mut().keep_batch();
                self.record.ended = true;
                self.dirty = true;
                self.finished = true;
                Outcome::Ended
            }
            Ok(Some(Err(reason))) => {
                self.context_mut().undo_batch();
                self.fail(
                    "on-end",
                    None,
                    None,
                    shown::line(format_args!("`on-end` failed: {reason}"), SENTENCE_BYTES),
                )
            }
            Err(undo) => {
                self.context_mut().undo_batch();
                match undo {
                    Undo::Fault(fault) => {
                        self.fail(fault.kind.name(), None, None, fault.to_string())
                    }
                    _ => Outcome::Idle,
                }
            }
        }
    }

    /// Stops the task for good.
    fn fail(
        &mut self,
        kind: &'static str,
        input: Option<InputIndex>,
        offsets: Option<(u64, u64)>,
        reason: String,
    ) -> Outcome {
        self.failed = true;
        Outcome::Failed(Box::new(TaskFailure {
            stage: self.options.info.stage.clone(),
            task: self.name(),
            stream: input.map(|input| self.stream_of(input).0.clone()),
            offsets,
            kind,
            reason,
        }))
    }
}

//! How a batch runs: in one call with all of its columns, or one message a call.

use std::sync::atomic::Ordering;

use super::failure::Cause;
use super::guest::{Between, Stopped};
use super::{StepControl, Task};
use crate::model::Batch;
use crate::runtime::World;

/// A batch of several calls ends when it has staged this many bytes: as many as one call may.
const BATCH_BYTES: usize = 16 << 20;

impl Task {
    /// Runs a batch. Returns how many messages were processed, from the first on. If it stops, what it did is not undone yet.
    pub(super) fn run(&mut self, batch: &Batch, control: &StepControl) -> Result<usize, Stopped> {
        self.guest.ensure_instance(control)?;
        match self.guest.component().world() {
            World::Batch => self.run_columns(batch, control),
            World::Message => self.run_each(batch, control, Task::run_message),
        }
    }

    fn run_columns(&mut self, batch: &Batch, control: &StepControl) -> Result<usize, Stopped> {
        let answer = self.guest.call(control, |instance, context| {
            instance.process_batch(context, batch)
        })?;
        match answer {
            Ok(rejections) => self.reject_all(batch, 0..batch.len(), &rejections)?,
            Err(reason) => {
                self.guest.context_mut().undo_batch();
                if batch.len() > 1 {
                    return self.run_each(batch, control, Task::run_alone);
                }
                self.reject(batch, 0..1, &reason, None)?;
            }
        }
        Ok(batch.len())
    }

    /// Runs messages one by one: all of them, as many as fit, or those before one that fails. That one comes first in the next batch,
    /// and is an error there.
    fn run_each(
        &mut self,
        batch: &Batch,
        control: &StepControl,
        run: impl Fn(&mut Task, &Batch, usize, &StepControl) -> Result<(), Stopped>,
    ) -> Result<usize, Stopped> {
        let mut processed = 0;
        let before = self.open_bytes();
        for index in 0..batch.len() {
            if self.follows_in_batch(batch.messages.key(index)) {
                break;
            }
            match run(self, batch, index, control) {
                Ok(()) => {}
                Err(Stopped::By(cause) | Stopped::Unmade(cause)) if index > 0 => {
                    match &cause {
                        Cause::Fault(fault) => self.report(fault, batch, index..index + 1),
                        Cause::Rejected { offset, .. } => {
                            self.note_rejected(batch.input, *offset);
                        }
                        _ => {}
                    }
                    self.guest.context_mut().undo_message();
                    self.figures.undone.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Err(stopped) => return Err(stopped),
            }
            processed += 1;
            if self.ends_after_call(before, control) {
                break;
            }
        }
        Ok(processed)
    }

    /// Runs a message of a component that takes one a call.
    fn run_message(
        &mut self,
        batch: &Batch,
        index: usize,
        control: &StepControl,
    ) -> Result<(), Stopped> {
        // Before anything can fail: what comes to nothing is undone to here.
        self.begin_message(batch.messages.timestamps[index]);
        if index > 0 {
            self.guest.recycle(control, Between::Calls);
            self.guest.ensure_instance(control)?;
        }
        let answer = self.guest.call(control, |instance, context| {
            instance.process_message(context, batch, index)
        })?;
        match answer {
            Ok(()) => Ok(()),
            Err(reason) => {
                self.guest.context_mut().undo_message();
                self.reject(batch, index..index + 1, &reason, None)
            }
        }
    }

    /// Runs a message of a batch that failed as a whole, as a batch of its own.
    fn run_alone(
        &mut self,
        batch: &Batch,
        index: usize,
        control: &StepControl,
    ) -> Result<(), Stopped> {
        let one = batch.slice(index..index + 1);
        self.begin_message(one.messages.timestamps[0]);
        self.guest.recycle(control, Between::Calls);
        self.guest.ensure_instance(control)?;
        let answer = self.guest.call(control, |instance, context| {
            instance.process_batch(context, &one)
        })?;
        match answer {
            Ok(rejections) => self.reject_all(batch, index..index + 1, &rejections),
            Err(reason) => {
                self.guest.context_mut().undo_message();
                self.reject(batch, index..index + 1, &reason, None)
            }
        }
    }

    fn begin_message(&mut self, timestamp: i64) {
        let context = self.guest.context_mut();
        context.mark_message();
        context.timestamp = timestamp;
    }

    /// Whether a batch of several calls ends here: a barrier or a drain is due, or it has become as large as one call may.
    fn ends_after_call(&self, bytes_before: usize, control: &StepControl) -> bool {
        control.end_batch.load(Ordering::Relaxed)
            || self.open_bytes().saturating_sub(bytes_before) >= BATCH_BYTES
    }
}

//! What becomes of what goes wrong: a rejected message is skipped, becomes a dead letter, or stops the task; a fault is tried again
//! until it is known which message it is, and that message is skipped, becomes a dead letter, or stops the task; any other cause stops it at once.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::dead_letter::Reason;
use super::failure::Cause;
use super::guest::Stopped;
use super::isolation::{Call, Verdict};
use super::{ATTEMPTS, Outcome, Policy, Task, TaskFailure};
use crate::model::{Batch, InputIndex, MessageRef, Offset};
use crate::runtime::{Fault, FaultKind, Rejection};

/// What is to be done about a call that came to nothing.
pub(super) enum Answer {
    /// Its messages are tried in other calls: what comes before the one that is to blame can be processed.
    TryAgain,
    /// Its message is condemned, and the next one comes.
    PassOver,
    /// The task stops.
    Stop,
}

/// A record that is no message.
pub(super) struct Record {
    /// Its bytes, as far as they were read.
    pub(super) raw: Vec<u8>,
    /// How many bytes it has.
    pub(super) length: u64,
    /// Why.
    pub(super) reason: String,
}

impl Task {
    /// Answers the rejections of a batch, and counts them.
    pub(super) fn reject_all(
        &mut self,
        batch: &Batch,
        rejections: &[Rejection],
    ) -> Result<u64, Stopped> {
        let mut rejected = 0;
        for rejection in rejections {
            let detail = rejection.detail.as_deref();
            rejected += self.reject(batch, rejection.index, &rejection.reason, detail, 1)?;
        }
        Ok(rejected)
    }

    /// Answers the rejection of a message, and counts it.
    pub(super) fn reject(
        &mut self,
        batch: &Batch,
        index: usize,
        reason: &str,
        detail: Option<&[u8]>,
        attempts: u32,
    ) -> Result<u64, Stopped> {
        let offset = batch.offsets[index];
        match (self.options.on_rejected, self.options.dead_letters.clone()) {
            (Policy::Skip, _) => Ok(1),
            (Policy::DeadLetter, Some(to)) => {
                let why = Reason {
                    kind: "rejected",
                    reason,
                    detail,
                    attempts,
                    length: None,
                };
                let message = batch.messages.get(index);
                self.stage_dead_letter(&to, batch.input, offset, message, &why);
                Ok(1)
            }
            _ => Err(Stopped::By(Cause::Rejected {
                offset,
                reason: reason.to_owned(),
                detail: detail.map(<[u8]>::to_vec),
            })),
        }
    }

    /// What is to be done about a call that came to nothing, and was undone.
    pub(super) fn judge(&mut self, cause: &Cause, batch: &Batch, call: Call) -> Answer {
        match cause {
            Cause::Fault(fault) if fault.kind.may_be_a_message() => {
                self.report(fault, batch, 0..call.messages);
                self.suspected = batch.input;
                let deadline = fault.kind == FaultKind::Deadline;
                let verdict = self.isolation.faulted(call, deadline);
                match (verdict, self.options.on_fault) {
                    (Verdict::Again, _) => Answer::TryAgain,
                    (Verdict::Condemned, Policy::Fail) => Answer::Stop,
                    (Verdict::Condemned, Policy::Skip | Policy::DeadLetter) => Answer::PassOver,
                }
            }
            Cause::Rejected { offset, .. } if call.messages > 1 => {
                self.suspected = batch.input;
                let index = batch.offsets.partition_point(|before| before < offset);
                self.isolation.stop_before(index, call.messages);
                Answer::TryAgain
            }
            _ => Answer::Stop,
        }
    }

    /// Passes over the first message of a batch, which is condemned: as a batch of its own, with its dead letter if there is one.
    pub(super) fn pass_over(&mut self, cause: &Cause, batch: &Batch) {
        let why = Reason {
            kind: cause.kind(),
            reason: &cause.sentence(),
            detail: None,
            attempts: ATTEMPTS,
            length: None,
        };
        self.letter(batch.input, batch.offsets[0], batch.messages.get(0), &why);
        self.isolation.condemned();
        let (task, offset) = (self.name(), batch.offsets[0]);
        let stream = &self.stream_of(batch.input).0;
        // A flood of equal faults is one warning, with all that is known of the first.
        match self.passed_over == why.reason {
            true => {
                tracing::debug!(%task, "offset {offset} of stream {stream:?} is passed over ({}): {}", why.kind, why.reason)
            }
            false => {
                tracing::warn!(%task, "offset {offset} of stream {stream:?} is passed over ({}): {cause}", why.kind)
            }
        }
        self.passed_over = why.reason.to_owned();
    }

    /// Passes over a record that is no message; its bytes are the dead letter.
    pub(super) fn pass_over_record(&mut self, input: InputIndex, offset: Offset, record: &Record) {
        let now = self.options.clock.now_ms();
        let why = Reason {
            kind: "undecodable",
            reason: &record.reason,
            detail: None,
            attempts: 1,
            length: Some(record.length),
        };
        let message = MessageRef::new(None, Some(&record.raw), now);
        self.letter(input, offset, message, &why);
        tracing::warn!(
            task = %self.name(),
            "offset {offset} of stream {:?} is no message: {}",
            self.stream_of(input).0,
            record.reason
        );
    }

    /// A dead letter because of a fault, if there are any.
    fn letter(
        &mut self,
        input: InputIndex,
        offset: Offset,
        message: MessageRef<'_>,
        why: &Reason<'_>,
    ) {
        self.figures.condemned.fetch_add(1, Ordering::Relaxed);
        if self.options.on_fault == Policy::DeadLetter
            && let Some(to) = self.options.dead_letters.clone()
        {
            self.stage_dead_letter(&to, input, offset, message, why);
        }
    }

    /// Logs a fault of a call with messages of a batch, unless it is as the last one. Most often the task goes on, and nothing else
    /// tells of it.
    pub(super) fn report(&mut self, fault: &Fault, batch: &Batch, called: Range<usize>) {
        if self.reported == fault.message {
            return;
        }
        tracing::warn!(
            task = %self.name(),
            "a call with {} messages from offset {} of stream {:?} on failed ({}): {}; they are tried again in new instances",
            called.len(),
            batch.offsets[called.start],
            self.stream_of(batch.input).0,
            fault.kind.name(),
            fault.message
        );
        self.reported.clone_from(&fault.message);
    }

    /// Stops the task for good. `input`: where the cause was met; `offsets`: the first and the last message concerned.
    pub(super) fn fail(
        &mut self,
        cause: Cause,
        input: Option<InputIndex>,
        offsets: Option<(Offset, Offset)>,
    ) -> Outcome {
        self.life.fail();
        Outcome::Failed(Box::new(TaskFailure {
            stage: self.options.info.stage.clone(),
            task: self.name(),
            stream: input.map(|input| self.stream_of(input).0.clone()),
            offsets,
            cause,
        }))
    }
}

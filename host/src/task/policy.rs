//! What becomes of what goes wrong: a rejected message is skipped, becomes a dead letter, or holds the task; a fault is tried again
//! until it is known which message it is, and that message is skipped, becomes a dead letter, or holds the task; where no message is
//! to blame the task tries again, and is held in the end.

use std::fmt::Display;
use std::ops::Range;
use std::time::Duration;

use super::dead_letter::{Place, Reason};
use super::failure::Cause;
use super::groups::Group;
use super::guest::Stopped;
use super::held::Skip;
use super::isolation::{Call, Verdict};
use super::rules::Policy;
use super::{Task, TaskOptions};
use crate::model::{Batch, InputIndex, MessageRef, Offset};
use crate::runtime::{Fault, FaultKind, Rejection};

/// What is to be done about a call that came to nothing.
pub(super) enum Answer {
    /// Its messages are tried in other calls, perhaps later: what comes before the one that is to blame can be processed.
    TryAgain(Option<Duration>),
    /// The same, in another instance: this one answered, so it may remember what is undone.
    TryAgainRenewed(Option<Duration>),
    /// Its message is condemned, and the next one comes.
    PassOver(Cause),
    /// The task is held at its first message.
    Hold(Cause),
    /// The code before passes its first message: that code is to come back, and the message waits for it.
    Regression(Cause),
    /// Nothing: the drain's time was over.
    GiveUp,
    /// No message is to blame.
    Restart(Cause),
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

/// How often a message was rejected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rejected {
    input: InputIndex,
    offset: Offset,
    times: u32,
}

impl Task {
    /// Answers the rejections of a call with these messages of a batch, and counts them.
    pub(super) fn reject_all(
        &mut self,
        batch: &Batch,
        called: Range<usize>,
        rejections: &[Rejection],
    ) -> Result<(), Stopped> {
        rejections.iter().try_for_each(|rejection| {
            let detail = rejection.detail.as_deref();
            let rest = called.start + rejection.index..called.end;
            self.reject(batch, rest, &rejection.reason, detail)
        })
    }

    /// Answers the rejection of the first of these messages, which were called together, and counts it.
    pub(super) fn reject(
        &mut self,
        batch: &Batch,
        called: Range<usize>,
        reason: &str,
        detail: Option<&[u8]>,
    ) -> Result<(), Stopped> {
        let index = called.start;
        let offset = batch.offsets[index];
        let times = self.times_rejected(batch.input, offset) + 1;
        let TaskOptions {
            rules,
            dead_letters,
            ..
        } = &self.options;
        let (policy, breaker) = (rules.on_rejected, rules.breaker);
        let to = dead_letters.clone();
        if policy == Policy::Fail || times < rules.rejected_attempts {
            return Err(Stopped::By(Cause::Rejected {
                offset,
                reason: reason.to_owned(),
                detail: detail.map(<[u8]>::to_vec),
            }));
        }
        // What is skipped because it was rejected is what the component and the job agree to leave out.
        if let Some(to) = to.filter(|_| policy == Policy::DeadLetter) {
            self.pending.passed_before(&breaker, index);
            if self.pending.trips(&breaker) {
                return Err(Stopped::By(self.broken(offset, "rejected", reason)));
            }
            let why = Reason {
                detail,
                attempts: times,
                ..Reason::new("rejected", reason)
            };
            if let Some(later) = self.follower(batch, &called) {
                let offset = batch.offsets[later];
                return Err(Stopped::By(Cause::Split { offset }));
            }
            let (place, message) = (Place::of(batch, index), batch.messages.get(index));
            if !self.may_park(message.key) {
                let reason = format!("rejected: {reason}");
                return Err(Stopped::By(Cause::Parked { offset, reason }));
            }
            self.park(message.key, place)?;
            self.stage_dead_letter(&to, place, message, &why);
            self.pending.failed(&breaker);
            self.pending.note_letter(index);
        } else {
            self.pending.note_skipped();
        }
        self.pending.note_rejected();
        Ok(())
    }

    fn times_rejected(&self, input: InputIndex, offset: Offset) -> u32 {
        let is_it = |rejected: &Rejected| (rejected.input, rejected.offset) == (input, offset);
        let rejected = self.rejected.filter(is_it);
        rejected.map_or(0, |rejected| rejected.times)
    }

    /// A message was rejected, and may be tried again. Returns how often it was.
    pub(super) fn note_rejected(&mut self, input: InputIndex, offset: Offset) -> u32 {
        let times = self.times_rejected(input, offset) + 1;
        self.rejected = Some(Rejected {
            input,
            offset,
            times,
        });
        times
    }

    /// Too many messages have failed, and so did this one.
    fn broken(&self, offset: Offset, kind: &'static str, reason: &str) -> Cause {
        let (failed, of) = self.pending.failed_of();
        Cause::Breaker {
            offset,
            failed,
            of,
            share_percent: self.options.rules.breaker.share_percent,
            reason: format!("{kind}: {reason}"),
        }
    }

    /// What is to be done about a call that came to nothing, and was undone.
    pub(super) fn judge(&mut self, cause: Cause, batch: &Batch, call: Call) -> Answer {
        match cause {
            Cause::Fault(ref fault) if fault.kind.may_be_a_message() => {
                self.report(fault, batch, 0..call.messages);
                self.note_suspects(batch.input);
                let deadline = fault.kind == FaultKind::Deadline;
                match self.isolation.faulted(call, deadline) {
                    Verdict::Again => {
                        let failures = self.isolation.failed_alone();
                        Answer::TryAgain(self.backoff(failures))
                    }
                    Verdict::Condemned => self.condemn(cause, batch),
                }
            }
            Cause::Rejected { offset, .. }
            | Cause::Breaker { offset, .. }
            | Cause::Parked { offset, .. }
            | Cause::Split { offset }
                if call.messages > 1 =>
            {
                if let Cause::Rejected { offset, .. } = cause {
                    self.note_rejected(batch.input, offset);
                }
                self.note_suspects(batch.input);
                let index = batch.offsets.partition_point(|before| *before < offset);
                self.isolation.stop_before(index, call.messages);
                Answer::TryAgainRenewed(None)
            }
            Cause::Rejected { offset, .. } => {
                let times = self.note_rejected(batch.input, offset);
                if times >= self.options.rules.rejected_attempts {
                    return Answer::Hold(cause);
                }
                // Nothing of another input is taken before it is through.
                self.note_suspects(batch.input);
                self.isolation.suspect_first();
                Answer::TryAgainRenewed(self.backoff(times))
            }
            // After a bug of the host nobody should rely on what it holds for the task.
            Cause::Fault(ref fault) if fault.kind == FaultKind::Panic => {
                self.note_fault(fault);
                Answer::Hold(cause)
            }
            Cause::Fault(_) => Answer::Restart(cause),
            cause => Answer::Hold(cause),
        }
    }

    pub(super) fn backoff(&self, failures: u32) -> Option<Duration> {
        match failures {
            0 => None,
            failures => self.options.rules.backoff.wait(failures, rand::random()),
        }
    }

    /// What becomes of a message that is at fault.
    pub(super) fn condemn(&self, cause: Cause, batch: &Batch) -> Answer {
        let (rules, offset) = (&self.options.rules, batch.offsets[0]);
        if rules.on_fault == Policy::Fail {
            return Answer::Hold(cause);
        }
        if self.pending.trips(&rules.breaker) {
            return Answer::Hold(self.broken(offset, cause.kind(), &cause.sentence()));
        }
        if rules.on_fault == Policy::DeadLetter && !self.may_park(batch.messages.key(0)) {
            let reason = format!("{}: {}", cause.kind(), cause.sentence());
            return Answer::Hold(Cause::Parked { offset, reason });
        }
        Answer::PassOver(cause)
    }

    /// Passes over the first message of a batch, which is condemned: as a batch of its own, with its dead letter if there is one.
    pub(super) fn pass_over(&mut self, cause: &Cause, batch: &Batch) -> Result<(), Stopped> {
        let fault = match cause {
            Cause::Fault(fault) => Some(fault),
            _ => None,
        };
        let sentence = cause.sentence();
        let why = Reason {
            attempts: self.options.rules.attempts,
            fault,
            ..Reason::new(cause.kind(), &sentence)
        };
        let letter = self.options.rules.on_fault == Policy::DeadLetter;
        self.letter(batch, &why, letter)?;
        self.unpark_replayed(batch, 1)?;
        self.pending.note_condemned();
        self.pending.failed(&self.options.rules.breaker);
        self.isolation.condemned();
        self.tell_passed_over(batch.input, batch.offsets[0], &why, cause);
        Ok(())
    }

    /// Passes over the first message of a batch because somebody wants it.
    pub(super) fn skip_first(&mut self, skip: &Skip, batch: &Batch) -> Result<(), Stopped> {
        let why = Reason::new("skipped", &skip.reason);
        self.letter(batch, &why, true)?;
        self.unpark_replayed(batch, 1)?;
        self.isolation.condemned();
        let (offset, stream) = (skip.offset, &self.stream_of(batch.input).0);
        tracing::warn!(task = %self.name(), "offset {offset} of stream {stream:?} is skipped, as was asked ({})", skip.reason);
        Ok(())
    }

    /// What becomes of a record that is no message. `Err`: the task is held at it.
    pub(super) fn pass_over_record(
        &mut self,
        input: InputIndex,
        offset: Offset,
        record: &Record,
    ) -> Result<(), Stopped> {
        let skip = self.skip.take();
        let rules = &self.options.rules;
        let (policy, breaker) = (rules.on_fault, rules.breaker);
        // Its kind says that it cannot be replayed as it is, even if somebody skips it.
        let kind = "undecodable";
        let (reason, letter) = match &skip {
            Some(skip) => (&skip.reason, true),
            None => (&record.reason, policy == Policy::DeadLetter),
        };
        if skip.is_none() {
            if policy == Policy::Fail {
                let reason = record.reason.clone();
                return Err(Stopped::By(Cause::Undecodable { reason }));
            }
            if self.pending.trips(&breaker) {
                return Err(Stopped::By(self.broken(offset, kind, reason)));
            }
            self.pending.failed(&breaker);
            self.pending.note_condemned();
        } else {
            self.pending.leave_out(1);
        }
        let why = Reason {
            attempts: 1,
            length: Some(record.length),
            ..Reason::new(kind, reason)
        };
        let now = self.options.clock.now_ms();
        let message = MessageRef::new(None, Some(&record.raw), now);
        let place = Place {
            input,
            offset,
            replays: 0,
        };
        self.letter_of(place, message, &why, letter)?;
        self.tell_passed_over(input, offset, &why, reason);
        Ok(())
    }

    /// Logs what was passed over. A flood of equal faults is one warning, with all that is known of the first.
    fn tell_passed_over(
        &mut self,
        input: InputIndex,
        offset: Offset,
        why: &Reason<'_>,
        first: &dyn Display,
    ) {
        let is_new = self.groups.is_new_passed_over(why.group());
        let (task, stream, kind) = (self.name(), &self.stream_of(input).0, why.kind);
        match is_new {
            true => {
                tracing::warn!(%task, "offset {offset} of stream {stream:?} is passed over ({kind}): {first}")
            }
            false => {
                tracing::debug!(%task, "offset {offset} of stream {stream:?} is passed over ({kind}): {}", why.reason)
            }
        }
    }

    /// What is left of the first message of a batch: a dead letter, if there is to be one, or a count.
    fn letter(&mut self, batch: &Batch, why: &Reason<'_>, letter: bool) -> Result<(), Stopped> {
        self.letter_of(Place::of(batch, 0), batch.messages.get(0), why, letter)
    }

    fn letter_of(
        &mut self,
        place: Place,
        message: MessageRef<'_>,
        why: &Reason<'_>,
        letter: bool,
    ) -> Result<(), Stopped> {
        match self.options.dead_letters.clone().filter(|_| letter) {
            Some(to) => {
                self.park(message.key, place)?;
                self.stage_dead_letter(&to, place, message, why);
                self.pending.note_letter(0);
            }
            None => self.pending.note_skipped(),
        }
        Ok(())
    }

    /// Counts a fault of a call with messages of a batch, and logs it unless it is as the last one. Most often the task goes on, and
    /// nothing else tells of it.
    pub(super) fn report(&mut self, fault: &Fault, batch: &Batch, called: Range<usize>) {
        self.note_fault(fault);
        if !self.groups.is_new_fault(Group::of_fault(fault)) {
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
    }

    pub(super) fn note_fault(&mut self, fault: &Fault) {
        self.record.counts.faults += 1;
        self.figures
            .note_fault(fault.kind, self.record.counts.faults);
    }
}

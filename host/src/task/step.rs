//! A step: one arrival of the inbox, from the lane whose turn it is; or the end of all inputs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::failure::Cause;
use super::guest::{Between, Stopped};
use super::isolation::Call;
use super::keep::latest;
use super::parked::{Front, Pass};
use super::policy::{Answer, Record};
use super::{Arrival, Life, Task, TaskFailure};
use crate::connectors::Fetched;
use crate::model::{Batch, Detail, InputIndex, TimestampMs};
use crate::runtime::{EndProgress, FaultKind, Instance, World};

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
    /// Nothing to do until this time.
    Waiting(Instant),
    /// All inputs have ended, and `on-end` is done.
    Ended,
    /// The task is held.
    Failed(Box<TaskFailure>),
    /// The task waits for the code before, which passes what it failed at.
    Regressed(Box<TaskFailure>),
    /// Its state is migrated, and it waits for that of the other tasks.
    Migrated,
}

impl Task {
    /// Takes one arrival, and processes it.
    pub fn step(&mut self, control: &StepControl) -> Outcome {
        if self.life == Life::Held || self.regressed || self.still_waits() {
            return Outcome::Idle;
        }
        if self.is_migrating() {
            return self.migrate(control);
        }
        if self.options.skips_held && self.skip.is_none() {
            return self.finds_nothing_to_skip();
        }
        let shared = self.shares_time();
        let arrival = match self.only_lane() {
            Some(input) => self.inbox.next_of(input),
            None if shared.is_some() && self.turns.inputs_first() => self.inbox.next_but_last(),
            None => self.inbox.next(),
        };
        if let Some((input, arrival)) = arrival {
            let outcome = self.take(input, arrival, control);
            if let Some(began) = shared {
                let is_queue = input.index() == self.options.info.inputs.len();
                self.turns.note(is_queue, began.elapsed());
            }
            return match self.options.skips_held && self.is_past_skip(input) {
                true => self.finds_nothing_to_skip(),
                false => outcome,
            };
        }
        if self.options.skips_held || self.queue_first {
            return Outcome::Idle;
        }
        match self.ended.iter().all(|ended| *ended) {
            true => self.end(control),
            false => Outcome::Idle,
        }
    }

    /// The only input of which something may be taken now.
    fn only_lane(&mut self) -> Option<InputIndex> {
        if self.queue_first {
            match self.queue_has_more() {
                Some(queue) => return Some(queue),
                None => self.queue_first = false,
            }
        }
        let pinned = self.isolation.has_suspects() || self.skip.is_some();
        pinned.then_some(self.suspected)
    }

    /// The time, if the replay queue and other inputs have something to do.
    fn shares_time(&self) -> Option<Instant> {
        let queue = self.options.info.inputs.len();
        let both = self.options.inputs.len() > queue && self.inbox.last_and_others_wait();
        both.then(Instant::now)
    }

    /// The replay queue, if it is not read to its end.
    fn queue_has_more(&self) -> Option<InputIndex> {
        let queue = self.options.info.inputs.len();
        let at = u16::try_from(queue).ok().map(InputIndex)?;
        let ended = *self.ended.get(queue)?;
        (!ended || self.inbox.has_arrivals(at)).then_some(at)
    }

    fn take(&mut self, input: InputIndex, arrival: Arrival, control: &StepControl) -> Outcome {
        match arrival {
            Arrival::Messages(fetched) => {
                // What only lulled goes on.
                self.ended[input.index()] = false;
                return self.process(input, fetched, control);
            }
            Arrival::Lull => self.ended[input.index()] = true,
            Arrival::Undecodable {
                offset,
                raw,
                length,
                reason,
                end_detail,
            } => {
                self.ended[input.index()] = false;
                self.begin_counts();
                let record = Record {
                    raw,
                    length,
                    reason,
                };
                if let Err(stopped) = self.pass_over_record(input, offset, &record) {
                    let again = Arrival::Undecodable {
                        offset,
                        raw: record.raw,
                        length,
                        reason: record.reason,
                        end_detail,
                    };
                    self.inbox.push_front(input, again);
                    let at = Some((offset, offset));
                    return match stopped {
                        Stopped::By(cause) if cause.is_of_a_message() => {
                            self.hold(cause, Some(input), at)
                        }
                        stopped => self.unreadable(stopped, input),
                    };
                }
                self.keep_passed(input, offset, end_detail);
                if self.options.skips_held {
                    return self.skipped();
                }
            }
            Arrival::Failed(error) => {
                return self.hold(Cause::Source(Arc::new(error)), Some(input), None);
            }
            Arrival::Begin { position, chosen } => self.keep_beginning(input, position, chosen),
            Arrival::Passed(position) => {
                self.keep_position(input, position);
                self.change();
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
        let skip = self.skip.take();
        let skip = skip.filter(|skip| fetched.offsets.first() == Some(&skip.offset));
        if skip.is_none() && self.options.skips_held {
            return self.finds_nothing_to_skip();
        }
        let front = match (skip, self.careful(&fetched, input.index())) {
            (Some(skip), _) => Ok(Front::Pass(Pass::Skip(skip))),
            (None, None) => self.front(&fetched),
            (None, Some(careful)) => self.front(&fetched).map(|front| front.and(careful)),
        };
        let front = match front {
            Ok(front) => front,
            Err(stopped) => {
                self.inbox.push_front(input, Arrival::Messages(fetched));
                return self.unreadable(stopped, input);
            }
        };
        let attempt = self.isolation.next();
        let messages = match front {
            Front::Process(most) => attempt.messages.min(most),
            Front::Alone | Front::Died(_) => 1,
            Front::Pass(ref pass) => pass.messages(),
        };
        let fetched = self.front_of(input, fetched, messages);
        let batch = Batch {
            input,
            partition: self.options.info.id.partition,
            offsets: fetched.offsets,
            messages: fetched.messages,
            origin: fetched.origin,
        };
        let details = (fetched.start_detail, fetched.end_detail);
        self.begin_counts();
        match front {
            Front::Process(_) => self.call_with_crumb(false, batch, details, attempt, control),
            Front::Alone => self.call_with_crumb(true, batch, details, attempt, control),
            Front::Died(deaths) => {
                self.begin_batch(latest(&batch.messages.timestamps));
                let answer = self.condemn(Task::died(deaths), &batch);
                self.answer(answer, batch, details)
            }
            Front::Pass(pass) => self.pass(&pass, batch, details),
        }
    }

    /// Leaves a crumb, which names the batch if the process dies at it. `alone`: no other call may run in the process meanwhile.
    fn call_with_crumb(
        &mut self,
        alone: bool,
        batch: Batch,
        details: (Option<Detail>, Option<Detail>),
        attempt: Call,
        control: &StepControl,
    ) -> Outcome {
        let crumbs = Arc::clone(&self.options.crumbs);
        let crumb = self.crumb(&batch);
        if alone {
            let _alone = crumbs.alone();
            crumbs.begin(&crumb, true);
            let outcome = self.try_out(batch, details, attempt, control);
            crumbs.end();
            return outcome;
        }
        let careful = crumbs.with_others();
        crumbs.begin(&crumb, false);
        let outcome = self.try_out(batch, details, attempt, control);
        if careful.is_some() {
            crumbs.end();
        }
        outcome
    }

    /// Calls the guest with messages, and keeps what comes of it or undoes it.
    fn try_out(
        &mut self,
        batch: Batch,
        details: (Option<Detail>, Option<Detail>),
        attempt: Call,
        control: &StepControl,
    ) -> Outcome {
        match attempt.new_instance {
            true => self.guest.close(control),
            false => self.guest.recycle(control, Between::Batches),
        }
        let new_instance = !self.guest.has_instance();
        self.begin_batch(latest(&batch.messages.timestamps));
        let ran = self.run(&batch, control);
        let ran = ran.and_then(|done| self.unpark_replayed(&batch, done).map(|()| done));
        let stopped = match ran {
            Ok(processed) => {
                self.keep_batch(&batch, processed, details);
                if self.isolation.is_busy() {
                    self.isolation.passed(processed);
                    self.note_isolation();
                }
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
        let answer = match stopped {
            Stopped::GivenUp => return Outcome::Idle,
            Stopped::Unmade(cause) => Answer::Restart(cause),
            Stopped::By(cause) => {
                let answer = self.judge(cause, &batch, call);
                self.unless_it_is_a_regression(answer, &batch, control)
            }
        };
        if matches!(answer, Answer::TryAgainRenewed(_)) {
            self.guest.close(control);
        }
        self.answer(answer, batch, details)
    }

    /// Does with messages what needs no guest: as a batch of their own.
    fn pass(
        &mut self,
        pass: &Pass,
        batch: Batch,
        details: (Option<Detail>, Option<Detail>),
    ) -> Outcome {
        self.begin_batch(latest(&batch.messages.timestamps));
        self.pending.leave_out(batch.len());
        let passed = match pass {
            Pass::Skip(skip) => self.skip_first(skip, &batch),
            Pass::Follow(_) => self.follow(&batch),
            Pass::Drop(_) => self.unpark_replayed(&batch, batch.len()),
        };
        if let Err(stopped) = passed {
            self.guest.context_mut().undo_batch();
            let input = batch.input;
            self.put_back(batch, details);
            return self.unreadable(stopped, input);
        }
        let messages = batch.len();
        self.keep_batch(&batch, messages, details);
        if matches!(pass, Pass::Skip(_)) {
            return self.skipped();
        }
        if self.isolation.is_busy() {
            self.isolation.passed(messages);
        }
        self.note_isolation();
        Outcome::Worked
    }

    /// State could not be read outside of a call.
    fn unreadable(&mut self, stopped: Stopped, input: InputIndex) -> Outcome {
        match stopped {
            Stopped::GivenUp => Outcome::Idle,
            Stopped::By(cause) | Stopped::Unmade(cause) => self.restart(cause, Some(input), None),
        }
    }

    /// Whether the message that somebody wants to be passed over cannot come any more.
    fn is_past_skip(&self, input: InputIndex) -> bool {
        let next = self.figures.positions[input.index()].load(Ordering::Relaxed);
        let skip = self.skip.as_ref();
        skip.is_some_and(|skip| next > skip.offset || self.ended[input.index()])
    }

    /// Only a message was to be passed over, and it is not there any more.
    fn finds_nothing_to_skip(&mut self) -> Outcome {
        self.skip = None;
        self.dirty = false;
        self.life.end();
        Outcome::Ended
    }

    /// The message that somebody wanted to be passed over is.
    fn skipped(&mut self) -> Outcome {
        self.note_isolation();
        match self.options.skips_held {
            true => {
                self.life.end();
                Outcome::Ended
            }
            false => Outcome::Worked,
        }
    }

    /// Goes on after a call with a batch came to nothing.
    fn answer(
        &mut self,
        answer: Answer,
        batch: Batch,
        details: (Option<Detail>, Option<Detail>),
    ) -> Outcome {
        let (input, range) = (
            batch.input,
            (batch.offsets[0], batch.offsets[batch.len() - 1]),
        );
        let outcome = match answer {
            Answer::PassOver(cause) => match self.pass_over(&cause, &batch) {
                Ok(()) => {
                    self.keep_batch(&batch, 1, details);
                    if std::mem::take(&mut self.fails_before_too) {
                        self.failed -= 1;
                    }
                    self.note_isolation();
                    return Outcome::Worked;
                }
                Err(stopped) => {
                    self.guest.context_mut().undo_batch();
                    self.unreadable(stopped, input)
                }
            },
            Answer::TryAgain(wait) | Answer::TryAgainRenewed(wait) => self.wait(wait),
            Answer::Hold(Cause::Parked { .. }) if self.queue_has_more().is_some() => {
                // What is dropped or done there may free a key.
                self.queue_first = true;
                self.isolation.forget();
                self.note_isolation();
                Outcome::Worked
            }
            Answer::Hold(cause) => {
                let first = match cause.is_of_a_message() {
                    true => (range.0, range.0),
                    false => range,
                };
                let origin = batch.origin.as_ref();
                self.origin = origin.map(|origin| (origin.input, origin.offsets[0]));
                self.hold(cause, Some(input), Some(first))
            }
            Answer::Restart(cause) => self.restart(cause, Some(input), Some(range)),
            Answer::Regression(cause) => self.regress(cause, input, range.0),
            Answer::GiveUp => Outcome::Idle,
        };
        self.put_back(batch, details);
        outcome
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
    pub(super) fn begin_batch(&mut self, latest: TimestampMs) {
        let wall = self.options.clock.now_ms();
        let store_time = self.record.store_time;
        let context = self.guest.context_mut();
        context.set_now(context.now().max(store_time).max(wall));
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
        let stopped = match called {
            Ok(Some(Ok(EndProgress::Again))) => {
                self.keep_end_call();
                return Outcome::Worked;
            }
            Ok(None | Some(Ok(EndProgress::Done))) => {
                self.keep_end_call();
                self.keep_ended();
                return Outcome::Ended;
            }
            Ok(Some(Err(reason))) => Stopped::By(Cause::OnEnd(reason)),
            Err(stopped) => stopped,
        };
        self.guest.context_mut().undo_batch();
        match stopped {
            Stopped::GivenUp => Outcome::Idle,
            Stopped::Unmade(cause) => self.restart(cause, None, None),
            Stopped::By(cause) => self.end_failed(cause),
        }
    }

    /// A call of `on-end` came to nothing. It has no message that could be passed over.
    fn end_failed(&mut self, cause: Cause) -> Outcome {
        let again = match &cause {
            Cause::Fault(fault) if fault.kind.may_be_a_message() => {
                self.note_fault(fault);
                self.end_failures += 1;
                self.end_failures < self.options.rules.attempts
            }
            Cause::Fault(fault) if fault.kind != FaultKind::Panic => {
                return self.restart(cause, None, None);
            }
            _ => false,
        };
        match again {
            true => self.wait(self.backoff(self.end_failures)),
            false => {
                self.blames_code = cause.may_be_of_the_code();
                self.hold(cause, None, None)
            }
        }
    }
}

//! A message that new code fails at: is it the message, or the code? The code before is asked once, on the same state, and what it
//! does is undone.

use std::sync::Arc;

use super::failure::Cause;
use super::guest::Stopped;
use super::keep::latest;
use super::policy::Answer;
use super::rules::Policy;
use super::{StepControl, Task};
use crate::model::Batch;
use crate::runtime::{Component, World};

/// What the code before makes of a message.
enum Tried {
    Passes,
    Fails,
    /// The drain's time was over.
    GivenUp,
}

impl Task {
    /// The same answer, unless the code before passes the message that is to be passed over or held at.
    pub(super) fn unless_it_is_a_regression(
        &mut self,
        answer: Answer,
        batch: &Batch,
        control: &StepControl,
    ) -> Answer {
        self.fails_before_too = false;
        let (Answer::PassOver(cause) | Answer::Hold(cause)) = &answer else {
            return answer;
        };
        let may_be = match cause {
            Cause::Fault(fault) => fault.kind.may_be_a_message(),
            Cause::Rejected { .. } | Cause::Breaker { .. } => true,
            _ => false,
        };
        let Some(before) = self.before.upgrade().filter(|_| may_be) else {
            return answer;
        };
        match self.try_under(before, batch, control) {
            Tried::Passes => Answer::Regression(cause.clone()),
            Tried::GivenUp => Answer::GiveUp,
            Tried::Fails => {
                self.fails_before_too = true;
                answer
            }
        }
    }

    /// Runs the first message of a batch under another component, and undoes it.
    fn try_under(
        &mut self,
        component: Arc<Component>,
        batch: &Batch,
        control: &StepControl,
    ) -> Tried {
        let one = batch.slice(0..1);
        // What it rejects and the job leaves out is done with.
        let may_reject = self.options.rules.on_rejected == Policy::Skip;
        self.guest.close(control);
        let code = self.guest.lend_to(component);
        self.begin_batch(latest(&one.messages.timestamps));
        let made = self.guest.ensure_instance(control);
        let ran = made.and_then(|()| match self.guest.component().world() {
            World::Batch => {
                let answer = self.guest.call(control, |instance, context| {
                    instance.process_batch(context, &one)
                })?;
                Ok(may_reject || answer.is_ok_and(|rejections| rejections.is_empty()))
            }
            World::Message => {
                let answer = self.guest.call(control, |instance, context| {
                    instance.process_message(context, &one, 0)
                })?;
                Ok(may_reject || answer.is_ok())
            }
        });
        self.guest.context_mut().undo_batch();
        self.guest.take_back(code);
        match ran {
            Ok(true) => Tried::Passes,
            Ok(false) | Err(Stopped::By(_) | Stopped::Unmade(_)) => Tried::Fails,
            Err(Stopped::GivenUp) => Tried::GivenUp,
        }
    }
}

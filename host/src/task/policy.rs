//! What becomes of what goes wrong: a rejected message is skipped, becomes a dead letter, or stops the task; any other cause
//! stops it.

use super::dead_letter::Reason;
use super::failure::Cause;
use super::guest::Stopped;
use super::{OnRejected, Outcome, Task, TaskFailure};
use crate::model::{Batch, InputIndex, Offset};
use crate::runtime::Rejection;

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
            (OnRejected::Skip, _) => Ok(1),
            (OnRejected::DeadLetter, Some(to)) => {
                let why = Reason {
                    reason,
                    detail,
                    attempts,
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

//! How others ask a running job.

use std::sync::mpsc::Sender;

use tokio::sync::oneshot;

use super::letters::{LetterWrite, Letters};
use super::mail::{Mail, Request, TaskChange};
use super::produce::{Produce, Produced};
use super::resume::Resumed;
use super::status::Status;
use super::swap::{SwapRequest, Swaps};
use super::view::View;
use crate::model::Epoch;
use crate::task::Resume;

/// Asks a running job.
#[derive(Clone)]
pub struct Handle {
    pub(super) mail: Sender<Mail>,
    pub(super) letters: Letters,
    pub(super) swaps: Swaps,
    pub(super) view: View,
}

/// The job has ended.
#[derive(Debug, thiserror::Error)]
#[error("the job has ended")]
pub struct JobEnded;

impl Handle {
    /// Stops the job in good order. Asking again changes nothing.
    pub fn stop(&self) {
        let _ = self.mail.send(Mail::Stop);
    }

    /// What is committed.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What the job looks like now.
    ///
    /// # Errors
    /// The job has ended.
    pub async fn status(&self) -> Result<Status, JobEnded> {
        self.ask(Request::Status).await
    }

    /// Takes a checkpoint now and waits until it is durable and delivered. If nothing has changed, the answer is the last.
    ///
    /// # Errors
    /// The job has ended.
    pub async fn checkpoint(&self) -> Result<Epoch, JobEnded> {
        self.ask(Request::Checkpoint).await
    }

    /// Appends messages to a log stream: durable when it returns, all or nothing. Returns where each of them is.
    ///
    /// # Errors
    /// The job has ended; or, inside, the stream cannot be appended to.
    pub async fn produce(
        &self,
        stream: String,
        messages: Vec<Produce>,
    ) -> Result<Produced, JobEnded> {
        self.ask(|reply| Request::Produce(stream, messages, reply))
            .await
    }

    /// Changes a task, by its name (stage, slash, partition), while the job goes on, and returns when that is done.
    ///
    /// # Errors
    /// The job has ended; or, inside, why it cannot be done.
    pub async fn change(
        &self,
        task: String,
        change: TaskChange,
    ) -> Result<Result<(), String>, JobEnded> {
        self.ask(|reply| Request::Change(task, change, reply)).await
    }

    /// The swaps of the job.
    pub fn swaps(&self) -> &Swaps {
        &self.swaps
    }

    /// Begins a swap. Returns its number; [`Handle::swaps`] says what becomes of it.
    ///
    /// # Errors
    /// The job has ended; or, inside, why it does not begin.
    pub async fn swap(&self, request: SwapRequest) -> Result<Result<u64, String>, JobEnded> {
        self.ask(|reply| Request::Swap(request, reply)).await
    }

    /// New code of a stage stays, and what it has held goes out. Returns the number of its swap.
    ///
    /// # Errors
    /// The job has ended; or, inside, why not.
    pub async fn promote(&self, stage: String) -> Result<Result<u64, String>, JobEnded> {
        self.ask(|reply| Request::Promote(stage, reply)).await
    }

    /// New code of a stage is tried no more. Returns the number of its swap.
    ///
    /// # Errors
    /// The job has ended; or, inside, why not.
    pub async fn drop_shadow(&self, stage: String) -> Result<Result<u64, String>, JobEnded> {
        self.ask(|reply| Request::DropShadow(stage, reply)).await
    }

    /// The dead letters of the job.
    pub fn letters(&self) -> &Letters {
        &self.letters
    }

    /// Writes what is to become of dead letters: durable when it returns. Returns how many were not marked before.
    ///
    /// # Errors
    /// The job has ended.
    pub async fn write_letters(&self, write: LetterWrite) -> Result<u64, JobEnded> {
        self.ask(|reply| Request::Letters(write, reply)).await
    }

    /// Lets a held task go on, by its name (stage, slash, partition). It has been asked to when this returns.
    ///
    /// # Errors
    /// The job has ended; or, inside, why it does not go on.
    pub async fn resume(
        &self,
        task: String,
        how: Resume,
    ) -> Result<Result<Resumed, String>, JobEnded> {
        self.ask(|reply| Request::Resume(task, how, reply)).await
    }

    async fn ask<R>(
        &self,
        request: impl FnOnce(oneshot::Sender<R>) -> Request,
    ) -> Result<R, JobEnded> {
        let (reply, answer) = oneshot::channel();
        self.mail
            .send(Mail::Request(request(reply)))
            .map_err(|_| JobEnded)?;
        answer.await.map_err(|_| JobEnded)
    }
}

//! What the event loop is sent.

use tokio::sync::oneshot;

use super::commit::Done;
use super::letters::LetterWrite;
use super::produce::{Produce, Produced};
use super::resume::Resumed;
use super::status::Status;
use super::swap::{Candidate, SwapRequest};
use super::tasks::Made;
use crate::model::Epoch;
use crate::scheduler::{Notice, TaskIndex};
use crate::state::StateError;
use crate::task::Resume;

/// All that the event loop is sent.
pub(super) enum Mail {
    /// From the scheduler.
    Notice(Notice),
    /// From the commit thread.
    Done(Done),
    /// A task was made, or could not be.
    Made(TaskIndex, Box<Result<Made, StateError>>),
    /// The candidate of a swap was made, or refused.
    Candidate(u64, Box<Result<Candidate, String>>),
    /// A shadow is over, or cannot go on.
    ShadowEnded(u64, Result<(), String>),
    /// The code of the stage at this place, of this generation, is to go back, for this reason.
    GoBack(usize, u64, String),
    /// Stop in good order.
    Stop,
    /// After a drain began, no task runs any more.
    Quiet,
    /// Everything is read, and nothing is to be done.
    Idle,
    /// The tasks that have not failed have read everything.
    CaughtUp,
    /// From outside.
    Request(Request),
}

/// A question or a wish from outside.
pub(super) enum Request {
    Status(oneshot::Sender<Status>),
    Checkpoint(oneshot::Sender<Epoch>),
    Produce(String, Vec<Produce>, oneshot::Sender<Produced>),
    Swap(SwapRequest, oneshot::Sender<Result<u64, String>>),
    Promote(String, oneshot::Sender<Result<u64, String>>),
    DropShadow(String, oneshot::Sender<Result<u64, String>>),
    Letters(LetterWrite, oneshot::Sender<u64>),
    Resume(String, Resume, oneshot::Sender<Result<Resumed, String>>),
    Change(String, TaskChange, oneshot::Sender<Result<(), String>>),
}

/// What becomes of a task while the job goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskChange {
    /// It is committed and taken away, until it is started. The job waits for it: it does not end without it.
    Suspend,
    /// It is committed and taken away. The job goes on, and ends, without it.
    Retire,
    /// It is made again from what is committed of it, after it was suspended or retired.
    Start,
    /// It is committed, taken away and made again.
    Restart,
}

//! The machine's input and output: events and commands.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::checkpoint::decide::Trigger;
use crate::model::Epoch;
use crate::scheduler::{Met, TaskIndex};

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Nothing but time.
    Tick,
    /// A task has its first change in the open epoch.
    Changed(TaskIndex),
    /// Half of the bytes that may be uncommitted are.
    Bytes,
    /// A checkpoint is wanted.
    Wanted(Trigger),
    /// Other code takes over in these tasks, all that the next barrier can have of them, whether anything has changed or not.
    Cut(BTreeSet<TaskIndex>),
    /// A task has sealed.
    Sealed(TaskIndex, Epoch, Content),
    /// A task's inputs have ended.
    Ended(TaskIndex),
    /// A task failed: the others are drained, then the job ends. If it failed at what it met first, it will do so at the next start
    /// too, so the others are drained when they have caught up, or after [`REPRIEVE`](super::REPRIEVE).
    Failed(TaskIndex, Met),
    /// A task waits for a person, and the others go on.
    Held(TaskIndex),
    /// Something is wanted of a task.
    Wish(TaskIndex, Wish),
    /// The same is wanted of several.
    Wishes(Vec<TaskIndex>, Wish),
    /// A task that was made is not needed any more, and is away.
    NotNeeded(TaskIndex),
    /// A task that was asked to stop has.
    Stopped(TaskIndex),
    /// A task has left the scheduler.
    Left(TaskIndex),
    /// A task was made, and can be put into the scheduler.
    Made(TaskIndex),
    /// What the tasks that have not failed can read is read and processed.
    CaughtUp,
    /// The epoch is durable, and readers see it.
    Committed(Epoch),
    /// Its output is delivered.
    Delivered(Epoch, Deliveries),
    /// An attempt failed before the decision point. The number counts consecutive failures.
    AttemptFailed(u32),
    /// A checkpoint's outcome is unknown, or the disk is full.
    CommitFailed,
    /// A signal, or an operator, asks to stop.
    Stop,
    /// All inputs are read and nothing is to be done (only with `--until-idle`).
    Idle,
    /// After [`Command::Drain`]: no call of a guest runs any more.
    Quiet,
}

/// Whether a sealed task has something to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// It has.
    Some,
    /// Nothing had changed in the end.
    None,
}

/// Whether the database has recorded what was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deliveries {
    /// It has.
    Recorded,
    /// The next checkpoint will.
    Unrecorded,
}

/// What is wanted of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To be committed and taken away until it is wanted again.
    Suspend,
    /// To be committed and taken away for good.
    Retire,
    /// To be made again from what is committed of it, not before this time.
    Restart(Instant),
    /// To leave at once, until it is wanted again: what it has in the open epoch is dropped.
    Abandon,
    /// To come back.
    Start,
    /// To go on although it is held.
    Resume,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Ask these tasks, which have changes or get other code, to seal.
    Seal(Epoch, Trigger, Vec<TaskIndex>, Cut),
    /// The epoch of these tasks is committed: they give up what they have sealed.
    Release(Vec<TaskIndex>),
    /// Ask a task to process nothing any more.
    StopTask(TaskIndex),
    /// Ask a held task to go on.
    Resume(TaskIndex),
    /// Ask a task to leave the scheduler.
    Remove(TaskIndex),
    /// Make a task from what is committed of it.
    Make(TaskIndex),
    /// Put a task that was made into the scheduler.
    Put(TaskIndex),
    /// Drop a task that was made.
    Discard(TaskIndex),
    /// Hand what was sealed to the commit.
    Commit(Epoch),
    /// No batch starts any more; readers stop.
    Drain,
    /// Interrupt the calls that still run: their batches are undone.
    GiveUp,
    /// Reply to those who asked for a checkpoint.
    Answer(Epoch),
    /// End, for this reason.
    Exit(Ending),
}

/// Whether other code takes over with a barrier: then all tasks are asked to seal that [`Event::Cut`] named and that are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It does.
    Some,
    /// It does not.
    None,
}

/// Why the job ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All inputs have ended.
    Finished,
    /// It was asked to stop.
    Drained,
    /// Tasks failed.
    Failed,
    /// The host failed.
    Host,
    /// It was to stop, and something did not.
    Stuck,
}

//! Asking a job, whether it runs or not.
//!
//! A command asks [`JobAccess`] or [`Append`] and does not know who answers: the running job over its admin socket ([`running`]),
//! or its state directory ([`stopped`]). The same question has the same answer, the same error and the same exit code both ways.
//!
//! A job can start or end while a command asks it. A question that got no answer for that reason is asked again, wherever the job
//! is then. An append is only repeated if the job cannot have taken it.

mod client;
mod letters;
mod running;
mod stopped;
mod tend;

use std::time::{Duration, Instant};

pub(super) use letters::letters;
pub(super) use stopped::{codes, options, unreadable};

use super::{Failure, exit};
use crate::admin::json;
use crate::admin::letters::{Group, Letter, WholeLetter};
use crate::admin::swaps;
use crate::checkpoint::directory;
use crate::checkpoint::{Held, Holder};
use crate::config::Job;
use crate::connectors::JsonMessage;
use crate::connectors::log::LogRead;
use crate::coordinator::{Deleted, LetterFilter, LetterId, Outcome, View};
use crate::disk::Disk;
use crate::model::{Offset, PartitionId, TimestampMs};
use running::Running;
use stopped::Stopped;

/// What a command asks a job.
pub(super) trait JobAccess {
    fn is_running(&self) -> bool;

    fn status(&self) -> Result<json::Status, Failure>;

    /// Committed positions.
    fn offsets(&self) -> Result<Vec<json::Offset>, Failure>;

    /// The last checkpoints, oldest first.
    fn checkpoints(&self) -> Result<Vec<json::Checkpoint>, Failure>;

    /// Takes a checkpoint now, and waits until it is durable. A job that does not run refuses.
    fn checkpoint(&self) -> Result<json::Taken, Failure>;

    /// Begins a swap of a stage to a component, or to the one that the job names. A job that does not run refuses.
    fn swap(
        &self,
        stage: &str,
        component: Option<&[u8]>,
        wanted: &swaps::Wanted,
    ) -> Result<swaps::Swap, Failure>;

    /// New code of a stage stays, and what it has held goes out. A job that does not run refuses.
    fn promote(&self, stage: &str) -> Result<swaps::Swap, Failure>;

    /// Ends a shadow.
    fn drop_shadow(&self, stage: &str) -> Result<swaps::Swap, Failure>;

    /// A swap, as soon as it is in another state than this one, or after a while.
    fn swap_later(&self, known: &swaps::Swap) -> Result<swaps::Swap, Failure>;

    fn stores(&self) -> Result<Vec<json::Store>, Failure>;

    /// The entries of stores. A running job refuses to show them.
    fn committed(&self) -> Result<&View, Failure>;

    /// Log streams and what they hold.
    fn logs(&self) -> Result<Vec<json::LogPartition>, Failure>;

    /// Messages of a partition of a log stream from an offset on: at most `limit`, and as many as are read at a time. Where there
    /// are none, the first offset of the answer says nothing.
    fn log_read(
        &self,
        stream: &str,
        partition: PartitionId,
        from: Offset,
        deleted: Deleted,
        limit: u64,
    ) -> Result<LogRead, Failure>;

    /// The first offset of a partition whose message is not older than `time`, or the end.
    fn log_offset_at(
        &self,
        stream: &str,
        partition: PartitionId,
        time: TimestampMs,
    ) -> Result<Offset, Failure>;
}

/// Appends to a log stream of a job.
pub(super) trait Append {
    /// Whether messages can be appended now.
    fn ready(&mut self) -> Result<(), Failure>;

    /// Appends all of the messages, durably, or none.
    fn append(&mut self, messages: &[JsonMessage]) -> Result<(), Failure>;
}

/// Looks at a job's dead letters, and changes what becomes of them.
pub(super) trait LetterAccess {
    fn groups(&mut self, filter: &LetterFilter) -> Result<Vec<Group>, Failure>;

    /// Some of them; those after the last are the next page.
    fn page(&mut self, filter: &LetterFilter) -> Result<Vec<Letter>, Failure>;

    fn whole(&mut self, id: &LetterId) -> Result<WholeLetter, Failure>;

    fn replay(&mut self, filter: &LetterFilter, dry_run: bool) -> Result<Outcome, Failure>;

    /// Replays letters that are given, one JSON object a line.
    fn replay_lines(&mut self, lines: &[u8], dry_run: bool) -> Result<Outcome, Failure>;

    fn drop(&mut self, filter: &LetterFilter, dry_run: bool) -> Result<Outcome, Failure>;
}

/// Changes what a job's tasks do.
pub(super) trait TaskAccess {
    /// Lets a held task go on. The breaker does not judge the next `past` messages.
    fn resume(&mut self, task: &str, past: u64) -> Result<json::Resumed, Failure>;

    /// Passes over the message that a task is held at.
    fn skip(&mut self, task: &str) -> Result<json::Resumed, Failure>;
}

/// How long a command waits for a job that is just starting or ending.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(10);

/// A job that is asked, found again whenever it has started or ended.
pub(super) struct Access<'a, A: ?Sized> {
    job: &'a Job,
    open: Open<'a, A>,
    opened: Option<Box<A>>,
}

/// Opens a job that runs as a process, or one that does not run (`None`).
type Open<'a, A> = Box<dyn Fn(Option<Holder>) -> Result<Box<A>, Failure> + 'a>;

/// A job to be asked. A stopped job does not start to run as long as this lives.
pub(super) fn of(job: &Job) -> Access<'_, dyn JobAccess + '_> {
    let open = move |holder: Option<Holder>| -> Result<Box<dyn JobAccess + '_>, Failure> {
        Ok(match holder {
            Some(holder) => Box::new(Running::new(job, &holder)?),
            None => Box::new(Stopped::look(job)?),
        })
    };
    Access {
        job,
        open: Box::new(open),
        opened: None,
    }
}

/// A log stream of a job, of so many partitions, to be appended to. Appending makes the state directory if there is none.
pub(super) fn appender<'a>(
    job: &'a Job,
    stream: &'a str,
    partitions: u32,
    disk: Disk,
) -> Access<'a, dyn Append + 'a> {
    let open = move |holder: Option<Holder>| -> Result<Box<dyn Append + 'a>, Failure> {
        Ok(match holder {
            Some(holder) => Box::new(running::Appender::new(&holder, stream)?),
            None => Box::new(stopped::Appender::open(
                job,
                stream,
                partitions,
                disk.clone(),
            )?),
        })
    };
    Access {
        job,
        open: Box::new(open),
        opened: None,
    }
}

/// The tasks of a job, to be changed.
pub(super) fn tasks<'a>(job: &'a Job, disk: &'a Disk) -> Access<'a, dyn TaskAccess + 'a> {
    let open = move |holder: Option<Holder>| -> Result<Box<dyn TaskAccess + 'a>, Failure> {
        Ok(match holder {
            Some(holder) => Box::new(Running::new(job, &holder)?),
            None => Box::new(tend::Tasks { job, disk }),
        })
    };
    Access {
        job,
        open: Box::new(open),
        opened: None,
    }
}

impl<A: ?Sized> Access<'_, A> {
    /// Asks the job, and asks again if it has started or ended meanwhile.
    pub(super) fn ask<T>(
        &mut self,
        mut question: impl FnMut(&mut A) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.found().and_then(&mut question) {
                Err(failure) if failure.moved && Instant::now() < until => {
                    self.opened = None;
                    std::thread::sleep(LOOK);
                }
                answer => return answer,
            }
        }
    }

    fn found(&mut self) -> Result<&mut A, Failure> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => match directory::held(&self.job.general.state_dir) {
                Held::By(holder) => (self.open)(Some(holder))?,
                Held::Free => (self.open)(None)?,
                Held::Unannounced(pid) => return Err(unannounced(self.job, pid)),
            },
        };
        Ok(self.opened.insert(opened))
    }
}

fn unannounced(job: &Job, pid: Option<u32>) -> Failure {
    let by = pid.map(|pid| format!(" by process {pid}"));
    let text = format!(
        "state directory {} is held{}, and there is no admin socket to ask: a job that starts, or a command on a stopped one; try again",
        job.general.state_dir.display(),
        by.unwrap_or_default()
    );
    Failure {
        moved: true,
        ..Failure::new(exit::HOST, text)
    }
}

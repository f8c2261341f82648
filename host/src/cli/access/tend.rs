//! Held tasks of a job that does not run.
//!
//! To pass over a message is an epoch of its own: the job is opened with that task alone, which reads the message at its position,
//! sends the dead letter, and ends. No guest is called.

use super::TaskAccess;
use super::stopped::{Stopped, codes, options, unreadable};
use crate::admin::json;
use crate::checkpoint::decide::Wanted;
use crate::checkpoint::directory;
use crate::checkpoint::{Committer, CommitterOptions};
use crate::cli::assemble::{Clusters, Missing};
use crate::cli::{Failure, assemble, exit, job as command};
use crate::config::Job;
use crate::connectors::Lost;
use crate::coordinator::machine::Ending;
use crate::coordinator::{Coordinator, TaskView};
use crate::disk::Disk;
use crate::state::Durability;

/// The tasks of a job that does not run.
pub(super) struct Tasks<'a> {
    pub(super) job: &'a Job,
    pub(super) disk: &'a Disk,
}

impl TaskAccess for Tasks<'_> {
    fn resume(&mut self, task: &str, past: u64) -> Result<json::Resumed, Failure> {
        let found = self.held(task)?;
        let resumed = self.resumed(&found)?;
        if past == 0 {
            let name = &self.job.general.name;
            let why = format!("job {name:?} does not run: `wasm-host run` lets {task} try again");
            return Err(Failure::new(exit::USAGE, why));
        }
        let missing = || self.no_state();
        let opened = directory::open(&options(self.job, self.disk.clone(), 0))?;
        let directory = opened.ok_or_else(missing)?;
        let committer = CommitterOptions {
            logs: Vec::new(),
            external: Vec::new(),
            mirrored: Vec::new(),
            reads: Vec::new(),
            durability: Durability::Sync,
            disk: self.disk.clone(),
        };
        let mut committer = Committer::open(directory, &committer)?;
        committer.leave_unjudged(found.id, past)?;
        Ok(resumed)
    }

    fn skip(&mut self, task: &str) -> Result<json::Resumed, Failure> {
        let found = self.held(task)?;
        let resumed = self.resumed(&found)?;
        if resumed.offset.is_none() {
            let kind = found.record.held.map(|held| held.kind).unwrap_or_default();
            let why = format!(
                "task {task} is not held at a message, so there is none to skip ({kind}): `wasm-host run` lets it try again"
            );
            return Err(Failure::new(exit::USAGE, why));
        }
        let mut job = command::load_again(self.job)?;
        let clusters = Clusters::new(&job, Lost::Refuse, self.disk);
        clusters.resolve(&mut job, Missing::Refuse)?;
        let runtime = assemble::runtime(Some(&job))?;
        // What is recorded of the stage stays as it is: no code of it runs.
        let codes = codes(&job, Wanted::Recorded)?;
        let mut options = assemble::job(&job, &runtime, self.disk, &clusters, &codes)?;
        let stream = resumed.stream.as_ref();
        let stream = stream.and_then(|name| options.streams.get(name));
        let input = stream.and_then(|stream| stream.input());
        let held = found.record.held.as_ref();
        let is_replayed = held.is_some_and(|held| held.origin.is_some());
        if !is_replayed && input.is_some_and(|input| !input.rewindable()) {
            let why = format!(
                "task {task} is held at a message of stream {:?}, which cannot be read again: `wasm-host run` goes on with what comes next",
                resumed.stream.unwrap_or_default()
            );
            return Err(Failure::new(exit::USAGE, why));
        }
        options.skips = Some(task.to_owned());
        options.until_idle = true;
        let io = command::io_runtime()?;
        // Other commands wait until this one is done, as for any that writes: there is nobody to ask.
        let report = Coordinator::open(options, io.handle(), None)?.run();
        io.shutdown_background();
        match report.ending {
            Ending::Finished if report.nothing_new => Err(gone(task)),
            Ending::Finished => Ok(json::Resumed {
                epoch: Some(report.epoch.0),
                ..resumed
            }),
            Ending::Failed => {
                let failures: Vec<_> = report.failures.iter().map(ToString::to_string).collect();
                Err(Failure::new(exit::TASK, failures.join("\n")))
            }
            Ending::Drained => Err(gone(task)),
            Ending::Host | Ending::Stuck => Err(match report.error {
                Some(error) => error.into(),
                None => Failure::new(exit::HOST, "the checkpoint cannot be written".to_owned()),
            }),
        }
    }
}

impl Tasks<'_> {
    /// A task that is held.
    fn held(&self, task: &str) -> Result<TaskView, Failure> {
        let stopped = Stopped::look(self.job)?;
        let tasks = stopped.view().tasks().map_err(unreadable)?;
        let found = tasks.into_iter().find(|found| found.task == task);
        let why = match found {
            Some(found) if found.record.held.is_some() => return Ok(found),
            Some(_) => format!("task {task} is not held"),
            None if self.is_declared(task) => format!("task {task} is not held"),
            None => format!("the job has no task {task:?}: `wasm-host task list` shows them"),
        };
        Err(Failure::new(exit::USAGE, why))
    }

    /// Whether the job has it, although no checkpoint has anything of it yet.
    fn is_declared(&self, task: &str) -> bool {
        let Some((stage, partition)) = task.split_once('/') else {
            return false;
        };
        let mut stages = self.job.stages.iter();
        let partitions = stages.find(|declared| declared.name == stage);
        let partition = partition.parse::<u32>();
        partition.is_ok_and(|at| {
            partitions
                .is_some_and(|stage| stage.partitions.is_none_or(|partitions| at < partitions))
        })
    }

    fn resumed(&self, found: &TaskView) -> Result<json::Resumed, Failure> {
        let held = found.record.held.as_ref();
        let message = match held.and_then(|held| held.place()) {
            None => None,
            Some((stream, offset)) => {
                let stopped = Stopped::look(self.job)?;
                let catalog = stopped.view().catalog().map_err(unreadable)?;
                let mut streams = catalog.streams.into_iter();
                let name = streams.find(|(_, known)| known.id == stream);
                name.map(|(name, _)| (name, offset))
            }
        };
        Ok(json::Resumed {
            task: found.task.clone(),
            stream: message.as_ref().map(|(stream, _)| stream.clone()),
            offset: message.map(|(_, offset)| offset),
            epoch: None,
        })
    }

    fn no_state(&self) -> Failure {
        let why = format!("job {:?} has no state yet", self.job.general.name);
        Failure::new(exit::USAGE, why)
    }
}

fn gone(task: &str) -> Failure {
    let why = format!(
        "the message that task {task} was held at is not there any more, or somebody has passed over it meanwhile"
    );
    Failure::new(exit::TASK, why)
}

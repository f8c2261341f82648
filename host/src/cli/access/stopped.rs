//! A job that does not run: its state directory is opened.

use std::sync::Arc;

use super::{Append, JobAccess};
use crate::admin::{json, swaps};
use crate::checkpoint::catalog::{Catalog, StreamShape};
use crate::checkpoint::decide::{Chosen, Wanted, Why, choose_code};
use crate::checkpoint::directory::{self, DirectoryOptions, Inspected};
use crate::checkpoint::logs::{LogStream, Retention};
use crate::checkpoint::{Committer, CommitterOptions};
use crate::cli::assemble::{self, Codes, Recorded, Replaced};
use crate::cli::{Failure, exit, job as command};
use crate::config::Job;
use crate::connectors::JsonMessage;
use crate::connectors::log::LogRead;
use crate::coordinator::{Code, Deleted, Produce, StageRecord, View, place};
use crate::disk::Disk;
use crate::model::{Clock, Messages, Offset, PartitionId, SystemClock, TimestampMs};
use crate::state::{DbOptions, Durability, StateError};

/// A job that does not run, and does not start to run as long as this lives.
pub(super) struct Stopped<'a> {
    job: &'a Job,
    view: View,
    /// Keeps others from running the job.
    inspected: Inspected,
}

impl Stopped<'_> {
    fn does_not_run(&self, stage: &str) -> Failure {
        let name = &self.job.general.name;
        Failure::new(
            exit::USAGE,
            format!("job {name:?} does not run: start it, and ask again for stage {stage:?}"),
        )
    }

    /// What is committed.
    pub(super) fn view(&self) -> &View {
        &self.view
    }

    pub(super) fn look(job: &Job) -> Result<Stopped<'_>, Failure> {
        Stopped::find(job)?.ok_or_else(|| no_state(job))
    }

    /// `None`: the job has no state.
    fn find(job: &Job) -> Result<Option<Stopped<'_>>, Failure> {
        let Some(inspected) = directory::look(&options(job, Disk::default(), 0))? else {
            return Ok(None);
        };
        let view =
            View::of_stopped(Arc::clone(&inspected.db), &inspected.path).map_err(unreadable)?;
        Ok(Some(Stopped {
            job,
            view,
            inspected,
        }))
    }
}

fn no_state(job: &Job) -> Failure {
    let why = format!(
        "job {:?} has no state yet: there is none in {}; `wasm-host run` makes it",
        job.general.name,
        job.general.state_dir.display()
    );
    Failure::new(exit::USAGE, why)
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
pub(in crate::cli) fn unreadable(error: StateError) -> Failure {
    Failure::of(exit::STATE, &error)
}

impl JobAccess for Stopped<'_> {
    fn is_running(&self) -> bool {
        false
    }

    fn status(&self) -> Result<json::Status, Failure> {
        json::stopped(&self.job.general.name, &self.view).map_err(unreadable)
    }

    fn offsets(&self) -> Result<Vec<json::Offset>, Failure> {
        json::offsets(&self.view).map_err(unreadable)
    }

    fn checkpoints(&self) -> Result<Vec<json::Checkpoint>, Failure> {
        let found = self.view.checkpoints().map_err(unreadable)?;
        Ok(found.iter().map(json::Checkpoint::from).collect())
    }

    fn checkpoint(&self) -> Result<json::Taken, Failure> {
        Err(Failure::new(
            exit::USAGE,
            format!(
                "job {:?} does not run: its last checkpoint holds everything",
                self.job.general.name
            ),
        ))
    }

    fn swap(
        &self,
        stage: &str,
        _: Option<&[u8]>,
        _: &swaps::Wanted,
    ) -> Result<swaps::Swap, Failure> {
        let name = &self.job.general.name;
        Err(Failure::new(
            exit::USAGE,
            format!(
                "job {name:?} does not run, so there is nothing to swap: name the component of stage {stage:?} in the job file, and `wasm-host run` begins with it"
            ),
        ))
    }

    fn promote(&self, stage: &str) -> Result<swaps::Swap, Failure> {
        Err(self.does_not_run(stage))
    }

    fn drop_shadow(&self, stage: &str) -> Result<swaps::Swap, Failure> {
        Err(self.does_not_run(stage))
    }

    fn swap_later(&self, known: &swaps::Swap) -> Result<swaps::Swap, Failure> {
        let swaps = self.view.swaps().map_err(unreadable)?;
        let found = swaps.iter().find(|(id, _)| *id == known.id);
        let missing = || match known.is_shadow() {
            true => {
                let why = "the job has stopped, and with it what was tried";
                Failure::new(exit::HOST, why)
            }
            false => {
                let why = "the job has ended before the swap: the code is the old one";
                Failure::new(exit::USAGE, why)
            }
        };
        found
            .map(|(id, swap)| swaps::Swap::of(*id, swap))
            .ok_or_else(missing)
    }

    fn stores(&self) -> Result<Vec<json::Store>, Failure> {
        json::stores(&self.view).map_err(unreadable)
    }

    fn committed(&self) -> Result<&View, Failure> {
        if self.view.is_between().map_err(unreadable)? {
            let why = "a migration of state, or a way back, was interrupted, and the next start takes back what there is of it: start the job before its state is looked at";
            return Err(Failure::new(exit::STATE, why));
        }
        Ok(&self.view)
    }

    fn logs(&self) -> Result<Vec<json::LogPartition>, Failure> {
        json::logs(&self.view).map_err(unreadable)
    }

    fn log_read(
        &self,
        stream: &str,
        partition: PartitionId,
        from: Offset,
        deleted: Deleted,
        limit: u64,
    ) -> Result<LogRead, Failure> {
        let mut read = self.view.log_read(stream, partition, from, deleted)?;
        read.messages
            .truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(read)
    }

    fn log_offset_at(
        &self,
        stream: &str,
        partition: PartitionId,
        time: TimestampMs,
    ) -> Result<Offset, Failure> {
        Ok(self.view.log_offset_at(stream, partition, time)?)
    }
}

/// Which code each stage of a job that does not run is to run.
pub(in crate::cli) fn codes(job: &Job, wanted: Wanted) -> Result<Codes, Failure> {
    let mut codes = Codes {
        wanted,
        ..Codes::default()
    };
    if wanted != Wanted::Recorded && !command::has_state(job) {
        return Ok(codes);
    }
    let stopped = match Stopped::find(job)? {
        // Somebody has moved it aside meanwhile.
        None if wanted != Wanted::Recorded => return Ok(codes),
        found => found.ok_or_else(|| no_state(job))?,
    };
    let catalog = stopped.view.catalog().map_err(unreadable)?;
    let holds = stopped.view.holds().map_err(unreadable)?;
    for stage in &job.stages {
        let Some(record) = catalog.stages.get(&stage.name) else {
            continue;
        };
        let file = match wanted {
            Wanted::Recorded => None,
            Wanted::ByRule | Wanted::File => Some(assemble::sha256_of_file(stage)?),
        };
        let kept = |code: &Code| Recorded {
            path: directory::code_path(&stopped.inspected.path, &code.component),
            sha256: code.component.clone(),
            file: file.clone(),
        };
        let holds = holds
            .get(&record.id)
            .is_some_and(|hold| hold.is_undecided());
        let chosen = choose_code(
            Some(record),
            holds,
            file.as_deref().unwrap_or_default(),
            wanted,
        );
        if wanted == Wanted::File && chosen == Chosen::Recorded(Why::Holds) {
            let name = &stage.name;
            let why = format!(
                "--from-file: stage {name:?} holds the output of the code that runs: start it without this option, and decide with `wasm-host swap {name} --promote` or `--rollback`"
            );
            return Err(Failure::new(exit::USAGE, why));
        }
        if let Chosen::Recorded(why) = chosen {
            say_why(&stage.name, record, why);
            codes
                .recorded
                .insert(stage.name.clone(), kept(&record.code));
        }
        let is_same = chosen != Chosen::File || file.as_ref() == Some(&record.code.component);
        if !is_same {
            let replaced = Replaced {
                code: kept(&record.code),
                state_version: record.state_version,
            };
            codes.replaced.insert(stage.name.clone(), replaced);
        }
        if let Some(before) = record.way_back(is_same) {
            codes.before.insert(stage.name.clone(), kept(before));
        }
    }
    Ok(codes)
}

/// Says that a stage does not run the file that the job names.
fn say_why(stage: &str, record: &StageRecord, why: Why) {
    let runs = &record.code.component;
    match why {
        Why::Asked => {}
        Why::FileUnchanged => tracing::info!(
            stage,
            "it runs the recorded component {runs}, and not the file that the job names, which has not changed since: `run --from-file` runs the file"
        ),
        Why::Holds => tracing::warn!(
            stage,
            "it runs the recorded component {runs}, and not the file that the job names, because its output is held: decide with `wasm-host swap {stage} --promote` or `--rollback`"
        ),
        Why::FileRolledBack => tracing::warn!(
            stage,
            "it runs the recorded component {runs}, and not the file that the job names, which was rolled back before: `run --from-file` runs the file"
        ),
    }
}

/// A log stream of a job that does not run.
pub(super) struct Appender {
    committer: Committer,
    stream: LogStream,
    /// Where the next message without key and partition goes.
    round_robin: u64,
}

impl Appender {
    /// Opens the state directory, which is made if there is none. The stream may be new to it.
    pub(super) fn open(
        job: &Job,
        stream: &str,
        partitions: u32,
        disk: Disk,
    ) -> Result<Appender, Failure> {
        let directory = match directory::open(&options(job, disk.clone(), 0))? {
            Some(directory) => directory,
            None => {
                let reserve = job.general.disk_reserve.bytes();
                directory::open_or_create(&options(job, disk.clone(), reserve))?
            }
        };
        let shape = StreamShape::log(partitions);
        let path = job.general.state_dir.to_path_buf();
        let catalog = Catalog::resolve_stream(&path, &directory.db, stream, shape)?;
        let stream = LogStream {
            id: catalog.streams[stream].id,
            partitions,
            retention: Retention::default(),
            letters: false,
        };
        let options = CommitterOptions {
            logs: vec![stream.clone()],
            external: Vec::new(),
            mirrored: Vec::new(),
            reads: Vec::new(),
            durability: Durability::Sync,
            disk,
        };
        let mut committer = Committer::open(directory, &options)?;
        committer.register(&catalog, &[])?;
        Ok(Appender {
            committer,
            stream,
            round_robin: 0,
        })
    }
}

impl Append for Appender {
    fn ready(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn append(&mut self, messages: &[JsonMessage]) -> Result<(), Failure> {
        let now = SystemClock.now_ms();
        let produce = |message: &JsonMessage| {
            let mut one = Messages::default();
            message.push_to(&mut one, now);
            Produce {
                partition: message.partition.map(PartitionId),
                message: one,
            }
        };
        let messages = messages.iter().map(produce).collect();
        let placed = place(messages, self.stream.partitions, &mut self.round_robin)
            .map_err(|why| Failure::new(exit::USAGE, why))?;
        self.committer
            .append(self.stream.id, &placed.by_partition, now)?;
        Ok(())
    }
}

pub(in crate::cli) fn options(
    job: &Job,
    disk: Disk,
    disk_reserve: u64,
) -> DirectoryOptions<'static> {
    DirectoryOptions {
        path: job.general.state_dir.to_path_buf(),
        job: job.general.name.clone(),
        disk_reserve,
        db: DbOptions::default(),
        disk,
        check: Box::new(|_| Ok(())),
    }
}

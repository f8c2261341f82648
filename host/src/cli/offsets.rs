//! `offsets`.

use std::sync::Arc;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::assemble::{Clusters, Missing};
use super::{Failure, Global, access, exit, job, output, stderr};
use crate::checkpoint::{Committer, CommitterOptions, directory};
use crate::config::{Job, System};
use crate::connectors::log::start_of;
use crate::connectors::{Input, Lost};
use crate::coordinator::Catalog;
use crate::disk::Disk;
use crate::model::{Offset, PartitionId, StartAt, TaskId};
use crate::state::Durability;

#[derive(Subcommand)]
pub(super) enum OffsetsCommand {
    /// Show committed positions; of topics of Kafka also their ends, the lag, and what is committed for the consumer group
    Show,
    /// Move the positions of a job that does not run. Its state stays: messages that are read again count again
    Set(SetArgs),
}

#[derive(Args)]
pub(super) struct SetArgs {
    /// A stream that the job reads: a log, or a topic of Kafka
    stream: String,
    /// Where to go on: `oldest`, `latest`, an offset, or a time such as 2026-01-31T12:00:00Z
    #[arg(value_parser = to)]
    to: StartAt,
    /// This partition only
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
}

fn to(text: &str) -> Result<StartAt, String> {
    match text {
        "oldest" => return Ok(StartAt::Oldest),
        "latest" => return Ok(StartAt::Latest),
        _ => {}
    }
    if let Ok(offset) = text.parse() {
        return Ok(StartAt::Offset(offset));
    }
    let time: Result<Timestamp, _> = text.parse();
    time.map(|time| StartAt::Time(time.as_millisecond()))
        .map_err(|_| {
            "write `oldest`, `latest`, an offset, or a time with an offset from UTC".to_owned()
        })
}

pub(super) fn offsets(
    global: &Global,
    command: &OffsetsCommand,
    disk: &Disk,
) -> Result<(), Failure> {
    match command {
        OffsetsCommand::Show => show(global, disk),
        OffsetsCommand::Set(args) => set(global, args, disk),
    }
}

fn show(global: &Global, disk: &Disk) -> Result<(), Failure> {
    let mut job = job::load(&global.job)?;
    let mut offsets = access::of(&job).ask(|job| job.offsets())?;
    let clusters = Clusters::new(&job, Lost::Refuse, disk);
    let has_kafka = job.clusters.values().any(|cluster| cluster.used);
    if has_kafka {
        let asked = clusters.resolve(&mut job, Missing::Leave);
        if let Err(failure) = asked.and_then(|()| clusters.complete(&job, &mut offsets)) {
            stderr::say(format_args!("warning: {}", failure.text.trim_end()));
        }
    }
    if global.json {
        return offsets.iter().try_for_each(output::json);
    }
    let mut head = vec!["TASK", "STREAM", "PARTITION", "POSITION", "CHECKPOINT"];
    if has_kafka {
        head.extend(["END", "LAG", "COMMITTED"]);
    }
    let mut rows = vec![head.into_iter().map(str::to_owned).collect()];
    let known =
        |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    rows.extend(offsets.iter().map(|offset| {
        let mut row = vec![
            offset.task.clone(),
            offset.stream.clone(),
            offset.partition.to_string(),
            offset.position.to_string(),
            offset.epoch.to_string(),
        ];
        if has_kafka {
            row.extend([offset.end, offset.lag, offset.committed].map(known));
        }
        row
    }));
    output::table(&rows)
}

fn set(global: &Global, args: &SetArgs, disk: &Disk) -> Result<(), Failure> {
    let usage = |why: String| Failure::new(exit::USAGE, why);
    let mut job = job::load(&global.job)?;
    let name = &args.stream;
    let declared = job.streams.get(name).filter(|declared| declared.read);
    let declared = declared.ok_or_else(|| usage(format!("the job reads no stream {name:?}")))?;
    if !matches!(declared.system, System::Log(_) | System::Kafka(_)) {
        return Err(usage(format!(
            "stream {name:?} is of system `{}`, where a place is more than an offset: positions of logs and of topics of Kafka can be moved",
            declared.system.name()
        )));
    }
    let clusters = Clusters::new(&job, Lost::TakeOver, disk);
    clusters.resolve(&mut job, Missing::Refuse)?;
    let input = clusters.input(&job, name)?;
    let opened = directory::open(&access::options(&job, disk.clone(), 0))?;
    let directory = opened.ok_or_else(|| {
        usage(
            "the job has no state yet: say in the job file where it is to begin (`start`)"
                .to_owned(),
        )
    })?;
    let catalog = Catalog::read(&directory.db).map_err(access::unreadable)?;
    let stream = catalog.streams.get(name);
    let stream = stream
        .ok_or_else(|| usage(format!("the job has not read stream {name:?} yet")))?
        .id;
    let mirrored = input.iter().map(|input| (stream, Arc::clone(input)));
    let options = CommitterOptions {
        logs: Vec::new(),
        external: Vec::new(),
        mirrored: mirrored.collect(),
        reads: Vec::new(),
        durability: Durability::Sync,
        disk: disk.clone(),
    };
    let mut committer = Committer::open(directory, &options)?;
    if committer.is_holding() {
        let why = "a stage holds its output: decide about that first, with `wasm-host swap STAGE --promote` or `--rollback` while the job runs";
        return Err(Failure::new(exit::STATE, why.to_owned()));
    }
    let mut moved = Vec::new();
    for task in tasks(&job, &catalog, name, args.partition) {
        let next = match &input {
            Some(input) => resolved(&**input, task.partition, args.to)?,
            None => start_of(&*committer.logs(), stream, task.partition, args.to)
                .map_err(|error| Failure::of(exit::STATE, &error))?,
        };
        moved.push((task, next));
    }
    if moved.is_empty() {
        return Err(usage(format!("stream {name:?} has no such partition")));
    }
    committer.move_positions(stream, &moved)?;
    committer.close();
    for (task, next) in &moved {
        stderr::say(format_args!(
            "stream {name:?}, partition {}: goes on at offset {next}",
            task.partition
        ));
    }
    Ok(())
}

/// The tasks that read a stream.
fn tasks(job: &Job, catalog: &Catalog, stream: &str, only: Option<u32>) -> Vec<TaskId> {
    let stages = job.stages.iter();
    let reading = stages.filter(|stage| stage.inputs.iter().any(|input| input.stream == stream));
    let known = reading.filter_map(|stage| catalog.stages.get(&stage.name));
    let tasks = known.flat_map(|record| {
        (0..record.partitions).map(|partition| TaskId {
            stage: record.id,
            partition: PartitionId(partition),
        })
    });
    let is_meant = |task: &TaskId| only.is_none_or(|only| task.partition.0 == only);
    tasks.filter(is_meant).collect()
}

fn resolved(input: &dyn Input, partition: PartitionId, to: StartAt) -> Result<Offset, Failure> {
    let found = input.offset_of(partition, to);
    found.map_err(|error| Failure::of(exit::HOST, &error))
}

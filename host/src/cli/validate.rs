//! `validate`.

use std::path::PathBuf;

use clap::Args;

use super::assemble::{Clusters, Codes, Missing};
use super::{Failure, Global, access, assemble, exit, job, output};
use crate::checkpoint::OpenError;
use crate::checkpoint::decide::Wanted;
use crate::config::{Job, Look};
use crate::connectors::{Lost, OpenAt};
use crate::coordinator::{Coordinator, JobOptions};
use crate::model::PartitionId;

#[derive(Args)]
pub(super) struct ValidateArgs {
    /// The job file, or a folder with a `job.toml`; default: --job
    #[arg(value_name = "JOB")]
    path: Option<PathBuf>,
    /// A file of ceilings that the job must keep within, beside /etc/wasm-host/policy.toml
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Ask no brokers: neither for topics nor for what they have
    #[arg(long)]
    offline: bool,
}

pub(super) fn validate(global: &Global, args: &ValidateArgs) -> Result<(), Failure> {
    let path = args.path.as_ref().unwrap_or(&global.job);
    let mut job = job::load_looking(path, Look::Components, args.policy.as_deref())?;
    let runtime = assemble::runtime(Some(&job))?;
    let disk = crate::disk::Disk::default();
    let clusters = Clusters::new(&job, Lost::Refuse, &disk);
    match args.offline {
        true => take_for_found(&mut job),
        false => clusters.resolve(&mut job, Missing::Leave)?,
    }
    let options = assemble::job(&job, &runtime, &disk, &clusters, &codes(&job)?)?;
    assemble::check_components(&options)?;
    if args.offline && has_kafka(&job) {
        tracing::info!("brokers and the state directory were not looked at (`--offline`)");
    } else {
        match Coordinator::check(&options) {
            Err(error @ OpenError::InUse { .. }) => {
                tracing::info!("{error}: what is in it was not looked at");
            }
            checked => checked?,
        }
        check_inputs(&options);
    }
    for (name, stream) in &options.streams {
        if stream.input().is_some_and(|input| !input.rewindable()) {
            tracing::warn!(
                "stream {name:?} cannot be rewound: what was read since the last checkpoint is lost in a crash, and what was read ahead when the job stops"
            );
        }
        if stream.output().is_some_and(|output| output.may_repeat()) {
            tracing::warn!(
                "stream {name:?} can repeat messages after a crash: it is written at least once"
            );
        }
    }
    if global.json {
        output::json(&job)
    } else {
        output::text(&job.render())
    }
}

fn has_kafka(job: &Job) -> bool {
    job.clusters.values().any(|cluster| cluster.used)
}

/// Topics of which the job file does not say how many partitions they have are taken to have one.
fn take_for_found(job: &mut Job) {
    for stage in &mut job.stages {
        let inputs = stage.inputs.iter();
        let known = inputs.filter_map(|input| job.streams[&input.stream].partitions());
        let partitions = known.max().unwrap_or(1);
        stage.partitions = Some(partitions);
        for input in &stage.inputs {
            if let Some(stream) = job.streams.get_mut(&input.stream) {
                stream.system.take_partitions(partitions);
            }
        }
    }
    for stream in job.streams.values_mut() {
        stream.system.take_partitions(1);
    }
}

/// The code that a start would run; of a job that runs, the files that it names.
fn codes(job: &Job) -> Result<Codes, Failure> {
    match access::codes(job, Wanted::ByRule) {
        Err(failure) if failure.moved => Ok(Codes::default()),
        codes => codes,
    }
}

/// Whether the first partition of each input can be opened as a first start would. What is not there yet may come.
fn check_inputs(options: &JobOptions) {
    let inputs = options.stages.iter().flat_map(|stage| &stage.inputs);
    for declared in inputs {
        if let Some(input) = options.streams[&declared.stream].input()
            && input.rewindable()
            && let Err(error) = input.open(PartitionId(0), OpenAt::Start(declared.start))
        {
            tracing::warn!("stream {:?}: {}", declared.stream, exit::chain(&error));
        }
    }
}

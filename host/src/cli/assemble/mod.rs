//! From the job file to what the coordinator takes: each module's options from the typed job.

#[cfg(feature = "kafka")]
mod kafka;
#[cfg(not(feature = "kafka"))]
#[path = "no_kafka.rs"]
mod kafka;
mod stage;
mod streams;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Failure, exit};
use crate::checkpoint::catalog::Drops;
use crate::checkpoint::decide::CadenceOptions;
use crate::checkpoint::logs::Retention;
use crate::config::{self, Job};
use crate::coordinator::{JobOptions, Reads, StreamOptions, TopicRecord, Writes, replay_queue};
use crate::disk::Disk;
use crate::model::{Clock, SystemClock};
use crate::runtime::{CodeCache, Compiler, Instance, Limits, Runtime, RuntimeOptions};
use crate::scheduler::threads_max;
use crate::state::{DbOptions, Durability};
pub(super) use kafka::Clusters;
pub(super) use stage::{
    Codes, Recorded, Replaced, component_options, demanded, limits_of, sha256_of_file,
    stage_options,
};
pub(super) use streams::stream;

/// Whether topics that are to be made are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// They are made.
    Make,
    /// They are taken for made.
    Leave,
    /// They are refused.
    Refuse,
}

/// How a stream is read and written, and the topic that it is.
type OfTopic = (Option<Reads>, Option<Writes>, Option<TopicRecord>);

/// Instances that may live at a time.
const INSTANCES: u32 = 512;
/// Beside these, one of a candidate is tried at a time, and two of a shadow.
const TRIALS: u32 = 3;
/// Bytes of the database's blocks that are kept at hand at least; else a quarter of the job's cache.
const BLOCKS_LEAST: usize = 32 << 20;
/// Files that the host itself may have open: half of them RocksDB's.
const OWN_FILES: usize = 768;

/// The engine for a job, or for looking at a component (`None`).
pub(super) fn runtime(job: Option<&Job>) -> Result<Runtime, Failure> {
    let limits = job.into_iter().flat_map(|job| &job.stages);
    let limits: Vec<Limits> = limits.map(|stage| limits_of(&stage.limits)).collect();
    let default = Limits::default();
    let most = |of: fn(&Limits) -> usize| limits.iter().map(of).max().unwrap_or(of(&default));
    let files = files_max();
    let workers = job.map_or(1, |job| size(u64::from(job.general.workers)));
    let threads = u32::try_from(threads_max(workers)).unwrap_or(u32::MAX);
    let instances = job.map_or(INSTANCES, instances_max);
    Runtime::new(RuntimeOptions {
        instances_max: instances.saturating_add(threads).saturating_add(TRIALS),
        memory_bytes_max: most(|limits| limits.memory_bytes),
        table_elements_max: most(|limits| limits.table_elements),
        has_fuel: limits.iter().any(|limits| limits.fuel.is_some()),
        descriptors_max: files / 4,
        compiler: Compiler::Child {
            program: PathBuf::from("/proc/self/exe"),
            arguments: vec![super::COMPILE.into()],
        },
        cache: CodeCache::of_user(&|name| std::env::var(name).ok()),
    })
    .map_err(|why| Failure::new(exit::HOST, format!("set up wasmtime: {why}")))
}

/// The folders that an instance has open, at most.
pub(super) fn most_folders(job: &Job) -> usize {
    let stages = job.stages.iter();
    let grants = stages.map(|stage| stage.capabilities.directories.len());
    grants.max().unwrap_or(0)
}

/// As many instances as may live at a time. Each has the folders open that it was granted.
fn instances_max(job: &Job) -> u32 {
    let grants = most_folders(job);
    if grants == 0 {
        return INSTANCES;
    }
    let files = files_max();
    let left = files.saturating_sub(OWN_FILES).max(files / 4);
    u32::try_from(left / 2 / grants)
        .unwrap_or(INSTANCES)
        .clamp(1, INSTANCES)
}

/// How many files the process may have open. The limit is raised to what the system allows at most: there is no harm in many
/// descriptors for a program that does not use `select`.
fn files_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // No limit is as good as a large one.
    current.map_or(1 << 20, size)
}

/// Everything that the coordinator needs.
pub(super) fn job(
    job: &Job,
    runtime: &Runtime,
    disk: &Disk,
    clusters: &Clusters,
    codes: &Codes,
) -> Result<JobOptions, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut streams = BTreeMap::new();
    for (name, declared) in &job.streams {
        // A log can be appended to and read from outside, whether or not a stage uses it.
        let is_log = matches!(declared.system, config::System::Log(_));
        if !declared.read && !declared.written && !is_log {
            continue;
        }
        let group = group_of(job, name);
        let options = stream(name, declared, (clusters, group), &clock, disk)
            .map_err(|why| Failure::new(exit::USAGE, format!("stream {name:?}: {why}")))?;
        streams.insert(name.clone(), options);
    }
    streams.extend(replay_queues(job));
    let stages = job
        .stages
        .iter()
        .map(|declared| stage::stage(declared, runtime, codes))
        .collect::<Result<_, _>>()?;
    Ok(JobOptions {
        name: job.general.name.clone(),
        state_dir: job.general.state_dir.to_path_buf(),
        disk_reserve: job.general.disk_reserve.bytes(),
        db: DbOptions {
            block_cache_bytes: size(job.general.cache.bytes() / 4).max(BLOCKS_LEAST),
            ..DbOptions::default()
        },
        cache_bytes: job.general.cache.bytes(),
        workers: size(u64::from(job.general.workers)),
        instances_max: size(u64::from(instances_max(job))),
        cadence: CadenceOptions {
            enabled: job.checkpoint.enabled,
            interval: *job.checkpoint.interval,
            early: job.checkpoint.early,
            bytes_max: size(job.checkpoint.bytes.bytes()),
            min_pause: *job.checkpoint.min_pause,
        },
        tolerate_failures: job.checkpoint.tolerate_failures,
        checkpoint_timeout: *job.checkpoint.timeout,
        drain_timeout: *job.general.drain_timeout,
        durability: match (job.checkpoint.enabled, *job.checkpoint.durability) {
            (true, config::Durability::Sync) => Durability::Sync,
            _ => Durability::Process,
        },
        streams,
        stages,
        drops: Drops::default(),
        until_idle: false,
        skips: None,
        remotes: clusters.remotes(),
        loader: None,
        last_resort: Arc::new(exit::leave_after),
        disk: disk.clone(),
        clock,
    })
}

/// The consumer group where reading of a stream begins, if it begins at one.
pub(super) fn group_of<'a>(job: &'a Job, stream: &str) -> Option<&'a str> {
    let inputs = job.stages.iter().flat_map(|stage| &stage.inputs);
    let mut groups = inputs.filter_map(|input| match &input.start {
        config::Start::Group { group } if input.stream == stream => Some(group.as_str()),
        _ => None,
    });
    groups.next()
}

/// The replay queue of each stage that has dead letters.
fn replay_queues(job: &Job) -> impl Iterator<Item = (String, StreamOptions)> {
    // What was read of one is of no use to anybody.
    let read = Retention {
        bytes: Some(0),
        ..Retention::default()
    };
    let stages = job.stages.iter();
    let stages = stages.filter(|stage| stage.dead_letters.is_some());
    stages.map(move |stage| {
        let queue = StreamOptions::log(stage.partitions.unwrap_or_default(), read, None);
        (replay_queue(&stage.name), queue)
    })
}

/// Makes an instance of each component: whether everything has the contract's signatures, and what is granted is there, shows
/// only then.
pub(super) fn check_components(options: &JobOptions) -> Result<(), Failure> {
    let stages = options.stages.iter();
    let mut stages = stages.flat_map(|stage| [Some(stage), stage.successor.as_deref()]);
    stages.try_for_each(|stage| {
        let Some(stage) = stage else { return Ok(()) };
        Instance::check(&stage.component)
            .map_err(|fault| Failure::new(exit::USAGE, format!("stage {:?}: {fault}", stage.name)))
    })
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

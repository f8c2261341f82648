//! From the job file to what the coordinator takes: each module's options from the typed job.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Failure, exit};
use crate::checkpoint::catalog::Drops;
use crate::checkpoint::decide::{CadenceOptions, Wanted};
use crate::checkpoint::logs::Retention;
use crate::config::{self, Job, Setting};
use crate::connectors::file::{
    FileFormat, FileInput, FileInputOptions, FileOutput, FileOutputOptions, TimestampFormat,
    TimestampSpec,
};
use crate::connectors::generate::{Distribution, GenerateInput, GenerateOptions, START_MS_DEFAULT};
use crate::connectors::stdio::{StdinInput, StdinOptions, StdoutOptions, StdoutOutput};
use crate::connectors::{Input, Output, OutputFormat};
use crate::coordinator::{
    InputOptions, JobOptions, Reads, StageOptions, StreamOptions, SwapOptions, Writes,
    parked_store, replay_queue,
};
use crate::disk::Disk;
use crate::model::{Clock, SystemClock};
use crate::runtime::{
    CodeCache, CompileLimits, Compiler, Component, ComponentError, ComponentOptions,
    DirectoryGrant, Instance, Limits, LogRate, Recycle, Runtime, RuntimeOptions, Secrets,
    read_component, sha256,
};
use crate::scheduler::threads_max;
use crate::state::{DbOptions, Durability, StoreKind};
use crate::task::{Backoff, Breaker, Policy, Rules, WhenHeld};

/// Instances that may live at a time.
const INSTANCES: u32 = 512;
/// Beside these, one of a candidate is tried at a time.
const TRIALS: u32 = 1;
/// Bytes of the database's blocks that are kept at hand at least; else a quarter of the job's cache.
const BLOCKS_LEAST: usize = 32 << 20;
/// Files that the host itself may have open: half of them RocksDB's.
const OWN_FILES: usize = 768;

/// Which code each stage runs.
#[derive(Default)]
pub(super) struct Codes {
    /// What the operator wants.
    pub(super) wanted: Wanted,
    /// The stages that run another component than the job's file.
    pub(super) recorded: BTreeMap<String, Recorded>,
    /// The code before, of the stages that run new code.
    pub(super) before: BTreeMap<String, Recorded>,
}

/// The component that a stage runs instead of the one that the job file names.
pub(super) struct Recorded {
    /// Where it is kept.
    pub(super) path: PathBuf,
    /// What it must be.
    pub(super) sha256: String,
    /// What the job's file is, if it was looked at.
    pub(super) file: Option<String>,
}

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
        let options = stream(name, declared, &clock, disk)
            .map_err(|why| Failure::new(exit::USAGE, format!("stream {name:?}: {why}")))?;
        streams.insert(name.clone(), options);
    }
    streams.extend(replay_queues(job));
    let stages = job
        .stages
        .iter()
        .map(|declared| stage(declared, runtime, codes))
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
        loader: None,
        last_resort: Arc::new(exit::leave_after),
        disk: disk.clone(),
        clock,
    })
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
        let queue = StreamOptions::log(stage.partitions, read, None);
        (replay_queue(&stage.name), queue)
    })
}

/// Makes an instance of each component: whether everything has the contract's signatures, and what is granted is there, shows
/// only then.
pub(super) fn check_components(options: &JobOptions) -> Result<(), Failure> {
    options.stages.iter().try_for_each(|stage| {
        Instance::check(&stage.component)
            .map_err(|fault| Failure::new(exit::USAGE, format!("stage {:?}: {fault}", stage.name)))
    })
}

/// Loads the component of a stage.
fn component(
    declared: &config::Stage,
    runtime: &Runtime,
    recorded: Option<&Recorded>,
) -> Result<Arc<Component>, Failure> {
    let options = ComponentOptions {
        sha256: match recorded {
            Some(recorded) => Some(recorded.sha256.clone()),
            None => demanded(declared),
        },
        ..component_options(declared)
    };
    let path = recorded.map_or(&**declared.component, |recorded| &recorded.path);
    Component::load(runtime, path, options).map_err(|error| of_stage(declared, error))
}

/// The code before, if it is another one and can be loaded.
fn code_before(
    declared: &config::Stage,
    runtime: &Runtime,
    before: &Recorded,
    runs: &Component,
) -> Option<Arc<Component>> {
    if before.sha256 == runs.sha256() {
        return None;
    }
    let loaded = component(declared, runtime, Some(before));
    loaded
        .inspect_err(|failure| {
            tracing::warn!(
                stage = %declared.name,
                "the code before cannot be loaded, so the new code is not watched: {}",
                failure.text
            );
        })
        .ok()
}

/// What the instances of a stage may use.
pub(super) fn component_options(declared: &config::Stage) -> ComponentOptions {
    let directories = declared
        .capabilities
        .directories
        .iter()
        .map(|directory| DirectoryGrant {
            host: directory.real.clone(),
            shown: directory.host.to_string(),
            guest: directory.guest.to_string(),
            write: directory.write,
        });
    let config = declared
        .config
        .iter()
        .map(|(key, value)| (key.clone(), (**value).clone()));
    let names = declared.capabilities.environment.iter();
    let environment = names.filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)));
    let remotes = declared.capabilities.network.iter();
    let network = remotes.map(|remote| (remote.host.clone(), remote.port));
    let environment: Vec<(String, String)> = environment.collect();
    let variables = environment.iter();
    let variables = variables.map(|(name, value)| (value.as_str(), format!("${{{name}}}")));
    let settings = declared.config.values().flat_map(Setting::secrets);
    let settings = settings.map(|(value, reference)| (value, reference.to_owned()));
    ComponentOptions {
        secrets: Secrets::new(settings.chain(variables)),
        sha256: None,
        config: Arc::new(config.collect()),
        directories: directories.collect(),
        environment,
        store_time: *declared.capabilities.clocks == config::Clocks::StoreTime,
        network: network.collect(),
        limits: limits_of(&declared.limits),
    }
}

/// The SHA-256 that the job file demands of a stage's component.
pub(super) fn demanded(declared: &config::Stage) -> Option<String> {
    let sha256 = declared.sha256.as_ref()?;
    Some(sha256.0.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The SHA-256 of the component in the job's file, which is the one that the job file demands.
pub(super) fn sha256_of_file(declared: &config::Stage) -> Result<String, Failure> {
    let (path, limits) = (&**declared.component, limits_of(&declared.limits));
    let bytes = read_component(path, &limits, demanded(declared).as_deref());
    let bytes = bytes.map_err(|error| of_stage(declared, error))?;
    Ok(sha256(&bytes))
}

fn of_stage(declared: &config::Stage, error: ComponentError) -> Failure {
    let failure = Failure::from(error);
    Failure::new(
        failure.code,
        format!("stage {:?}: {}", declared.name, failure.text),
    )
}

pub(super) fn limits_of(declared: &config::Limits) -> Limits {
    Limits {
        memory_bytes: size(declared.memory.bytes()),
        table_elements: size(u64::from(declared.table_elements)),
        call_deadline: *declared.call_deadline,
        fuel: declared.fuel,
        operations: declared.operations,
        scan_bytes: declared.scan_bytes.bytes(),
        staged_bytes: size(declared.staged_bytes.bytes()),
        key_bytes: size(declared.key_bytes.bytes()),
        value_bytes: size(declared.value_bytes.bytes()),
        headers: size(u64::from(declared.headers)),
        header_bytes: size(declared.header_bytes.bytes()),
        handles: declared.handles,
        cursors: size(u64::from(declared.cursors)),
        random_bytes: declared.random_bytes.bytes(),
        log_rate: LogRate {
            lines: declared.log_rate.messages,
            per: declared.log_rate.per.duration(),
        },
        metric_names: size(u64::from(declared.metric_names)),
        recycle: Recycle {
            memory_bytes: size(declared.recycle_memory.bytes()),
            messages: declared.recycle_messages,
            age: declared.recycle_age.as_deref().copied(),
        },
        component_bytes: declared.component_bytes.bytes(),
        compile: CompileLimits {
            time: *declared.compile_time,
            memory_bytes: declared.compile_memory.bytes(),
        },
    }
}

fn stage(
    declared: &config::Stage,
    runtime: &Runtime,
    codes: &Codes,
) -> Result<StageOptions, Failure> {
    let recorded = codes.recorded.get(&declared.name);
    let component = component(declared, runtime, recorded)?;
    let file = match recorded {
        Some(recorded) => recorded.file.clone(),
        None => Some(component.sha256().to_owned()),
    };
    let before = codes.before.get(&declared.name);
    let before = before.and_then(|before| code_before(declared, runtime, before, &component));
    Ok(StageOptions {
        before,
        ..stage_options(declared, component, file, codes.wanted)
    })
}

pub(super) fn stage_options(
    declared: &config::Stage,
    component: Arc<Component>,
    file: Option<String>,
    wanted: Wanted,
) -> StageOptions {
    let store = |(name, store): (&String, &config::Store)| {
        let kind = match *store.kind {
            config::StoreKind::Rocksdb => StoreKind::RocksDb,
            config::StoreKind::Memory => StoreKind::Memory,
        };
        (name.clone(), kind)
    };
    StageOptions {
        name: declared.name.clone(),
        file,
        wanted,
        component,
        before: None,
        swap: SwapOptions {
            probation: declared.swap.probation.0,
            slowdown_percent: declared.swap.max_slowdown.0,
            hold_bytes: declared.swap.hold_bytes.0,
        },
        partitions: declared.partitions,
        inputs: declared
            .inputs
            .iter()
            .map(|input| InputOptions {
                port: input.port.clone(),
                stream: input.stream.clone(),
                start: input.start.at(),
            })
            .collect(),
        outputs: declared
            .outputs
            .iter()
            .map(|output| (output.port.clone(), output.stream.clone()))
            .collect(),
        rules: rules(declared),
        dead_letters: declared.dead_letters.clone(),
        replay_queue: declared
            .dead_letters
            .as_ref()
            .map(|_| replay_queue(&declared.name)),
        parked_store: match *declared.dead_letter_order {
            config::DeadLetterOrder::Message => None,
            config::DeadLetterOrder::Key => Some(parked_store()),
        },
        batch_messages: size(u64::from(declared.batch_messages)),
        batch_bytes: size(declared.batch_bytes.bytes()),
        stores: declared.stores.iter().map(store).collect(),
        may_request_stop: declared.capabilities.request_stop,
    }
}

fn rules(declared: &config::Stage) -> Rules {
    let (retry, restart, breaker) = (&declared.retry, &declared.restart, &declared.breaker);
    Rules {
        on_rejected: match *declared.on_rejected {
            config::OnRejected::DeadLetter => Policy::DeadLetter,
            config::OnRejected::Skip => Policy::Skip,
            config::OnRejected::Fail => Policy::Fail,
        },
        on_fault: match *declared.on_fault {
            config::OnFault::DeadLetter => Policy::DeadLetter,
            config::OnFault::Skip => Policy::Skip,
            config::OnFault::Fail => Policy::Fail,
        },
        when_held: match *declared.when_held {
            config::WhenHeld::Stop => WhenHeld::Stop,
            config::WhenHeld::Wait => WhenHeld::Wait,
        },
        attempts: retry.attempts,
        rejected_attempts: retry.rejected_attempts,
        backoff: Backoff {
            first: *retry.backoff,
            max: *retry.backoff_max,
        },
        restarts: restart.attempts,
        restart_backoff: Backoff {
            first: *restart.backoff,
            max: *restart.backoff_max,
        },
        breaker: Breaker {
            share_percent: breaker.share.0,
            window: breaker.window,
            at_least: breaker.at_least,
        },
    }
}

/// One arm for each system.
pub(super) fn stream(
    name: &str,
    declared: &config::Stream,
    clock: &Arc<dyn Clock>,
    disk: &Disk,
) -> Result<StreamOptions, String> {
    let max_rate = declared.max_rate.as_ref().map(|rate| rate.per_second());
    let (reads, writes) = match &declared.system {
        config::System::Log(log) => {
            return Ok(StreamOptions::log(log.partitions, retention(log), max_rate));
        }
        config::System::FileInput(file) => {
            reads(FileInput::new(file_input(file)?, Arc::clone(clock))?)
        }
        config::System::Stdin(stdin) => {
            reads(StdinInput::new(&stdin_options(stdin)?, Arc::clone(clock))?)
        }
        config::System::Generate(generate) => {
            reads(GenerateInput::new(generate_options(generate))?)
        }
        config::System::FileOutput(file) => {
            let options = FileOutputOptions {
                folder: file.path.to_path_buf(),
                stream: name.to_owned(),
                partitions: file.partitions,
                format: output_format(*file.format),
            };
            writes(FileOutput::new(options, disk.clone()))
        }
        config::System::Stdout(stdout) => {
            let options = StdoutOptions {
                stream: name.to_owned(),
                partitions: declared.partitions(),
                format: output_format(*stdout.format),
            };
            writes(StdoutOutput::new(options))
        }
    };
    Ok(StreamOptions {
        system: declared.system.name().to_owned(),
        partitions: declared.partitions(),
        reads,
        writes,
        max_rate,
    })
}

fn reads(input: impl Input + 'static) -> (Option<Reads>, Option<Writes>) {
    (Some(Reads::External(Arc::new(input))), None)
}

fn writes(output: impl Output + 'static) -> (Option<Reads>, Option<Writes>) {
    (None, Some(Writes::Outbox(Arc::new(output))))
}

fn retention(log: &config::LogStream) -> Retention {
    let declared = log.retention.as_ref();
    Retention {
        bytes: declared
            .and_then(|retention| retention.bytes.as_ref())
            .map(|bytes| bytes.bytes()),
        age: declared
            .and_then(|retention| retention.age.as_ref())
            .map(|age| **age),
        drop_unread: log.drop_unread,
    }
}

fn file_input(file: &config::FileInput) -> Result<FileInputOptions, String> {
    Ok(FileInputOptions {
        path: file
            .path
            .to_str()
            .ok_or("its path is not UTF-8")?
            .to_owned(),
        format: format(*file.format),
        key: file.key.as_ref().map(|key| (**key).clone()),
        timestamp: file.timestamp.as_ref().map(timestamp).transpose()?,
        partitions: file.partitions,
        follow: file.follow,
        drop_unread: file.drop_unread,
        record_bytes: size(file.record_bytes.bytes()),
    })
}

fn stdin_options(stdin: &config::Stdin) -> Result<StdinOptions, String> {
    Ok(StdinOptions {
        format: format(*stdin.format),
        key: stdin.key.as_ref().map(|key| (**key).clone()),
        timestamp: stdin.timestamp.as_ref().map(timestamp).transpose()?,
        record_bytes: size(stdin.record_bytes.bytes()),
    })
}

fn generate_options(generate: &config::Generate) -> GenerateOptions {
    GenerateOptions {
        count: generate.count,
        rate: generate.rate.as_ref().map(|rate| rate.per_second()),
        keys: generate.keys,
        distribution: match *generate.distribution {
            config::Distribution::Uniform => Distribution::Uniform,
            config::Distribution::Zipfian => Distribution::Zipfian,
            config::Distribution::Sequential => Distribution::Sequential,
        },
        value_bytes: size(generate.value_bytes.bytes()),
        seed: generate.seed,
        partitions: generate.partitions,
        start_ms: START_MS_DEFAULT,
    }
}

fn format(format: config::InputFormat) -> FileFormat {
    match format {
        config::InputFormat::Csv => FileFormat::Csv,
        config::InputFormat::Jsonl => FileFormat::Jsonl,
        config::InputFormat::Lines => FileFormat::Lines,
    }
}

fn output_format(format: config::OutputFormat) -> OutputFormat {
    match format {
        config::OutputFormat::Lines => OutputFormat::Lines,
        config::OutputFormat::Jsonl => OutputFormat::Jsonl,
        config::OutputFormat::Message => OutputFormat::Message,
    }
}

fn timestamp(field: &config::TimestampField) -> Result<TimestampSpec, String> {
    Ok(TimestampSpec {
        field: (*field.field).clone(),
        format: TimestampFormat::parse(field.format.as_str())?,
    })
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

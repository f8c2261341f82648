//! Stages: which code each runs, and from the job file to what its tasks may do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::size;
use crate::checkpoint::decide::{Wanted, migration};
use crate::cli::{Failure, exit};
use crate::config::{self, Setting};
use crate::coordinator::{InputOptions, StageOptions, SwapOptions, parked_store, replay_queue};
use crate::runtime::{
    CompileLimits, Component, ComponentError, ComponentOptions, DirectoryGrant, Limits, LogRate,
    Recycle, Runtime, Secrets, read_component, sha256, state_version,
};
use crate::state::StoreKind;
use crate::task::{Backoff, Breaker, Policy, Rules, WhenHeld};

/// Which code each stage runs.
#[derive(Default)]
pub(in crate::cli) struct Codes {
    /// What the operator wants.
    pub(in crate::cli) wanted: Wanted,
    /// The stages that run another component than the job's file.
    pub(in crate::cli) recorded: BTreeMap<String, Recorded>,
    /// The code before, of the stages that run new code.
    pub(in crate::cli) before: BTreeMap<String, Recorded>,
    /// The recorded code, of the stages that run the file although that has another component.
    pub(in crate::cli) replaced: BTreeMap<String, Replaced>,
}

/// The code that gives way to the one in the job file.
pub(in crate::cli) struct Replaced {
    pub(in crate::cli) code: Recorded,
    /// The version of the state that it has left.
    pub(in crate::cli) state_version: u32,
}

/// The component that a stage runs instead of the one that the job file names.
pub(in crate::cli) struct Recorded {
    /// Where it is kept.
    pub(in crate::cli) path: PathBuf,
    /// What it must be.
    pub(in crate::cli) sha256: String,
    /// What the job's file is, if it was looked at.
    pub(in crate::cli) file: Option<String>,
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
pub(in crate::cli) fn component_options(declared: &config::Stage) -> ComponentOptions {
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
pub(in crate::cli) fn demanded(declared: &config::Stage) -> Option<String> {
    let sha256 = declared.sha256.as_ref()?;
    Some(sha256.0.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The SHA-256 of the component in the job's file, which is the one that the job file demands.
pub(in crate::cli) fn sha256_of_file(declared: &config::Stage) -> Result<String, Failure> {
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

pub(in crate::cli) fn limits_of(declared: &config::Limits) -> Limits {
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

pub(super) fn stage(
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
    let options = stage_options(declared, component, file, codes.wanted)?;
    if let Some(replaced) = codes.replaced.get(&declared.name)
        && let Ok(Some(_)) = migration(replaced.state_version, options.state_version)
    {
        return migrating(declared, runtime, replaced, options);
    }
    let before = codes.before.get(&declared.name);
    let before =
        before.and_then(|before| code_before(declared, runtime, before, &options.component));
    Ok(StageOptions { before, ..options })
}

/// A stage whose state has to be migrated for the code in the job file: it begins with the recorded code, which goes on if that fails.
fn migrating(
    declared: &config::Stage,
    runtime: &Runtime,
    replaced: &Replaced,
    successor: StageOptions,
) -> Result<StageOptions, Failure> {
    let recorded = component(declared, runtime, Some(&replaced.code)).map_err(|failure| {
        let text = format!(
            "{}; its state has to be migrated from version {} to {}, and this code would go on if that failed: put it back there",
            failure.text, replaced.state_version, successor.state_version
        );
        Failure::new(failure.code, text)
    })?;
    Ok(StageOptions {
        successor: Some(Box::new(successor)),
        ..stage_options(declared, recorded, None, Wanted::Recorded)?
    })
}

pub(in crate::cli) fn stage_options(
    declared: &config::Stage,
    component: Arc<Component>,
    file: Option<String>,
    wanted: Wanted,
) -> Result<StageOptions, Failure> {
    let state_version = state_version(&component).map_err(|fault| {
        Failure::new(exit::USAGE, format!("stage {:?}: {fault}", declared.name))
    })?;
    let store = |(name, store): (&String, &config::Store)| {
        let kind = match *store.kind {
            config::StoreKind::Rocksdb => StoreKind::RocksDb,
            config::StoreKind::Memory => StoreKind::Memory,
        };
        (name.clone(), kind)
    };
    Ok(StageOptions {
        name: declared.name.clone(),
        state_version,
        successor: None,
        file,
        wanted,
        component,
        before: None,
        swap: SwapOptions {
            probation: declared.swap.probation.0,
            slowdown_percent: declared.swap.max_slowdown.0,
            hold_bytes: declared.swap.hold_bytes.0,
            migration_timeout: *declared.swap.migration_timeout,
        },
        partitions: declared.partitions.unwrap_or_default(),
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
    })
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

//! A candidate: read, compiled, held against what runs, and tried, while the old code works. Whatever is wrong with it is found here,
//! and changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use super::{NewStreams, SwapRequest, Swaps, Wanted, fit, recorded, streams};
use crate::checkpoint::catalog::StreamShape;
use crate::checkpoint::decide::migration;
use crate::checkpoint::directory::{self, CodeFolder};
use crate::coordinator::tasks::{StageNow, TaskFactory};
use crate::coordinator::{LoadedStage, StageLoader, StageOptions, StreamOptions, View};
use crate::model::{PartitionId, ProbationLength, shown};
use crate::records::{StageRecord, SwapRecord, SwapState};
use crate::runtime::{Component, Instance, sha256};

/// Later than everything that works for its living.
const NICE: i32 = 10;
/// Instances are made on it, as on a worker.
const STACK: usize = 4 << 20;

/// Code that can take over.
pub(in crate::coordinator) struct Candidate {
    pub(super) options: StageOptions,
    /// What a person calls it.
    pub(super) label: String,
    /// The version of the state that has to be migrated for it.
    pub(super) migrates_from: Option<u32>,
    /// Streams that come with it, by name.
    pub(super) streams: NewStreams,
}

/// What a candidate is made of.
pub(super) struct Making {
    pub(super) id: u64,
    pub(super) factory: Arc<TaskFactory>,
    /// The place of the stage.
    pub(super) stage: usize,
    pub(super) request: SwapRequest,
    pub(super) loader: Arc<dyn StageLoader>,
    /// The tasks of the stage with an instance.
    pub(super) live: Vec<PartitionId>,
    pub(super) swaps: Swaps,
    /// What is committed.
    pub(super) view: View,
    pub(super) code: CodeFolder,
    pub(super) io: tokio::runtime::Handle,
}

impl Making {
    /// Makes it on a thread of its own.
    pub(super) fn start(self, done: impl Fn(Result<Candidate, String>) + Clone + Send + 'static) {
        let tell = done.clone();
        let thread = thread::Builder::new().name("candidate".into());
        let started = thread.stack_size(STACK).spawn(move || {
            // A thread that may not be nicer works as well.
            let _ = rustix::process::nice(NICE);
            let io = self.io.clone();
            let _io = io.enter();
            tell(self.make());
        });
        if let Err(error) = started {
            done(Err(format!("no thread can be started: {error}")));
        }
    }

    fn make(mut self) -> Result<Candidate, String> {
        let runs = self.factory.stage(self.stage);
        let name = &runs.options.name;
        let enter = |state| {
            self.swaps.come_to(self.id, |swap| swap.state = state);
        };
        let is_previous = matches!(self.request.component, Wanted::Previous);
        let component = match std::mem::take(&mut self.request.component) {
            Wanted::File => None,
            Wanted::Bytes(bytes) => Some(bytes),
            Wanted::Previous => Some(self.previous(&runs.record)?),
        };
        let LoadedStage { options, streams } = self.loader.load(name, component, &enter)?;
        let sha256 = options.component.sha256().to_owned();
        let named = |swap: &mut SwapRecord| swap.to.component.clone_from(&sha256);
        self.swaps.come_to(self.id, named);
        if runs.record.rolled_back.contains(&sha256) && !self.request.force {
            return Err(format!(
                "component {sha256} was rolled back before: `--force` swaps it in all the same"
            ));
        }
        let migrates_from = self.fits(&runs, &options, &streams)?;
        let streams = streams::new_streams(&self.factory, streams)?;
        enter(SwapState::Trying);
        let record = recorded(&runs.record, &options, &self.request.label);
        let now = StageNow {
            options: Arc::new(options),
            record,
            generation: 0,
            migrates_from,
        };
        self.try_instances(&now)?;
        let StageNow {
            options, record, ..
        } = now;
        // What follows is for a swap that nobody has given up: another process may have the directory then.
        if !self.swaps.come_to(self.id, |_| {}) {
            return Err("it was given up".to_owned());
        }
        let previous = runs.record.previous.as_ref().filter(|_| is_previous);
        let label = match previous {
            Some(previous) if self.request.label.is_empty() => previous.label.clone(),
            _ => self.request.label,
        };
        let options = Arc::unwrap_or_clone(options);
        // What is only tried leaves nothing behind.
        if self.request.shadow.is_none() {
            if !self.request.dry_run {
                streams::make(&self.factory, &streams)?;
            }
            keep_code(
                &self.factory,
                &self.code,
                &self.swaps,
                &record,
                &options.component,
            )?;
        }
        Ok(Candidate {
            options,
            label,
            migrates_from,
            streams,
        })
    }

    /// Holds it against what runs. From which version the state has to be migrated for it, if it has to.
    fn fits(
        &self,
        runs: &StageNow,
        options: &StageOptions,
        streams: &BTreeMap<String, StreamOptions>,
    ) -> Result<Option<u32>, String> {
        let known: BTreeMap<String, StreamShape> = self.factory.streams();
        let misfits = fit::misfits(&runs.options, options, streams, &known);
        if !misfits.is_empty() {
            return Err(format!(
                "{}: that needs a restart of the job",
                misfits.join("; ")
            ));
        }
        if self.request.hold_output
            && let Some(why) = misfit_of_hold(&runs.record, options, self.request.probation)
        {
            return Err(why.to_owned());
        }
        migration(runs.record.state_version, options.state_version)
    }

    /// Makes an instance for each task that has one, as of what is committed, and drops it.
    fn try_instances(&self, now: &StageNow) -> Result<(), String> {
        // State that is to be migrated is nothing to open an instance with.
        let make = match now.migrates_from {
            None => Instance::new,
            Some(_) => Instance::unopened,
        };
        let snapshot = self.view.snapshot();
        let tasks = match self.live.is_empty() {
            true => &[PartitionId(0)][..],
            false => &self.live,
        };
        for partition in tasks {
            let context = self.factory.trial(now, *partition, &snapshot);
            let context = context.map_err(|error| shown::chain(&error))?;
            let task = context.info.name();
            let (_, made) = make(&now.options.component, Box::new(context));
            made.map_err(|fault| format!("an instance for task {task} cannot be made: {fault}"))?;
        }
        Ok(())
    }

    /// The component before the one that runs.
    fn previous(&self, record: &StageRecord) -> Result<Vec<u8>, String> {
        let previous = record.previous.as_ref();
        let previous = previous.ok_or("the stage has no code to go back to")?;
        let name = &previous.component;
        let kept = self.code.read(name);
        let kept = kept.map_err(|error| format!("component {name}: {error}"))?;
        match sha256(&kept) == *name {
            true => Ok(kept),
            false => Err(format!("component {name}: what is kept of it is damaged")),
        }
    }
}

/// Why what it does cannot be held.
fn misfit_of_hold(
    runs: &StageRecord,
    options: &StageOptions,
    probation: Option<Option<ProbationLength>>,
) -> Option<&'static str> {
    let probation = probation.unwrap_or(options.swap.probation);
    if probation.is_none() {
        Some("output is held as long as the probation lasts, and there is none")
    } else if options.component.sha256() == runs.code.component {
        Some("that component runs already, so there is no code to go back to")
    } else {
        None
    }
}

/// Keeps the bytes of a component, and no more of the others than can be of use.
fn keep_code(
    factory: &TaskFactory,
    code: &CodeFolder,
    swaps: &Swaps,
    record: &StageRecord,
    component: &Component,
) -> Result<(), String> {
    let stages: Vec<_> = factory.stages().collect();
    let records = stages.iter().map(|stage| &stage.record).chain([record]);
    let swaps = swaps.list();
    let swaps = swaps.iter().map(|(_, swap)| swap);
    code.tidy_up(&directory::needed(records, swaps));
    let kept = code.keep(component.sha256(), component.bytes());
    kept.map_err(|error| shown::chain(&error))
}

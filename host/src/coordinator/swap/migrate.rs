//! Migration: new code reads another version of the state, so each task of the stage is migrated before any of them goes on.
//!
//! It takes two cuts. With the first the tasks get the new code and do nothing but migrate; what they overwrite is saved, and the old code
//! stays recorded. With the second, when all of them are done, the new code is recorded together with the version of the state. In
//! between everything that goes wrong leads back to the first: what was written is taken back, as for code that holds its output.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::probation::{Spent, Watch};
use super::{Candidate, NewStreams, UnderWay, recorded};
use crate::coordinator::machine::{Event, Phase};
use crate::coordinator::mail::Mail;
use crate::coordinator::{Barrier, Coordinator, StageOptions};
use crate::epoch::{HoldBegin, Migrated};
use crate::model::Epoch;
use crate::records::{
    Code, Encoded, HoldPhase, StageRecord, SwapCounts, SwapMode, SwapRecord, SwapState,
};
use crate::scheduler::TaskIndex;
use crate::task::{CodeSource, TaskFailure};

/// How many tasks are named that a migration waits for.
const NAMED: usize = 5;

/// The state of a stage is being migrated.
pub(super) struct Migration {
    /// Tasks that are not done.
    awaited: BTreeSet<TaskIndex>,
    /// How long it may take, and until when that is: from its cut on.
    timeout: Duration,
    until: Option<Instant>,
    /// All are done: the new code takes over at the next barrier, or with this epoch, which is not durable yet.
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Wanted,
    Cut(Epoch),
}

impl Migration {
    /// Whether its end is on its way, and cannot be stopped.
    pub(super) fn is_past_return(&self) -> bool {
        matches!(self.end, Some(End::Cut(_)))
    }

    /// Its cut is durable.
    pub(super) fn begin(&mut self) {
        self.until = Some(Instant::now() + self.timeout);
    }
}

impl Watch {
    /// Whether the migration of its state ends with an epoch.
    pub(super) fn is_migrated_with(&self, epoch: Epoch) -> bool {
        let migration = self.migration.as_ref();
        migration.is_some_and(|migration| migration.end == Some(End::Cut(epoch)))
    }

    /// Whether its tasks have nothing but their state to see to.
    pub(in crate::coordinator) fn is_migrating(&self) -> bool {
        self.migration.is_some()
    }
}

impl Coordinator {
    /// Whether the state of a stage is being migrated.
    pub(in crate::coordinator) fn is_migrating(&self, at: usize) -> bool {
        self.watches.get(&at).is_some_and(Watch::is_migrating)
    }

    /// What is recorded of a stage whose state is being migrated.
    pub(in crate::coordinator) fn recorded_before(&self, at: usize) -> Option<StageRecord> {
        let watch = self.watches.get(&at).filter(|watch| watch.is_migrating())?;
        Some(watch.before.record.clone())
    }

    /// Whether something is migrated, or waits for it.
    pub(in crate::coordinator) fn migrates(&self) -> bool {
        !self.successors.is_empty()
            || self.watches.values().any(Watch::is_migrating)
            || self.swap.as_ref().is_some_and(UnderWay::migrates)
    }

    /// Why the state of a stage cannot be migrated, if it cannot.
    pub(super) fn refuses_to_migrate(&self, at: usize) -> Option<String> {
        if self.watches.contains_key(&at) {
            return Some(
                "the code that runs is in its probation: wait for its end, or go back first"
                    .to_owned(),
            );
        }
        if self.holds.of(self.factory.stage(at).record.id).is_some() {
            return Some("what the stage has held is not released yet".to_owned());
        }
        let mut inputs = self.of_stage(at).flat_map(|task| &task.inputs);
        if let Some(input) = inputs.find(|input| !input.rewindable) {
            return Some(format!(
                "stream {:?} cannot be read again, which a way back needs",
                input.stream
            ));
        }
        let is_away = |task: &TaskIndex| {
            matches!(
                self.machine.phase(*task),
                Phase::Suspended | Phase::Retired | Phase::NotMade
            )
        };
        let away = self.places_of_stage(at).find(is_away);
        away.map(|task| {
            let name = &self.tasks[task.0].name;
            format!("task {name} is away: `wasm-host task resume {name}` brings it back")
        })
    }

    /// Begins the next of the migrations that the start of the job has asked for.
    pub(in crate::coordinator) fn begin_next_migration(&mut self) -> Option<Event> {
        if self.swap.is_some() || self.draining.is_some() {
            return None;
        }
        let at = *self.successors.keys().next()?;
        let now = self.factory.stage(at);
        if self.holds.of(now.record.id).is_some() {
            // What is still held goes out first.
            return None;
        }
        let options = self.successors.remove(&at)?;
        let code = |component: &str| Code {
            component: component.to_owned(),
            label: String::new(),
        };
        let id = self.swaps.begin(SwapRecord {
            stage: now.options.name.clone(),
            from: now.record.code.clone(),
            to: code(options.component.sha256()),
            mode: SwapMode::Code,
            time: self.clock.now_ms(),
            epoch: Epoch(0),
            state: SwapState::Cut,
            reason: String::new(),
            counts: SwapCounts::default(),
            probation: None,
        });
        self.swap = Some(UnderWay::ready(
            id,
            at,
            Candidate {
                migrates_from: Some(now.record.state_version),
                options: *options,
                label: String::new(),
                // Those of the job file are there since the start.
                streams: NewStreams::new(),
            },
        ));
        Some(Event::Cut(self.places_of_stage(at).collect()))
    }

    /// The first cut: the tasks get the new code, and migrate.
    pub(super) fn cut_to_migrate(
        &mut self,
        swap: &UnderWay,
        old: u32,
        candidate: Candidate,
        epoch: Epoch,
        barrier: &mut Barrier,
    ) -> Arc<dyn CodeSource> {
        let (id, at) = (swap.id, swap.stage);
        let now = self.factory.stage(at);
        let Candidate { options, label, .. } = candidate;
        barrier
            .holds
            .push(HoldBegin::of(&now.record, HoldPhase::Migrating));
        let mut record = recorded(&now.record, &options, &label);
        let probation = match swap.mode {
            SwapMode::HoldOutput => self.probation(swap, &options, None),
            // Code that reads the old state alone is no way back.
            SwapMode::Code | SwapMode::Shadow => None,
        };
        record.swap = probation.as_ref().map(|_| id);
        let stage = &now.options.name;
        tracing::info!(%stage, swap = id, from = old, to = record.state_version, "the state is migrated before anything else is processed");
        let codes = (&now.record.code, &record.code);
        let mut swap = self.record_cut(id, codes, probation, epoch, barrier);
        swap.state = SwapState::Migrating;
        let options = StageOptions {
            before: None,
            ..options
        };
        let mut watch = Watch::new(id, swap, Arc::clone(&now), Some(epoch), self.of_stage(at));
        watch.migration = Some(Migration {
            awaited: self.places_of_stage(at).collect(),
            timeout: options.swap.migration_timeout,
            until: None,
            end: None,
        });
        self.watches.insert(at, watch);
        self.note_pauses(id, at);
        self.factory.cut(at, options, record, Some(old))
    }

    /// A task is migrated.
    pub(in crate::coordinator) fn event_of_migrated(&mut self, task: TaskIndex) -> Event {
        let at = self.tasks[task.0].spec.stage;
        let watch = self.watches.get_mut(&at);
        let Some(watch) = watch.filter(|watch| watch.back.is_none()) else {
            return Event::Tick;
        };
        let Some(migration) = &mut watch.migration else {
            return Event::Tick;
        };
        let is_new = migration.awaited.remove(&task);
        if !is_new || !migration.awaited.is_empty() {
            return Event::Tick;
        }
        migration.end = Some(End::Wanted);
        Event::Cut(self.places_of_stage(at).collect())
    }

    /// The places of the stages in which new code takes over because their state is migrated.
    pub(super) fn migrated_stages(&self) -> Vec<usize> {
        self.watched_that(|watch| {
            let migration = watch.migration.as_ref();
            watch.back.is_none() && migration.is_some_and(|of| of.end == Some(End::Wanted))
        })
    }

    /// The second cut: the state is migrated, and the new code goes on with it.
    pub(super) fn cut_to_migrated(
        &mut self,
        at: usize,
        epoch: Epoch,
        barrier: &mut Barrier,
    ) -> Arc<dyn CodeSource> {
        let spent = Spent::by(self.of_stage(at));
        let Some(watch) = self.watches.get_mut(&at) else {
            unreachable!("only a stage that migrates is done with it");
        };
        let holds = watch.holds();
        // What it has cost to migrate is nobody's message.
        watch.spent = spent;
        let way_back = Arc::clone(&watch.before.options.component);
        let Some(migration) = &mut watch.migration else {
            unreachable!("only a stage that migrates is done with it");
        };
        let now = self.factory.stage(at);
        let record = now.record.clone();
        barrier.migrated.push(Migrated {
            stage: record.id,
            holds,
        });
        barrier
            .records
            .push(Encoded::new(&now.options.name, &record));
        match holds {
            true => {
                watch.record.state = SwapState::Holding;
                watch.cut = Some(epoch);
                watch.migration = None;
            }
            false => {
                watch.record.state = SwapState::Done;
                migration.end = Some(End::Cut(epoch));
            }
        }
        let options = StageOptions {
            before: holds.then_some(way_back),
            ..(*now.options).clone()
        };
        self.factory.cut(at, options, record, None)
    }

    /// The state of a stage is migrated, and its new code recorded.
    pub(super) fn note_migrated(&mut self, at: usize) {
        let Some(watch) = self.watches.remove(&at) else {
            return;
        };
        let version = self.factory.stage(at).record.state_version;
        self.swaps
            .change(watch.id, |swap| swap.state = SwapState::Done);
        tracing::info!(
            stage = %watch.record.stage,
            swap = watch.id,
            "the state is of version {version} now, which the code before does not read: there is no way back to it"
        );
    }

    /// Why a migration has to end, if it has.
    pub(super) fn look_at_migrations(&mut self, now: Instant) {
        let is_late = |watch: &Watch| {
            let until = watch.migration.as_ref().and_then(|of| of.until);
            watch.back.is_none() && until.is_some_and(|until| now >= until)
        };
        for at in self.watched_that(is_late) {
            let Some(migration) = self
                .watches
                .get_mut(&at)
                .and_then(|of| of.migration.as_mut())
            else {
                continue;
            };
            migration.until = None;
            let names = migration.awaited.iter().take(NAMED);
            let names: Vec<&str> = names.map(|task| &*self.tasks[task.0].name).collect();
            let why = format!(
                "`migration-timeout` = {:?} has passed, and {} tasks are not migrated: {}",
                migration.timeout,
                migration.awaited.len(),
                names.join(", ")
            );
            let generation = self.factory.stage(at).generation;
            let _ = self.sender.send(Mail::GoBack(at, generation, why));
        }
    }

    /// When the next migration has taken too long.
    pub(super) fn next_end_of_migration(&self) -> Option<Instant> {
        let migrations = self.watches.values().filter_map(|watch| {
            let migration = watch.migration.as_ref();
            migration.filter(|_| watch.back.is_none())?.until
        });
        migrations.min()
    }
}

/// Why a migration has failed.
pub(super) fn why(failure: &TaskFailure) -> String {
    format!(
        "task {} cannot migrate its state ({}): {}",
        failure.task,
        failure.cause.kind(),
        failure.cause.sentence()
    )
}

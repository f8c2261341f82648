//! Probation: new code runs, and the code before is at hand. What it does is counted in the swap's record, in the epochs that contain
//! it; [`judge`](super::judge) says whether it stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::judge::{BEFORE_LEAST, COST_LEAST, Facts, Verdict, judge};
use super::migrate::{self, Migration};
use crate::coordinator::commit::Work;
use crate::coordinator::machine::Event;
use crate::coordinator::mail::Mail;
use crate::coordinator::tasks::{StageNow, TaskEntry};
use crate::coordinator::{Barrier, Coordinator, StageOptions};
use crate::epoch::SealedTask;
use crate::model::{Epoch, PartitionId, StageId};
use crate::records::{Encoded, Outcomes, StageRecord, SwapRecord, SwapState};
use crate::scheduler::TaskIndex;
use crate::task::TaskFailure;

/// How often new code is judged at least.
const LOOK: Duration = Duration::from_secs(1);

/// New code that is watched.
pub(in crate::coordinator) struct Watch {
    pub(super) id: u64,
    /// What comes back if it does not stay.
    pub(super) before: Arc<StageNow>,
    /// As it is recorded next.
    pub(super) record: SwapRecord,
    /// Its cut is in this epoch, which is not durable yet.
    pub(super) cut: Option<Epoch>,
    /// The code before is to come back.
    pub(super) back: Option<Back>,
    /// The state is migrated first.
    pub(super) migration: Option<Migration>,
    /// What each task had processed when it sealed last.
    known: BTreeMap<PartitionId, u64>,
    /// What the tasks had spent and processed in this process when this began.
    pub(super) spent: Spent,
    /// Until when its time is counted.
    counted: Instant,
    /// Tasks that were away before those of the stage were taken away.
    pub(super) stay_away: BTreeSet<TaskIndex>,
    /// What runs once everything is taken back.
    pub(super) returns: Option<(StageOptions, StageRecord)>,
}

/// The code before is to come back. At the next barrier, or in this epoch, which is not durable yet:
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    Wanted,
    Cut(Epoch),
    /// With all that the new code has done: its tasks are taken away.
    Leaving,
    /// They are away, and what they have done is taken back.
    Undoing,
}

/// What tasks have spent in calls, nanoseconds, and how many messages they have processed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    ns: u64,
    processed: u64,
}

impl Spent {
    pub(super) fn by<'a>(tasks: impl Iterator<Item = &'a TaskEntry>) -> Spent {
        tasks.fold(Spent::default(), |sum, task| {
            let (guest, host) = task.figures.call_times();
            Spent {
                ns: sum.ns + guest + host,
                processed: sum.processed + task.processed(),
            }
        })
    }

    /// Nanoseconds a message; 0 if too few were measured.
    pub(super) fn each(self) -> u64 {
        match self.processed {
            0..COST_LEAST => 0,
            processed => self.ns / processed,
        }
    }

    fn since(self, before: Spent) -> Spent {
        Spent {
            ns: self.ns.saturating_sub(before.ns),
            processed: self.processed.saturating_sub(before.processed),
        }
    }
}

impl Watch {
    /// Watches code from now on. `tasks`: those of its stage.
    pub(super) fn new<'a>(
        id: u64,
        record: SwapRecord,
        before: Arc<StageNow>,
        cut: Option<Epoch>,
        tasks: impl Iterator<Item = &'a TaskEntry> + Clone,
    ) -> Watch {
        let processed = |task: &TaskEntry| task.figures.processed.load(Ordering::Relaxed);
        let known = tasks.clone();
        let known = known.map(|task| (task.spec.partition, processed(task)));
        Watch {
            id,
            record,
            before,
            cut,
            back: None,
            migration: None,
            known: known.collect(),
            spent: Spent::by(tasks),
            counted: Instant::now(),
            stay_away: BTreeSet::new(),
            returns: None,
        }
    }

    /// An epoch is about to be committed with these tasks of its stage.
    fn note_sealed<'a>(&mut self, epoch: Epoch, sealed: impl Iterator<Item = &'a SealedTask>) {
        let is_cut = self.cut == Some(epoch);
        // What failed under the code before is not known if that ran for a short time only.
        let mut before = Outcomes::default();
        for task in sealed {
            let now = task.record.processed;
            let known = self.known.insert(task.task.partition, now);
            before.add(&task.failing_before);
            if !is_cut {
                let counts = &mut self.record.counts;
                counts.processed += now.saturating_sub(known.unwrap_or_default());
                counts.failed += task.failed;
            }
        }
        if let Some(probation) = &mut self.record.probation {
            match is_cut {
                // What was counted at the cut of a migration is not counted again when that is over.
                true if probation.before.processed < BEFORE_LEAST
                    && probation.before.processed <= before.processed =>
                {
                    probation.before = before;
                }
                true => {}
                false if self.migration.is_some() => {}
                false => probation.checkpoints += 1,
            }
        }
        if self.back == Some(Back::Cut(epoch)) {
            self.record.state = SwapState::RolledBack;
        }
    }

    /// Whether its record belongs to an epoch, whatever else is in it.
    fn is_of(&self, epoch: Epoch) -> bool {
        self.cut == Some(epoch)
            || self.back == Some(Back::Cut(epoch))
            || self.is_migrated_with(epoch)
    }

    /// Whether it is judged.
    pub(super) fn is_watched(&self) -> bool {
        self.cut.is_none() && self.back.is_none() && self.migration.is_none()
    }

    fn facts<'a>(&mut self, tasks: impl Iterator<Item = &'a TaskEntry>) -> Option<Facts> {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.counted);
        self.counted = now;
        let probation = self.record.probation.as_mut()?;
        probation.elapsed_ms += u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let probation = probation.clone();
        let spent = Spent::by(tasks).since(self.spent);
        Some(Facts {
            probation,
            counts: self.record.counts,
            cost_ns: spent.each(),
            measured: spent.processed,
        })
    }
}

impl Coordinator {
    /// The tasks of a stage.
    pub(super) fn of_stage(&self, at: usize) -> impl Iterator<Item = &TaskEntry> + Clone {
        self.tasks.iter().filter(move |task| task.spec.stage == at)
    }

    /// The places of the tasks of a stage.
    pub(super) fn places_of_stage(&self, at: usize) -> impl Iterator<Item = TaskIndex> {
        let tasks = self.tasks.iter().enumerate();
        let of_stage = tasks.filter(move |(_, task)| task.spec.stage == at);
        of_stage.map(|(index, _)| TaskIndex(index))
    }

    /// The places of the stages whose new code is so.
    pub(super) fn watched_that(&self, is_so: impl Fn(&Watch) -> bool) -> Vec<usize> {
        let watches = self.watches.iter();
        let so = watches.filter(|(_, watch)| is_so(watch));
        so.map(|(at, _)| *at).collect()
    }

    /// An epoch is about to be committed: what new code has done in it is recorded with it.
    pub(in crate::coordinator) fn record_watches(&mut self, epoch: Epoch, barrier: &mut Barrier) {
        for (at, watch) in &mut self.watches {
            let stage: StageId = self.factory.stage(*at).record.id;
            let of_stage = |task: &&SealedTask| task.task.stage == stage;
            let has_worked = barrier
                .sealed
                .iter()
                .filter(of_stage)
                .any(|task| task.worked);
            watch.note_sealed(epoch, barrier.sealed.iter().filter(of_stage));
            if let Some(swap) = self.swaps.get(watch.id) {
                watch.record.counts.pause_us = swap.counts.pause_us;
            }
            if has_worked || watch.is_of(epoch) {
                barrier.records.push(Encoded::new(&watch.id, &watch.record));
            }
            let record = &watch.record;
            self.swaps.change(watch.id, |swap| {
                swap.counts = record.counts;
                swap.probation.clone_from(&record.probation);
            });
        }
    }

    /// An epoch is durable.
    pub(super) fn note_watches_committed(&mut self, epoch: Epoch) {
        for watch in self.watches.values_mut() {
            if watch.cut == Some(epoch) {
                watch.cut = None;
                watch.counted = Instant::now();
                if let Some(migration) = &mut watch.migration {
                    migration.begin();
                }
                let state = watch.record.state;
                self.swaps.change(watch.id, |swap| swap.state = state);
            }
        }
        for at in self.watched_that(|watch| watch.is_migrated_with(epoch)) {
            self.note_migrated(at);
        }
        for at in self.watched_that(|watch| watch.back == Some(Back::Cut(epoch))) {
            if let Some(watch) = self.watches.remove(&at) {
                self.note_back(at, watch);
            }
        }
    }

    /// The code before is back.
    pub(super) fn note_back(&mut self, at: usize, watch: Watch) {
        let Watch { id, record, .. } = watch;
        if let Some(probation) = record.probation {
            self.lately.insert(at, probation.before);
        }
        self.swaps
            .change(id, |swap| swap.state = SwapState::RolledBack);
        tracing::warn!(
            stage = %record.stage,
            swap = id,
            "the code before is back: {}",
            record.reason
        );
    }

    /// Judges new code from time to time.
    pub(in crate::coordinator) fn look_at_watches(&mut self) {
        let now = Instant::now();
        let due = |watch: &Watch| {
            watch.is_watched() && now.saturating_duration_since(watch.counted) >= LOOK
        };
        self.look_at_migrations(now);
        for at in self.watched_that(due) {
            match self.verdict(at) {
                None | Some(Verdict::Watch) => {}
                Some(Verdict::Stays) => self.end_probation(at),
                Some(Verdict::GoesBack(why)) => {
                    let generation = self.factory.stage(at).generation;
                    let _ = self.sender.send(Mail::GoBack(at, generation, why));
                }
            }
        }
    }

    /// Judges the new code of a stage.
    pub(super) fn verdict(&mut self, at: usize) -> Option<Verdict> {
        let tasks = self.tasks.iter().filter(|task| task.spec.stage == at);
        let facts = self.watches.get_mut(&at)?.facts(tasks)?;
        Some(judge(&facts))
    }

    /// When new code is judged next.
    pub(in crate::coordinator) fn next_look_at_watches(&self) -> Option<Instant> {
        let watched = self.watches.values().filter(|watch| watch.is_watched());
        let looks = watched.map(|watch| watch.counted + LOOK);
        looks.chain(self.next_end_of_migration()).min()
    }

    /// New code stays.
    pub(super) fn end_probation(&mut self, at: usize) {
        let Some(watch) = self.watches.remove(&at) else {
            return;
        };
        let (id, now) = (watch.id, self.factory.stage(at));
        let mut record = now.record.clone();
        record.swap = None;
        let counts = watch.record.counts;
        let state = match watch.holds() {
            true => {
                self.release(at, id, &record, &watch.record);
                SwapState::Releasing
            }
            false => {
                let swap = SwapRecord {
                    state: SwapState::Done,
                    ..watch.record
                };
                let records = vec![
                    Encoded::new(&now.options.name, &record),
                    Encoded::new(&id, &swap),
                ];
                self.commit.give(Work::Records(records));
                SwapState::Done
            }
        };
        self.factory.keep_code(at, record);
        self.swaps.change(id, |swap| swap.state = state);
        tracing::info!(
            stage = %now.options.name,
            swap = id,
            processed = counts.processed,
            failed = counts.failed,
            "the new code has passed its probation"
        );
    }

    /// A task waits at a message that its code fails at and the code before passes.
    pub(in crate::coordinator) fn event_of_regression(
        &mut self,
        task: TaskIndex,
        failure: &TaskFailure,
    ) -> Event {
        let at = self.tasks[task.0].spec.stage;
        let is_other = failure.generation != self.factory.stage(at).generation;
        // A task that failed under other code takes this one, and tries again.
        let Some(watch) = self.watches.get_mut(&at).filter(|_| !is_other) else {
            self.scheduler.go_on(task, failure.generation);
            return Event::Tick;
        };
        if watch.is_migrating() {
            return self.event_of_going_back(at, failure.generation, migrate::why(failure));
        }
        watch.record.counts.regressions += 1;
        let regressions = watch.record.counts.regressions;
        self.swaps
            .change(watch.id, |swap| swap.counts.regressions = regressions);
        let why = format!(
            "task {} failed ({}) at stream {:?}, offset {}, which the code before passes: {}",
            failure.task,
            failure.cause.kind(),
            failure.stream.as_deref().unwrap_or_default(),
            failure.offsets.map_or(0, |(first, _)| first),
            failure.cause.sentence()
        );
        self.event_of_going_back(at, failure.generation, why)
    }

    /// Whether a task that has failed waits for other code, which it gets or has got already: then it goes on with that.
    pub(in crate::coordinator) fn is_for_other_code(
        &mut self,
        task: TaskIndex,
        failure: &TaskFailure,
    ) -> bool {
        let spec = self.tasks[task.0].spec;
        let generation = self.factory.stage(spec.stage).generation;
        if self.draining.is_some() {
            return false;
        }
        if failure.generation != generation && !failure.cause.needs_making() {
            self.resume_later(task);
            return true;
        }
        let goes_back = failure.blames_code && self.watches.contains_key(&spec.stage);
        if goes_back {
            let why = failure.to_string();
            let _ = self.sender.send(Mail::GoBack(spec.stage, generation, why));
        }
        goes_back
    }

    /// The code before is to come back at the next barrier.
    pub(in crate::coordinator) fn event_of_going_back(
        &mut self,
        at: usize,
        generation: u64,
        why: String,
    ) -> Event {
        let is_other = generation != self.factory.stage(at).generation;
        // What takes over next is another component anyway.
        let is_replaced = self
            .swap
            .as_ref()
            .is_some_and(|swap| swap.takes_over_next(at));
        if is_other || is_replaced || self.draining.is_some() {
            return Event::Tick;
        }
        let can_go_back = |watch: &&mut Watch| {
            let migration = watch.migration.as_ref();
            watch.back.is_none() && !migration.is_some_and(Migration::is_past_return)
        };
        let Some(watch) = self.watches.get_mut(&at).filter(can_go_back) else {
            return Event::Tick;
        };
        let leaves = watch.holds() || watch.is_migrating();
        watch.back = Some(if leaves { Back::Leaving } else { Back::Wanted });
        watch.record.state = SwapState::RollingBack;
        watch.record.reason.clone_from(&why);
        let (id, stage) = (watch.id, watch.record.stage.clone());
        tracing::warn!(%stage, swap = id, "the code before comes back: {why}");
        self.swaps.change(id, |swap| {
            swap.state = SwapState::RollingBack;
            swap.reason = why;
        });
        match leaves {
            true => self.leave(at),
            false => Event::Cut(self.places_of_stage(at).collect()),
        }
    }
}

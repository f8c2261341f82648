//! Probation: new code runs, and the code before is at hand. What it does is counted in the swap's record, in the epochs that contain
//! it; [`judge`](super::judge) says whether it stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::judge::{Facts, Verdict, judge};
use crate::coordinator::commit::Work;
use crate::coordinator::machine::Event;
use crate::coordinator::mail::Mail;
use crate::coordinator::tasks::{StageNow, TaskEntry};
use crate::coordinator::{Barrier, Coordinator};
use crate::epoch::SealedTask;
use crate::model::{Epoch, PartitionId, StageId};
use crate::records::{Encoded, SwapRecord, SwapState};
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
    pub(super) step: Step,
    /// What each task had processed, and how many of that failed, when it sealed last.
    known: BTreeMap<PartitionId, (u64, u64)>,
    /// What the tasks had spent and processed in this process when this began.
    spent: Spent,
    /// Until when its time is counted.
    counted: Instant,
}

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Its cut is in this epoch, which is not durable yet.
    Cut(Epoch),
    /// It is watched.
    Watched,
    /// The code before is to come back at the next barrier, or has in this epoch, which is not durable yet.
    GoesBack(Option<Epoch>),
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

    /// Nanoseconds a message.
    pub(super) fn each(self) -> u64 {
        self.ns.checked_div(self.processed).unwrap_or(0)
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
        step: Step,
        tasks: impl Iterator<Item = &'a TaskEntry> + Clone,
    ) -> Watch {
        let known = tasks.clone().map(|task| {
            let figures = &task.figures;
            let of = (figures.processed_now(), figures.failed_now());
            (task.spec.partition, of)
        });
        Watch {
            id,
            record,
            before,
            step,
            known: known.collect(),
            spent: Spent::by(tasks),
            counted: Instant::now(),
        }
    }

    /// An epoch is about to be committed with these tasks of its stage.
    fn note_sealed<'a>(&mut self, epoch: Epoch, sealed: impl Iterator<Item = &'a SealedTask>) {
        let is_cut = self.step == Step::Cut(epoch);
        for task in sealed {
            let record = &task.record;
            let failed = record.rejected + record.counts.condemned;
            let now = (record.processed, failed);
            let known = self.known.insert(task.task.partition, now);
            let (processed, failed) = known.unwrap_or_default();
            if is_cut {
                // The last work of the code before.
                let failing = task.failing_before;
                if let Some(probation) = &mut self.record.probation {
                    probation.before.failed += u64::from(failing.failed);
                    probation.before.processed +=
                        u64::from(failing.failed) + u64::from(failing.passed);
                }
                continue;
            }
            let counts = &mut self.record.counts;
            counts.processed += now.0.saturating_sub(processed);
            // What the code before fails at as well says nothing.
            let failed = now.1.saturating_sub(failed);
            counts.failed += failed.saturating_sub(task.excused);
        }
        if let Some(probation) = self.record.probation.as_mut().filter(|_| !is_cut) {
            probation.checkpoints += 1;
        }
        if self.step == Step::GoesBack(Some(epoch)) {
            self.record.state = SwapState::RolledBack;
        }
    }

    fn facts<'a>(&mut self, tasks: impl Iterator<Item = &'a TaskEntry>) -> Option<Facts> {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.counted);
        self.counted = now;
        let probation = self.record.probation.as_mut()?;
        probation.elapsed_ms += u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        Some(Facts {
            probation: probation.clone(),
            counts: self.record.counts,
            cost_ns: Spent::by(tasks).since(self.spent).each(),
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
            let ends = [Step::Cut(epoch), Step::GoesBack(Some(epoch))].contains(&watch.step);
            if has_worked || ends {
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
            if watch.step == Step::Cut(epoch) {
                watch.step = Step::Watched;
                watch.counted = Instant::now();
            }
        }
        let is_back = |watch: &Watch| watch.step == Step::GoesBack(Some(epoch));
        let back: Vec<usize> = self
            .watches
            .iter()
            .filter(|(_, watch)| is_back(watch))
            .map(|(at, _)| *at)
            .collect();
        for at in back {
            let Some(watch) = self.watches.remove(&at) else {
                continue;
            };
            let Watch { id, record, .. } = watch;
            self.swaps
                .change(id, |swap| swap.state = SwapState::RolledBack);
            tracing::warn!(
                stage = %record.stage,
                swap = id,
                "the code before is back: {}",
                record.reason
            );
        }
    }

    /// Judges new code from time to time.
    pub(in crate::coordinator) fn look_at_watches(&mut self) {
        let now = Instant::now();
        let due = |watch: &Watch| {
            watch.step == Step::Watched && now.saturating_duration_since(watch.counted) >= LOOK
        };
        let due: Vec<usize> = self
            .watches
            .iter()
            .filter(|(_, watch)| due(watch))
            .map(|(at, _)| *at)
            .collect();
        for at in due {
            let tasks = self.tasks.iter().filter(|task| task.spec.stage == at);
            let watch = self.watches.get_mut(&at);
            let verdict = watch
                .and_then(|watch| watch.facts(tasks))
                .map(|facts| judge(&facts));
            match verdict {
                None | Some(Verdict::Watch) => {}
                Some(Verdict::Stays) => self.end_probation(at),
                Some(Verdict::GoesBack(why)) => _ = self.sender.send(Mail::GoBack(at, why)),
            }
        }
    }

    /// When new code is judged next.
    pub(in crate::coordinator) fn next_look_at_watches(&self) -> Option<Instant> {
        let watched = self
            .watches
            .values()
            .filter(|watch| watch.step == Step::Watched);
        watched.map(|watch| watch.counted + LOOK).min()
    }

    /// New code stays.
    fn end_probation(&mut self, at: usize) {
        let Some(watch) = self.watches.remove(&at) else {
            return;
        };
        let (id, now) = (watch.id, self.factory.stage(at));
        let mut record = now.record.clone();
        record.swap = None;
        let swap = SwapRecord {
            state: SwapState::Done,
            ..watch.record
        };
        let counts = swap.counts;
        let records = vec![
            Encoded::new(&now.options.name, &record),
            Encoded::new(&id, &swap),
        ];
        self.commit.give(Work::Records(records));
        self.factory.keep_code(at, record);
        self.swaps.change(id, |swap| swap.state = SwapState::Done);
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
        let Some(watch) = self.watches.get_mut(&at) else {
            self.scheduler.go_on(task);
            return Event::Tick;
        };
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
        self.event_of_going_back(at, why)
    }

    /// Whether a failure of a task sends its new code back, and does not end the job.
    pub(in crate::coordinator) fn sends_back(
        &self,
        task: TaskIndex,
        failure: &TaskFailure,
    ) -> bool {
        let at = self.tasks[task.0].spec.stage;
        failure.blames_code && self.draining.is_none() && self.watches.contains_key(&at)
    }

    /// The code before is to come back at the next barrier.
    pub(in crate::coordinator) fn event_of_going_back(&mut self, at: usize, why: String) -> Event {
        // What takes over next is another component anyway.
        let is_replaced = self
            .swap
            .as_ref()
            .is_some_and(|swap| swap.takes_over_next(at));
        if is_replaced || self.draining.is_some() {
            return Event::Tick;
        }
        let Some(watch) = self.watches.get_mut(&at) else {
            return Event::Tick;
        };
        if matches!(watch.step, Step::GoesBack(_)) {
            return Event::Tick;
        }
        watch.step = Step::GoesBack(None);
        watch.record.state = SwapState::RollingBack;
        watch.record.reason.clone_from(&why);
        let (id, stage) = (watch.id, watch.record.stage.clone());
        tracing::warn!(%stage, swap = id, "the code before comes back: {why}");
        self.swaps.change(id, |swap| {
            swap.state = SwapState::RollingBack;
            swap.reason = why;
        });
        Event::Cut(self.places_of_stage(at).collect())
    }
}

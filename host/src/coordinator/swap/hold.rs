//! Holding: what new code does can be taken back, with its output, until it has passed its probation.
//!
//! The way back takes every task of the stage away, and what it has not committed with it. Then the commit thread takes back what is
//! committed, and the tasks are made anew, of the code before. The other stages go on.

use std::collections::BTreeSet;

use super::judge::Verdict;
use super::probation::{Back, Watch};
use crate::checkpoint::HoldEnd;
use crate::coordinator::commit::{LongWork, Work};
use crate::coordinator::machine::{Event, Phase, Then, Wish};
use crate::coordinator::mail::Mail;
use crate::coordinator::{Coordinator, StageOptions};
use crate::model::StageId;
use crate::records::{Encoded, HoldRecord, StageRecord, SwapMode, SwapRecord, SwapState};
use crate::scheduler::TaskIndex;

impl Watch {
    /// Whether what the new code does can be taken back.
    pub(in crate::coordinator) fn holds(&self) -> bool {
        self.record.mode == SwapMode::HoldOutput
    }

    /// Whether its tasks are taken away, or what they have done is taken back.
    pub(in crate::coordinator) fn is_leaving(&self) -> bool {
        matches!(self.back, Some(Back::Leaving | Back::Undoing))
    }
}

impl Coordinator {
    /// Why a stage cannot be swapped because of what it holds, or is to hold.
    pub(super) fn refuses_for_holds(&self, at: usize, is_to_hold: bool) -> Option<String> {
        if self.is_migrating(at) {
            return Some(
                "migrates its state: wait for its end, or go back with `--rollback`".to_owned(),
            );
        }
        if self.is_holding(at) {
            let stage = &self.factory.stage(at).options.name;
            return Some(format!(
                "holds its output: `wasm-host swap {stage} --promote` releases it, and `--rollback` takes it back"
            ));
        }
        let why = is_to_hold.then(|| self.refuses_to_hold(at)).flatten();
        why.map(|why| format!("cannot hold its output: {why}"))
    }

    /// Why a stage cannot hold what it does.
    fn refuses_to_hold(&self, at: usize) -> Option<String> {
        let now = self.factory.stage(at);
        if self.holds.of(now.record.id).is_some() {
            return Some("what the stage has held is not released yet".to_owned());
        }
        if self.watches.contains_key(&at) {
            return Some(
                "the code that runs is in its probation itself: wait for its end, or go back first"
                    .to_owned(),
            );
        }
        let mut inputs = now.options.inputs.iter().map(|input| &input.stream);
        inputs.find_map(|stream| {
            let why = self.factory.stream(stream).options.why_not_again()?;
            Some(format!("stream {stream:?} {why}"))
        })
    }

    /// Whether what a stage does can be taken back.
    fn is_holding(&self, at: usize) -> bool {
        self.watches.get(&at).is_some_and(Watch::holds)
    }

    /// Says which stages hold their output beyond the end of the process.
    pub(in crate::coordinator) fn warn_of_holds(&self) {
        for watch in self.watches.values() {
            let stage = &watch.record.stage;
            if watch.is_migrating() {
                tracing::warn!(%stage, swap = watch.id, "its state is not migrated yet: the next start takes back what there is of that");
                continue;
            }
            if !watch.holds() {
                continue;
            }
            tracing::warn!(
                %stage,
                swap = watch.id,
                "the output of its new code is still held: the next start goes on with that, and `wasm-host swap {stage} --promote` releases it then"
            );
        }
    }

    /// The tasks of a stage are taken away, because everything that they did since the cut is to be taken back.
    pub(super) fn leave(&mut self, at: usize) -> Event {
        let tasks: Vec<TaskIndex> = self.places_of_stage(at).collect();
        let is_away_by_itself = |task: &TaskIndex| {
            let is_away = matches!(
                self.machine.phase(*task),
                Phase::Suspended
                    | Phase::Retired
                    | Phase::Stopping(Then::Suspend)
                    | Phase::Leaving(Then::Suspend)
            );
            let name = &self.tasks[task.0].name;
            is_away && !self.failures.iter().any(|failure| failure.task == *name)
        };
        let stay_away: BTreeSet<TaskIndex> =
            tasks.iter().copied().filter(is_away_by_itself).collect();
        if let Some(watch) = self.watches.get_mut(&at) {
            watch.stay_away = stay_away;
        }
        Event::Wishes(tasks, Wish::Abandon)
    }

    /// Whether a task was made in vain, because what its stage has done is taken back.
    pub(in crate::coordinator) fn is_leaving(&self, task: TaskIndex) -> bool {
        let at = self.tasks[task.0].spec.stage;
        self.watches.get(&at).is_some_and(Watch::is_leaving)
    }

    /// Whether something is released or taken back.
    pub(in crate::coordinator) fn ends_holds(&self) -> bool {
        !self.releasing.is_empty() || self.watches.values().any(Watch::is_leaving)
    }

    /// Has taken back what stages have done whose tasks are all away.
    pub(in crate::coordinator) fn take_back(&mut self) {
        if self.draining.is_some() {
            return;
        }
        // What is not held yet cannot be taken back: the cut is committed first.
        let is_due = |watch: &Watch| watch.back == Some(Back::Leaving) && watch.cut.is_none();
        for at in self.watched_that(is_due) {
            let is_away = |task: TaskIndex| {
                matches!(
                    self.machine.phase(task),
                    Phase::Suspended | Phase::Retired | Phase::NotMade
                )
            };
            if !self.places_of_stage(at).all(is_away) {
                continue;
            }
            let now = self.factory.stage(at);
            let Some(watch) = self.watches.get_mut(&at) else {
                continue;
            };
            watch.back = Some(Back::Undoing);
            let held = self.holds.of(now.record.id).unwrap_or_default();
            let (options, record) = watch.code_before(&now.record, &held);
            let swap = |state| SwapRecord {
                state,
                ..watch.record.clone()
            };
            let first = vec![
                Encoded::new(&now.options.name, &record),
                Encoded::new(&watch.id, &swap(SwapState::RollingBack)),
            ];
            let last = vec![Encoded::new(&watch.id, &swap(SwapState::RolledBack))];
            watch.returns = Some((options, record));
            let end = HoldEnd::new(now.record.id, first, last);
            self.commit.give(Work::End(LongWork::TakeBack(end)));
        }
    }

    /// All that a stage has done since the cut is taken back.
    pub(in crate::coordinator) fn event_of_taken_back(&mut self, stage: StageId) -> Event {
        let Some(at) = self.place_of_stage(stage) else {
            return Event::Tick;
        };
        let Some(mut watch) = self.watches.remove(&at) else {
            return Event::Tick;
        };
        if let Some((options, record)) = watch.returns.take() {
            self.factory.cut(at, options, record, None);
        }
        let stay_away = std::mem::take(&mut watch.stay_away);
        self.note_back(at, watch);
        let tasks = self.places_of_stage(at);
        let comes = |task: &TaskIndex| {
            self.machine.phase(*task) != Phase::Retired && !stay_away.contains(task)
        };
        Event::Wishes(tasks.filter(comes).collect(), Wish::Start)
    }

    /// What a stage holds goes out: new code stays.
    pub(super) fn release(&mut self, at: usize, id: u64, record: &StageRecord, swap: &SwapRecord) {
        let now = self.factory.stage(at);
        let swap = |state| SwapRecord {
            state,
            ..swap.clone()
        };
        let first = vec![
            Encoded::new(&now.options.name, record),
            Encoded::new(&id, &swap(SwapState::Releasing)),
        ];
        let last = vec![Encoded::new(&id, &swap(SwapState::Done))];
        self.releasing.insert(record.id, id);
        let end = HoldEnd::new(record.id, first, last);
        self.commit.give(Work::End(LongWork::Release(end)));
    }

    /// All that a stage has held is out.
    pub(in crate::coordinator) fn note_released(&mut self, stage: StageId) {
        let Some(id) = self.releasing.remove(&stage) else {
            return;
        };
        let swap = self.swaps.change(id, |swap| swap.state = SwapState::Done);
        tracing::info!(stage = %swap.stage, swap = id, "everything that was held is released");
    }

    /// All inputs have ended: nothing more will tell about what is held.
    pub(in crate::coordinator) fn release_all(&mut self) {
        for at in self.watched_that(|watch| watch.holds() && watch.is_watched()) {
            let too_much = self.holds_too_much(at);
            let why = too_much.or_else(|| match self.verdict(at) {
                Some(Verdict::GoesBack(why)) => Some(why),
                _ => None,
            });
            match why {
                None => self.end_probation(at),
                Some(why) => tracing::error!(
                    stage = %self.factory.stage(at).options.name,
                    "the job has ended, and what its new code has done is not released: {why}; start it, and decide with `swap --rollback` or `--promote`"
                ),
            }
        }
    }

    /// Why a stage holds more than it may.
    fn holds_too_much(&self, at: usize) -> Option<String> {
        let now = self.factory.stage(at);
        let most = now.options.swap.hold_bytes;
        let bytes = self.holds.of(now.record.id)?.bytes();
        (bytes > most).then(|| {
            format!(
                "output and old state take {bytes} bytes, more than `hold-bytes` = {most} bytes"
            )
        })
    }

    /// A stage that holds more than it may goes back, because nothing may become final that nobody has judged.
    pub(in crate::coordinator) fn look_at_holds(&mut self, is_disk_short: bool) {
        let at_work =
            |watch: &Watch| (watch.holds() || watch.is_migrating()) && watch.back.is_none();
        for at in self.watched_that(at_work) {
            let holds = self.is_holding(at);
            let why = match is_disk_short {
                true => Some("the disk has less room than `disk-reserve`".to_owned()),
                false => holds.then(|| self.holds_too_much(at)).flatten(),
            };
            if let Some(why) = why {
                let generation = self.factory.stage(at).generation;
                let _ = self.sender.send(Mail::GoBack(at, generation, why));
            }
        }
    }

    fn place_of_stage(&self, id: StageId) -> Option<usize> {
        let mut stages = self.factory.stages();
        stages.position(|stage| stage.record.id == id)
    }

    /// A person wants what a stage holds to go out, or code that is watched to stay.
    pub(in crate::coordinator) fn promote(&mut self, stage: &str) -> Result<u64, String> {
        let at = self.place_of_name(stage)?;
        if self.draining.is_some() {
            return Err("the job is being stopped".to_owned());
        }
        if let Some(request) = self.request_of_shadow(at) {
            return self.begin_swap(request).map(|(id, _)| id);
        }
        match self.watches.get(&at) {
            Some(watch) if watch.is_watched() => {
                let id = watch.id;
                self.end_probation(at);
                Ok(id)
            }
            Some(_) => Err(format!(
                "the code of stage {stage:?} is about to go back, or has not taken over yet"
            )),
            None => Err(format!("stage {stage:?} has no code in a probation")),
        }
    }
}

impl Watch {
    /// The code that comes back, and what is recorded of the stage then.
    fn code_before(&self, now: &StageRecord, held: &HoldRecord) -> (StageOptions, StageRecord) {
        let options = StageOptions {
            before: None,
            successor: None,
            ..(*self.before.options).clone()
        };
        let mut record = now.clone();
        record.go_back(self.before.record.code.clone());
        record.state_version = held.state_version;
        // What came with the new code has nothing any more.
        record.stores.retain(|store, _| {
            let is_declared = options.stores.iter().any(|(name, _)| name == store);
            is_declared || held.stores.contains_key(store)
        });
        (options, record)
    }
}

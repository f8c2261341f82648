//! Swaps: other code takes over in a stage at a barrier, while the job runs.
//!
//! A [`SwapRequest`] becomes a [`Candidate`] on a thread of its own ([`candidate`]): everything that can be refused is refused there,
//! while the old code works. Then the next barrier is the *cut*: every task of the stage seals its last work with the old code and has
//! its next batch with the new one. The write of that epoch has the stage's record and the swap's. [`Swaps`] tells who asks.
//!
//! One swap at a time, and none in a drain.

mod board;
mod candidate;
mod fit;
mod hold;
mod judge;
mod migrate;
mod probation;
mod shadow;
pub(super) mod start;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

pub use board::Swaps;
pub(super) use candidate::Candidate;
pub(super) use probation::Watch;
use probation::{Back, Spent};
pub(super) use streams::NewStreams;

use super::machine::{Event, Phase};
use super::mail::{Mail, Request};
use super::shadow::ShadowLength;
use super::{Barrier, Coordinator, StageLoader, StageOptions};
use crate::epoch::HoldBegin;
use crate::model::{Epoch, ProbationLength};
use crate::records::{
    Code, Encoded, HoldPhase, Probation, StageRecord, SwapCounts, SwapMode, SwapRecord, SwapState,
};
use crate::scheduler::TaskIndex;
use crate::task::{CodeSource, Resume};

/// Why code goes back that somebody wants to.
pub const ASKED_FOR: &str = "somebody asked for it";

/// Other code for a stage.
#[derive(Debug, Clone, Default)]
pub struct SwapRequest {
    /// The stage.
    pub stage: String,
    /// The component.
    pub component: Wanted,
    /// What a person calls it; may be empty.
    pub label: String,
    /// Another length of the probation than the job says; inside, `None` is none at all.
    pub probation: Option<Option<ProbationLength>>,
    /// Another bound of its cost than the job says, percent.
    pub slowdown_percent: Option<u32>,
    /// Also a component that was taken back before.
    pub force: bool,
    /// Only to find out whether it would be refused.
    pub dry_run: bool,
    /// Hold the output of the new code, so that all it does can be taken back.
    pub hold_output: bool,
    /// Only try it beside the code that runs, for so long.
    pub shadow: Option<ShadowLength>,
}

/// Which component is to take over.
#[derive(Debug, Clone, Default)]
pub enum Wanted {
    /// The one in the file that the job names.
    #[default]
    File,
    /// This one.
    Bytes(Vec<u8>),
    /// The way back: the code before that.
    Previous,
}

/// The swap that is not cut yet, or whose cut is not durable.
pub(super) struct UnderWay {
    id: u64,
    /// The place of its stage.
    stage: usize,
    dry_run: bool,
    probation: Option<Option<ProbationLength>>,
    slowdown_percent: Option<u32>,
    mode: SwapMode,
    /// How long its code is tried, if that is all.
    shadow: Option<ShadowLength>,
    /// What takes over at the next barrier.
    candidate: Option<Candidate>,
    /// The epoch of the cut.
    epoch: Option<Epoch>,
}

impl UnderWay {
    /// One whose candidate waits for the next barrier.
    fn ready(id: u64, stage: usize, candidate: Candidate) -> UnderWay {
        UnderWay {
            id,
            stage,
            dry_run: false,
            probation: None,
            slowdown_percent: None,
            mode: SwapMode::Code,
            shadow: None,
            candidate: Some(candidate),
            epoch: None,
        }
    }

    /// Whether the state is migrated for its candidate.
    fn migrates(&self) -> bool {
        let candidate = self.candidate.as_ref();
        candidate.is_some_and(|candidate| candidate.migrates_from.is_some())
    }

    /// Whether it takes over in a stage at the next barrier.
    fn takes_over_next(&self, at: usize) -> bool {
        self.stage == at && self.candidate.is_some()
    }
}

impl Coordinator {
    /// Begins a swap, and answers with its number. What comes of it is an event.
    pub(super) fn event_of_swap(
        &mut self,
        request: SwapRequest,
        reply: oneshot::Sender<Result<u64, String>>,
    ) -> Event {
        let (begun, event) = match self.begin_swap(request) {
            Ok((id, event)) => (Ok(id), event),
            Err(why) => (Err(why), Event::Tick),
        };
        let _ = reply.send(begun);
        event
    }

    fn begin_swap(&mut self, request: SwapRequest) -> Result<(u64, Event), String> {
        let name = &request.stage;
        let at = self.place_of_name(name)?;
        let now = self.factory.stage(at);
        if let Some(why) = self.refuses_swaps() {
            return Err(why);
        }
        if let Some(other) = &self.swap {
            let stage = self.factory.stage(other.stage);
            let (id, stage) = (other.id, &stage.options.name);
            return Err(format!(
                "swap {id} of stage {stage:?} is under way: `wasm-host swap {stage} --status` shows it"
            ));
        }
        if matches!(request.component, Wanted::Previous) {
            if let Some(watch) = self.watches.get(&at) {
                let (id, why) = (watch.id, ASKED_FOR.to_owned());
                return Ok((id, self.event_of_going_back(at, now.generation, why)));
            }
            if now.record.previous.is_none() {
                return Err(format!("stage {name:?} has no code to go back to"));
            }
        }
        if let Some(why) = self.refuses_for_holds(at, request.hold_output) {
            return Err(format!("stage {name:?} {why}"));
        }
        let is_shadow = request.shadow.is_some();
        if let Some(why) = is_shadow.then(|| self.refuses_shadow(at)).flatten() {
            return Err(format!("stage {name:?} {why}"));
        }
        let loader = self.loader.clone();
        let loader = loader.ok_or("this process does not swap code")?;
        let mode = match request.hold_output {
            _ if is_shadow => SwapMode::Shadow,
            true => SwapMode::HoldOutput,
            false => SwapMode::Code,
        };
        let id = self.swaps.begin(SwapRecord {
            stage: name.clone(),
            from: now.record.code.clone(),
            to: Code {
                component: String::new(),
                label: request.label.clone(),
            },
            mode,
            time: self.clock.now_ms(),
            epoch: Epoch(0),
            state: SwapState::Loading,
            reason: String::new(),
            counts: SwapCounts::default(),
            probation: None,
        });
        self.swap = Some(UnderWay {
            id,
            stage: at,
            dry_run: request.dry_run,
            probation: request.probation,
            slowdown_percent: request.slowdown_percent,
            mode,
            shadow: request.shadow,
            candidate: None,
            epoch: None,
        });
        tracing::info!(stage = %name, swap = id, "a swap begins");
        self.make_candidate(id, at, request, loader);
        Ok((id, Event::Tick))
    }

    /// The place of a stage.
    pub(super) fn place_of_name(&self, stage: &str) -> Result<usize, String> {
        let mut stages = self.factory.stages();
        let at = stages.position(|now| now.options.name == stage);
        at.ok_or_else(|| format!("the job has no stage {stage:?}"))
    }

    /// Why no swap can begin, or go on before its cut.
    fn refuses_swaps(&self) -> Option<String> {
        if self.draining.is_some() {
            Some("the job is being stopped".to_owned())
        } else if self.machine.is_reprieved() {
            Some("a task has failed, and the job is about to end".to_owned())
        } else {
            None
        }
    }

    /// Makes the candidate on a thread of its own, which reports by mail.
    fn make_candidate(
        &self,
        id: u64,
        stage: usize,
        request: SwapRequest,
        loader: Arc<dyn StageLoader>,
    ) {
        let live = self.scheduler.with_instances().into_iter();
        let of_stage = live.map(|task| self.tasks[task.0].spec);
        let live = of_stage.filter(|spec| spec.stage == stage);
        let making = candidate::Making {
            id,
            factory: Arc::clone(&self.factory),
            stage,
            request,
            loader,
            live: live.map(|spec| spec.partition).collect(),
            swaps: self.swaps.clone(),
            view: self.handle().view,
            code: self.code.clone(),
            io: self.io.clone(),
        };
        let sender = self.sender.clone();
        let done = move |made| {
            let _ = sender.send(Mail::Candidate(id, Box::new(made)));
        };
        making.start(done);
    }

    /// A candidate is made, or refused.
    pub(super) fn event_of_candidate(&mut self, id: u64, made: Result<Candidate, String>) -> Event {
        let refused = self.refuses_swaps();
        let Some(swap) = self.swap.as_ref().filter(|swap| swap.id == id) else {
            return Event::Tick;
        };
        let (at, shadow) = (swap.stage, swap.shadow);
        let made = made.and_then(|candidate| {
            let migrates = candidate.migrates_from.is_some() && shadow.is_none();
            match migrates.then(|| self.refuses_to_migrate(at)).flatten() {
                Some(why) => Err(format!("its state cannot be migrated: {why}")),
                None => Ok(candidate),
            }
        });
        let candidate = match (made, refused) {
            (Ok(candidate), None) => candidate,
            (Err(why), _) | (Ok(_), Some(why)) => {
                self.refuse_swap(&why);
                return Event::Tick;
            }
        };
        let Some(swap) = &mut self.swap else {
            return Event::Tick;
        };
        if swap.dry_run {
            let fits = match candidate.migrates_from {
                None => "it fits, and was only to be checked".to_owned(),
                Some(old) => format!(
                    "it fits, once the state is migrated from version {old} to {}, and was only to be checked",
                    candidate.options.state_version
                ),
            };
            self.end_swap(SwapState::Dropped, &fits);
            return Event::Tick;
        }
        if let Some(length) = shadow {
            self.begin_shadow(id, at, candidate, length);
            return Event::Tick;
        }
        swap.candidate = Some(candidate);
        self.swaps.change(id, |swap| swap.state = SwapState::Cut);
        Event::Cut(self.places_of_stage(at).collect())
    }

    /// The barrier with the cut is set: from here on everything that is made in these stages is of other code. Returns where their tasks
    /// find it, by the places of the stages.
    pub(super) fn cut(
        &mut self,
        epoch: Epoch,
        barrier: &mut Barrier,
    ) -> BTreeMap<usize, Arc<dyn CodeSource>> {
        let mut sources = BTreeMap::new();
        if let Some(mut swap) = self.swap.take() {
            if let Some(mut candidate) = swap.candidate.take() {
                swap.epoch = Some(epoch);
                Coordinator::keep_streams(std::mem::take(&mut candidate.streams), barrier);
                let source = match candidate.migrates_from {
                    None => self.cut_to_candidate(&swap, candidate, epoch, barrier),
                    Some(old) => self.cut_to_migrate(&swap, old, candidate, epoch, barrier),
                };
                sources.insert(swap.stage, source);
            }
            self.swap = Some(swap);
        }
        for at in self.watched_that(|watch| watch.back == Some(Back::Wanted)) {
            let source = self.cut_back(at, epoch, barrier);
            sources.insert(at, source);
        }
        for at in self.migrated_stages() {
            let source = self.cut_to_migrated(at, epoch, barrier);
            sources.insert(at, source);
        }
        for at in sources.keys() {
            self.resume_stage(*at);
            self.outdate_shadow(*at);
        }
        sources
    }

    fn cut_to_candidate(
        &mut self,
        swap: &UnderWay,
        candidate: Candidate,
        epoch: Epoch,
        barrier: &mut Barrier,
    ) -> Arc<dyn CodeSource> {
        let (id, at) = (swap.id, swap.stage);
        let now = self.factory.stage(at);
        if swap.mode == SwapMode::HoldOutput {
            barrier
                .holds
                .push(HoldBegin::of(&now.record, HoldPhase::Holding));
        }
        let Candidate { options, label, .. } = candidate;
        let replaced = self.watches.remove(&at);
        let before = match &replaced {
            Some(watch) => Arc::clone(&watch.before),
            None => Arc::clone(&now),
        };
        let mut record = recorded(&now.record, &options, &label);
        let probation = self.probation(swap, &options, replaced.as_ref());
        // From a component to itself there is no way back; the settings alone change.
        let is_back = before.record.code.component == record.code.component;
        let probation = probation.filter(|_| !is_back);
        record.swap = probation.as_ref().map(|_| id);
        let codes = (&now.record.code, &record.code);
        let mut swap = self.record_cut(id, codes, probation, epoch, barrier);
        if let Some(watch) = replaced {
            barrier.records.push(self.replaced(watch, id));
        }
        barrier
            .records
            .push(Encoded::new(&now.options.name, &record));
        let way_back = Arc::clone(&before.options.component);
        let options = StageOptions {
            before: record.swap.map(|_| way_back),
            ..options
        };
        match record.swap {
            Some(_) => {
                swap.state = SwapState::of_watched(swap.mode);
                // What it has done, and the code before, is recorded once all have sealed.
                let watch = Watch::new(id, swap, before, Some(epoch), self.of_stage(at));
                self.watches.insert(at, watch);
            }
            None => {
                swap.state = SwapState::Done;
                barrier.records.push(Encoded::new(&id, &swap));
            }
        }
        self.note_pauses(id, at);
        self.factory.cut(at, options, record, None)
    }

    /// What is known of a swap at its cut; those that are too many are forgotten. `codes`: the code before, and the new one.
    fn record_cut(
        &self,
        id: u64,
        (from, to): (&Code, &Code),
        probation: Option<Probation>,
        epoch: Epoch,
        barrier: &mut Barrier,
    ) -> SwapRecord {
        let forgotten = SwapRecord::forgotten_below(id);
        let forgotten = forgotten.map(|below| Encoded::none_below::<SwapRecord>(&below));
        barrier.records.extend(forgotten);
        let time = barrier.time;
        self.swaps.change(id, |swap| {
            swap.from.clone_from(from);
            swap.to.clone_from(to);
            swap.time = time;
            swap.epoch = epoch;
            swap.probation = probation;
        })
    }

    /// How long the tasks of a stage are away is noted for a swap from now on.
    fn note_pauses(&self, id: u64, at: usize) {
        let figures = self.of_stage(at).map(|entry| Arc::clone(&entry.figures));
        self.swaps.note_cut(id, figures.collect());
    }

    /// How the code of a swap is watched. `replaced`: the new code that gives way to it.
    fn probation(
        &mut self,
        swap: &UnderWay,
        options: &StageOptions,
        replaced: Option<&Watch>,
    ) -> Option<Probation> {
        let length = swap.probation.unwrap_or(options.swap.probation)?;
        let slowdown = swap.slowdown_percent;
        let known = replaced.and_then(|watch| watch.record.probation.clone());
        let (before, cost_before_ns) = match known {
            // Of the code that the way back leads to, and not of the one that gives way.
            Some(known) => (known.before, known.cost_before_ns),
            None => {
                let lately = self.lately.remove(&swap.stage).unwrap_or_default();
                (lately, Spent::by(self.of_stage(swap.stage)).each())
            }
        };
        Some(Probation {
            slowdown_percent: slowdown.unwrap_or(options.swap.slowdown_percent),
            cost_before_ns,
            ..Probation::new(length, before)
        })
    }

    /// New code that is watched gives way to other new code.
    fn replaced(&self, watch: Watch, by: u64) -> Encoded {
        let reason = format!("swap {by} has taken its place");
        self.swaps.change(watch.id, |swap| {
            swap.state = SwapState::Dropped;
            swap.reason.clone_from(&reason);
        });
        let swap = SwapRecord {
            state: SwapState::Dropped,
            reason,
            ..watch.record
        };
        Encoded::new(&watch.id, &swap)
    }

    /// The code before comes back.
    fn cut_back(&mut self, at: usize, epoch: Epoch, barrier: &mut Barrier) -> Arc<dyn CodeSource> {
        let now = self.factory.stage(at);
        let Some(watch) = self.watches.get_mut(&at) else {
            unreachable!("only code that is watched goes back");
        };
        watch.back = Some(Back::Cut(epoch));
        let mut record = now.record.clone();
        record.go_back(watch.before.record.code.clone());
        barrier
            .records
            .push(Encoded::new(&now.options.name, &record));
        let options = StageOptions {
            // Stores that came with the new code stay.
            stores: now.options.stores.clone(),
            before: None,
            ..(*watch.before.options).clone()
        };
        self.factory.cut(at, options, record, None)
    }

    /// Held tasks go on: with the new code they may do what the old one could not.
    fn resume_stage(&self, at: usize) {
        let places = self.places_of_stage(at);
        let is_held =
            |task: &TaskIndex| matches!(self.machine.phase(*task), Phase::Held | Phase::Suspended);
        places
            .filter(is_held)
            .for_each(|task| self.resume_later(task));
    }

    /// A task that is held goes on, as soon as what is asked of it before is done.
    fn resume_later(&self, task: TaskIndex) {
        let again = Resume::Retry { unjudged: 0 };
        let (reply, _) = oneshot::channel();
        let name = self.tasks[task.0].name.clone();
        let request = Request::Resume(name, again, reply);
        let _ = self.sender.send(Mail::Request(request));
    }

    /// A checkpoint is durable.
    pub(super) fn note_cut_committed(&mut self, epoch: Epoch) {
        if let Some(swap) = &self.swap
            && swap.epoch == Some(epoch)
        {
            match self.watches.get(&swap.stage) {
                // It may fail before that is durable.
                Some(watch) if watch.back.is_some() => self.swap = None,
                Some(watch) => self.end_swap(watch.record.state, ""),
                None => self.end_swap(SwapState::Done, ""),
            }
        }
        self.note_watches_committed(epoch);
    }

    /// A drain has begun: what has not been cut never is.
    pub(super) fn give_up_swap(&mut self) {
        if self.swap.as_ref().is_some_and(|swap| swap.epoch.is_none()) {
            self.refuse_swap("the job is being stopped");
        }
    }

    fn refuse_swap(&mut self, why: &str) {
        self.end_swap(SwapState::Refused, why);
    }

    fn end_swap(&mut self, state: SwapState, reason: &str) {
        let Some(swap) = self.swap.take() else { return };
        let ended = self.swaps.change(swap.id, |swap| {
            swap.state = state;
            reason.clone_into(&mut swap.reason);
        });
        let (stage, id, component) = (&ended.stage, swap.id, &ended.to.component);
        match state {
            SwapState::Refused => {
                tracing::warn!(%stage, swap = id, "the swap is refused, and the code stays: {reason}");
            }
            SwapState::Dropped => {
                tracing::info!(%stage, swap = id, %component, "nothing is swapped: {reason}");
            }
            SwapState::Migrating => {}
            _ => tracing::info!(%stage, swap = id, %component, "the new code has taken over"),
        }
    }
}

/// What is recorded of a stage once a candidate has taken over.
fn recorded(before: &StageRecord, options: &StageOptions, label: &str) -> StageRecord {
    let mut record = before.clone();
    for (store, _) in &options.stores {
        record.add_store(store);
    }
    record.take_code(Code {
        component: options.component.sha256().to_owned(),
        label: label.to_owned(),
    });
    record.state_version = options.state_version;
    if let Some(file) = &options.file {
        record.file.clone_from(file);
    }
    record
}

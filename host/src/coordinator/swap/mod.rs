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

use std::sync::Arc;

use tokio::sync::oneshot;

pub use board::Swaps;
pub(super) use candidate::Candidate;

use super::machine::{Event, Phase};
use super::mail::{Mail, Request};
use super::tasks::StageNow;
use super::{Barrier, Coordinator, StageLoader};
use crate::model::Epoch;
use crate::records::{Code, Encoded, StageRecord, SwapCounts, SwapMode, SwapRecord, SwapState};
use crate::scheduler::TaskIndex;
use crate::task::{CodeSource, Resume};

/// Other code for a stage.
#[derive(Debug, Clone, Default)]
pub struct SwapRequest {
    /// The stage.
    pub stage: String,
    /// The component. `None`: the file that the job names.
    pub component: Option<Vec<u8>>,
    /// What a person calls it; may be empty.
    pub label: String,
    /// Also a component that was taken back before.
    pub force: bool,
    /// Only to find out whether it would be refused.
    pub dry_run: bool,
}

/// The swap that is not over.
pub(super) struct UnderWay {
    id: u64,
    /// The place of its stage.
    stage: usize,
    dry_run: bool,
    /// What takes over at the next barrier.
    candidate: Option<Candidate>,
    /// The epoch of the cut.
    epoch: Option<Epoch>,
}

impl Coordinator {
    /// Begins a swap, and answers with its number.
    pub(super) fn swap(
        &mut self,
        request: SwapRequest,
        reply: oneshot::Sender<Result<u64, String>>,
    ) {
        let begun = self.begin_swap(request);
        let _ = reply.send(begun);
    }

    fn begin_swap(&mut self, request: SwapRequest) -> Result<u64, String> {
        let name = &request.stage;
        let mut stages = self.factory.stages().enumerate();
        let found = stages.find(|(_, stage)| stage.options.name == *name);
        let (at, now) = found.ok_or_else(|| format!("the job has no stage {name:?}"))?;
        drop(stages);
        if let Some(why) = self.refuses_swaps() {
            return Err(why);
        }
        let loader = self.loader.clone();
        let loader = loader.ok_or("this process does not swap code")?;
        if let Some(other) = &self.swap {
            let stage = self.factory.stage(other.stage);
            let (id, stage) = (other.id, &stage.options.name);
            return Err(format!(
                "swap {id} of stage {stage:?} is under way: `wasm-host swap {stage} --status` shows it"
            ));
        }
        let id = self.swaps.begin(SwapRecord {
            stage: name.clone(),
            from: now.record.code.clone(),
            to: Code {
                component: String::new(),
                label: request.label.clone(),
            },
            mode: SwapMode::Code,
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
            candidate: None,
            epoch: None,
        });
        tracing::info!(stage = %name, swap = id, "a swap begins");
        self.make_candidate(id, at, request, loader);
        Ok(id)
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
        let Some(swap) = self.swap.as_mut().filter(|swap| swap.id == id) else {
            return Event::Tick;
        };
        let candidate = match (made, refused) {
            (Ok(candidate), None) => candidate,
            (Err(why), _) | (Ok(_), Some(why)) => {
                self.refuse_swap(&why);
                return Event::Tick;
            }
        };
        if swap.dry_run {
            self.end_swap(SwapState::Dropped, "it fits, and was only to be checked");
            return Event::Tick;
        }
        swap.candidate = Some(candidate);
        let at = swap.stage;
        self.swaps.change(id, |swap| swap.state = SwapState::Cut);
        let tasks = self.tasks.iter().enumerate();
        let of_stage = tasks.filter(|(_, entry)| entry.spec.stage == at);
        Event::Cut(of_stage.map(|(index, _)| TaskIndex(index)).collect())
    }

    /// The barrier with the cut is set: from here on everything that is made in the stage is of the new code.
    pub(super) fn cut(&mut self, epoch: Epoch, barrier: &mut Barrier) -> Arc<dyn CodeSource> {
        let Some((swap, candidate)) = self
            .swap
            .as_mut()
            .and_then(|swap| Some((swap.candidate.take()?, swap)))
            .map(|(candidate, swap)| (swap, candidate))
        else {
            panic!("a cut without a candidate");
        };
        swap.epoch = Some(epoch);
        let (id, at) = (swap.id, swap.stage);
        let Candidate { options, record } = candidate;
        let time = barrier.time;
        let changed = self.swaps.change(id, |swap| {
            swap.to.clone_from(&record.code);
            swap.time = time;
            swap.epoch = epoch;
        });
        let recorded = SwapRecord {
            state: SwapState::Done,
            ..changed
        };
        let records = &mut barrier.records;
        records.push(Encoded::new(&options.name, &record));
        records.push(Encoded::new(&id, &recorded));
        if let Some(old) = id.checked_sub(SwapRecord::HISTORY) {
            records.push(Encoded::deleted::<SwapRecord>(&old));
        }
        let tasks = self.tasks.iter().filter(|entry| entry.spec.stage == at);
        let figures = tasks.map(|entry| Arc::clone(&entry.figures)).collect();
        self.swaps.note_cut(id, figures);
        let source = self.factory.cut(at, StageNow { options, record });
        self.resume_stage(at);
        source
    }

    /// Held tasks go on: with the new code they may do what the old one could not.
    fn resume_stage(&self, at: usize) {
        for (index, entry) in self.tasks.iter().enumerate() {
            let phase = self.machine.phase(TaskIndex(index));
            let is_held = matches!(phase, Phase::Held | Phase::Suspended);
            if entry.spec.stage == at && is_held {
                let again = Resume::Retry { unjudged: 0 };
                let (reply, _) = oneshot::channel();
                let request = Request::Resume(entry.name.clone(), again, reply);
                let _ = self.sender.send(Mail::Request(request));
            }
        }
    }

    /// A checkpoint is durable.
    pub(super) fn note_cut_committed(&mut self, epoch: Epoch) {
        if self.swap.as_ref().and_then(|swap| swap.epoch) == Some(epoch) {
            self.end_swap(SwapState::Done, "");
        }
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
            _ => tracing::info!(%stage, swap = id, %component, "the swap is {}", state.name()),
        }
    }
}

/// What is recorded of a stage once a candidate has taken over.
fn recorded(before: &StageRecord, options: &super::StageOptions, label: &str) -> StageRecord {
    let mut record = before.clone();
    for (store, _) in &options.stores {
        record.add_store(store);
    }
    record.take_code(Code {
        component: options.component.sha256().to_owned(),
        label: label.to_owned(),
    });
    if let Some(file) = &options.file {
        record.file.clone_from(file);
    }
    record
}

//! One job in one process: opened, run by one event loop, and asked from outside through a [`Handle`].
//!
//! [`machine`] decides and touches nothing; this loop takes mail from the scheduler, the commit thread, signals and operators,
//! hands it to the machine as events, and executes its commands. Must never know JSON, flags or the environment.

pub mod machine;

mod commit;
mod handle;
mod idle;
mod letters;
mod mail;
mod open;
mod options;
mod produce;
mod requests;
mod resume;
mod shadow;
mod status;
mod stuck;
mod swap;
mod tasks;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub use crate::checkpoint::catalog::Catalog;
pub use crate::records::{Code, StageRecord, SwapState, TopicRecord};
pub use crate::task::{Doing, Resume};
pub use handle::{Handle, JobEnded};
pub use letters::{
    ForQueue, Found, LetterFilter, LetterId, LetterState, LetterWrite, Letters, LettersError,
    Outcome, RefusedLetter, StageLetters, TypedLetter, parked_store, replay_queue,
};
pub use mail::TaskChange;
pub use options::{
    InputOptions, JobOptions, LastResort, LoadedStage, Reads, StageLoader, StageOptions,
    StreamOptions, SwapOptions, Writes,
};
pub use produce::{Placed, Produce, ProduceError, Produced, place};
pub use resume::Resumed;
pub use shadow::{Difference, Made as MadeOf, ShadowLength, ShadowReport};
pub use status::{InputStatus, Status, TaskStatus};
pub use swap::{ASKED_FOR, SwapRequest, Swaps, Wanted as WantedCode};
pub use view::{Deleted, Entry, LogError, Selection, TaskView, View};

use crate::checkpoint::decide::Trigger;
use crate::checkpoint::directory::CodeFolder;
use crate::checkpoint::logs::Logs;
use crate::checkpoint::{CommitError, HoldFigures, Holder, OpenError};
use crate::epoch::{HoldBegin, Migrated, SealedEpoch, SealedTask};
use crate::model::{Clock, Epoch, StageId, StreamId};
use crate::records::{Encoded, Outcomes};
use crate::scheduler::{Met, Notice, Scheduler, TaskIndex};
use crate::task::{Cause, TaskFailure, WhenHeld};
use commit::{CommitThread, Done, Work};
use machine::{Command, Content, Cut, Ending, Event, Machine, Phase};
use mail::Mail;
use shadow::Shadow;
use status::Figures;
use swap::{NewStreams, UnderWay, Watch};
use tasks::{Made, TaskEntry, TaskFactory};

/// How a job ended.
#[derive(Debug)]
pub struct Report {
    /// Why.
    pub ending: Ending,
    /// The last committed epoch.
    pub epoch: Epoch,
    /// Tasks that stopped.
    pub failures: Vec<TaskFailure>,
    /// What went wrong with the host, for [`Ending::Host`].
    pub error: Option<CommitError>,
    /// What hangs, for [`Ending::Stuck`], and for [`Ending::Host`] if nothing failed.
    pub stuck: Option<String>,
    /// Nothing new was found: the inputs had ended before.
    pub nothing_new: bool,
    /// Messages processed by this process.
    pub processed: u64,
}

struct StreamEntry {
    id: StreamId,
    partitions: u32,
    writes: Option<Writes>,
}

impl StreamEntry {
    fn of(id: StreamId, options: &StreamOptions) -> StreamEntry {
        StreamEntry {
            id,
            partitions: options.partitions,
            writes: options.writes.clone(),
        }
    }
}

/// A barrier that has been set, and what has been sealed for it.
struct Barrier {
    trigger: Trigger,
    began: Instant,
    /// The same, on the wall clock.
    time: i64,
    sealed: Vec<SealedTask>,
    /// Other records of the epoch.
    records: Vec<Encoded>,
    /// Stages that hold what they do after it.
    holds: Vec<HoldBegin>,
    /// Stages whose state is migrated with it.
    migrated: Vec<Migrated>,
    /// Streams that the job writes after it.
    streams: NewStreams,
    /// Later than this it is late, which is logged.
    late_at: Instant,
}

/// Times of the job: see [`JobOptions::checkpoint_timeout`] and [`JobOptions::drain_timeout`].
struct Timeouts {
    checkpoint: Duration,
    drain: Duration,
}

impl Timeouts {
    fn of(options: &JobOptions) -> Timeouts {
        Timeouts {
            checkpoint: options.checkpoint_timeout,
            drain: options.drain_timeout,
        }
    }
}

/// Requests that wait for an event.
#[derive(Default)]
struct Waiting {
    /// For the checkpoint after the next barrier.
    next_checkpoint: Vec<oneshot::Sender<Epoch>>,
    /// For the one under way.
    checkpoint: Vec<oneshot::Sender<Epoch>>,
    /// For a task to come to a phase.
    changes: Vec<PendingChange>,
}

/// A change of a task that is under way.
struct PendingChange {
    task: TaskIndex,
    goal: Phase,
    reply: oneshot::Sender<Result<(), String>>,
}

/// An opened job.
pub struct Coordinator {
    machine: Machine,
    mail: Receiver<Mail>,
    sender: Sender<Mail>,
    io: tokio::runtime::Handle,
    scheduler: Scheduler,
    commit: CommitThread,
    factory: Arc<TaskFactory>,
    /// By their places in the scheduler.
    tasks: Vec<TaskEntry>,
    /// Tasks that were made and have not taken their places.
    made: BTreeMap<TaskIndex, Made>,
    loader: Option<Arc<dyn StageLoader>>,
    /// Where components are kept.
    code: CodeFolder,
    swaps: Swaps,
    /// The swap that is not over.
    swap: Option<UnderWay>,
    /// Code that takes over before anything is processed, by the places of the stages: the state is migrated for it.
    successors: BTreeMap<usize, Box<StageOptions>>,
    /// New code that is tried, or was, and may be wanted.
    shadows: BTreeMap<usize, Shadow>,
    /// Code that is not wanted any more, and may still be in a call.
    unwanted: Vec<Shadow>,
    /// New code that is watched, by the places of the stages.
    watches: BTreeMap<usize, Watch>,
    /// What stages hold.
    holds: HoldFigures,
    /// The swaps of stages whose held output goes out.
    releasing: BTreeMap<StageId, u64>,
    /// What the code that came back last had failed at, by the places of the stages.
    lately: BTreeMap<usize, Outcomes>,
    streams: BTreeMap<String, StreamEntry>,
    /// Streams that come with the epoch that is being committed.
    declared: Option<(Epoch, NewStreams)>,
    logs: Arc<Logs>,
    letters: Letters,
    clock: Arc<dyn Clock>,
    figures: Figures,
    timeouts: Timeouts,
    until_idle: bool,
    barrier: Option<Barrier>,
    waiting: Waiting,
    /// When the drain began.
    draining: Option<Instant>,
    /// Called once when the job is asked to stop: see [`JobOptions::last_resort`].
    last_resort: Option<LastResort>,
    failures: Vec<TaskFailure>,
    /// How held tasks are to go on, until they are asked to.
    resuming: BTreeMap<TaskIndex, Resume>,
    /// Why the last attempt at a checkpoint failed.
    error: Option<CommitError>,
    /// Tells the commit that the drain's time is over.
    hurry: Arc<AtomicBool>,
    round_robin: u64,
}

impl Coordinator {
    /// Opens the state directory, makes the tasks and starts reading.
    ///
    /// # Errors
    /// The directory is refused, or the state in it cannot be read.
    pub fn open(
        options: JobOptions,
        io: &tokio::runtime::Handle,
        holder: Option<&Holder>,
    ) -> Result<Coordinator, OpenError> {
        open::open(options, io, holder)
    }

    /// Whether [`Coordinator::open`] would accept the state directory and the outputs. Changes nothing.
    ///
    /// # Errors
    /// Why not.
    pub fn check(options: &JobOptions) -> Result<(), OpenError> {
        open::check(options)
    }

    /// How others ask it.
    pub fn handle(&self) -> Handle {
        Handle {
            mail: self.sender.clone(),
            letters: self.letters.clone(),
            swaps: self.swaps.clone(),
            view: View::of_running(Arc::clone(&self.figures.db), Arc::clone(&self.logs)),
        }
    }

    /// Runs the job to its end.
    pub fn run(mut self) -> Report {
        let mut ending = self.begin_migrations();
        while ending.is_none() {
            let event = match self.wait(Instant::now()) {
                Ok(mail) => self.event_of_mail(mail),
                Err(RecvTimeoutError::Timeout) => Event::Tick,
                Err(RecvTimeoutError::Disconnected) => panic!("the loop holds a sender of its own"),
            };
            ending = self.step(&event);
            self.log_late_barrier();
            self.look_at_watches();
            self.take_back();
            ending = ending.or_else(|| self.begin_migrations());
            if self.machine.hurried().is_some()
                && let Some(last_resort) = self.last_resort.take()
            {
                last_resort(self.timeouts.drain + machine::LAST_RESORT_AFTER);
            }
        }
        let Some(ending) = ending else {
            unreachable!("the loop ends with an ending")
        };
        self.close(ending)
    }

    /// Begins what the start of the job has to migrate, one stage after the other.
    fn begin_migrations(&mut self) -> Option<Ending> {
        let event = self.begin_next_migration()?;
        self.step(&event)
    }

    /// Tells the machine, and executes what it commands. Returns the ending, if that is one.
    fn step(&mut self, event: &Event) -> Option<Ending> {
        let commands = self.machine.step(event, Instant::now());
        let ending = commands
            .into_iter()
            .find_map(|command| self.execute(command));
        self.answer_changes();
        ending
    }

    fn event_of_mail(&mut self, mail: Mail) -> Event {
        match mail {
            Mail::Notice(notice) => self.event_of_notice(notice),
            Mail::Done(done) => self.event_of_done(done),
            Mail::Made(task, made) => match *made {
                Ok(_) if self.is_leaving(task) => Event::NotNeeded(task),
                // Other code has taken over meanwhile.
                Ok(made) if self.is_outdated(&made) => {
                    self.make(task);
                    Event::Tick
                }
                Ok(made) => {
                    self.made.insert(task, made);
                    Event::Made(task)
                }
                Err(error) => {
                    let cause = Cause::Restore(Arc::new(error));
                    self.note_failure(task, cause)
                }
            },
            Mail::GoBack(at, generation, why) => self.event_of_going_back(at, generation, why),
            Mail::ShadowEnded(id, ended) => {
                self.note_shadow_ended(id, ended);
                Event::Tick
            }
            Mail::Candidate(id, made) => self.event_of_candidate(id, *made),
            Mail::Stop => Event::Stop,
            Mail::Quiet => Event::Quiet,
            Mail::CaughtUp if !self.is_read() => Event::Tick,
            Mail::CaughtUp => Event::CaughtUp,
            Mail::Idle if !self.is_read() => Event::Tick,
            // Commit first: the job may read what this commit publishes.
            Mail::Idle if self.machine.is_changed() => Event::Wanted(Trigger::EndOfInput),
            Mail::Idle => Event::Idle,
            Mail::Request(request) => self.event_of_request(request),
        }
    }

    fn event_of_notice(&mut self, notice: Notice) -> Event {
        match notice {
            Notice::Changed(task) => Event::Changed(task),
            Notice::Bytes => Event::Bytes,
            Notice::Requested(task, requests) => match requests.stop {
                Some(reason) => self.stopped_by_guest(task, reason),
                None => Event::Wanted(Trigger::Guest),
            },
            Notice::Sealed(task, epoch, sealed) => {
                let content = match &sealed {
                    Some(_) => Content::Some,
                    None => Content::None,
                };
                if let Some(barrier) = &mut self.barrier {
                    barrier.sealed.extend(sealed.map(|sealed| *sealed));
                }
                Event::Sealed(task, epoch, content)
            }
            Notice::Ended(task) => Event::Ended(task),
            Notice::Stopped(task) => Event::Stopped(task),
            Notice::Left(task) => {
                self.tasks[task.0].inbox = self.factory.empty_inbox();
                Event::Left(task)
            }
            Notice::Begun => Event::Wanted(Trigger::Start),
            Notice::Migrated(task) => self.event_of_migrated(task),
            Notice::Regressed(task, failure) => self.event_of_regression(task, &failure),
            Notice::Failed(task, failure, met) => {
                tracing::error!("{failure}");
                let waits = failure.waits || self.is_for_other_code(task, &failure);
                self.failures.push(*failure);
                match waits {
                    true => Event::Held(task),
                    false => Event::Failed(task, met),
                }
            }
        }
    }

    fn stopped_by_guest(&mut self, task: TaskIndex, reason: String) -> Event {
        let entry = &self.tasks[task.0];
        tracing::info!(task = %entry.name, "the guest asks to stop: {reason}");
        self.note_failure(task, Cause::Stop(reason))
    }

    fn note_failure(&mut self, task: TaskIndex, cause: Cause) -> Event {
        let entry = &self.tasks[task.0];
        // A guest that asks to stop means the job.
        let stage = self.factory.stage(entry.spec.stage);
        let waits = stage.options.rules.when_held == WhenHeld::Wait;
        let waits = waits && !matches!(cause, Cause::Stop(_));
        self.failures.push(TaskFailure {
            stage: stage.options.name.clone(),
            task: entry.name.clone(),
            stream: None,
            offsets: None,
            waits,
            blames_code: false,
            generation: stage.generation,
            cause,
        });
        match waits {
            true => Event::Held(task),
            false => Event::Failed(task, Met::Later),
        }
    }

    fn event_of_done(&mut self, done: Done) -> Event {
        match done {
            Done::Committed(epoch, record) => {
                tracing::debug!(%epoch, trigger = %record.trigger, entries = record.entries, messages = record.messages,
                    bytes = record.bytes, duration_us = record.duration_us, pause_us = record.pause_us, "checkpoint");
                self.error = None;
                self.figures.note_committed(epoch, *record);
                self.note_declared(epoch);
                self.note_cut_committed(epoch);
                self.look_at_holds(false);
                Event::Committed(epoch)
            }
            Done::Delivered(epoch, deliveries) => Event::Delivered(epoch, deliveries),
            Done::AttemptFailed(failed, error) => {
                self.figures.failed_attempts += 1;
                tracing::warn!("{error}; attempt {failed} failed");
                self.error = Some(error);
                Event::AttemptFailed(failed)
            }
            Done::DiskShort => {
                self.look_at_holds(true);
                Event::Tick
            }
            Done::Released(stage) => {
                self.note_released(stage);
                Event::Tick
            }
            Done::TakenBack(stage) => self.event_of_taken_back(stage),
            Done::Fatal(error) => {
                self.error = Some(error);
                Event::CommitFailed
            }
        }
    }

    /// Executes a command. Returns the ending, if it is one.
    fn execute(&mut self, command: Command) -> Option<Ending> {
        match command {
            Command::Seal(epoch, trigger, tasks, cut) => {
                self.set_barrier(epoch, trigger, tasks, cut);
            }
            Command::Commit(epoch) => {
                let Some(mut barrier) = self.barrier.take() else {
                    panic!("an epoch is committed without a barrier");
                };
                self.record_watches(epoch, &mut barrier);
                self.declare(epoch, std::mem::take(&mut barrier.streams));
                self.commit.give(Work::Epoch(Box::new(SealedEpoch {
                    epoch,
                    trigger: barrier.trigger.name(),
                    began: barrier.began,
                    time: barrier.time,
                    tasks: barrier.sealed,
                    records: barrier.records,
                    holds: barrier.holds,
                    migrated: barrier.migrated,
                })));
            }
            Command::Release(tasks) => self.scheduler.release(tasks),
            Command::StopTask(task) => {
                self.tasks[task.0].stop_readers();
                self.scheduler.stop_task(task);
            }
            Command::Resume(task) => {
                let how = self.resuming.remove(&task);
                let how = how.unwrap_or(Resume::Retry { unjudged: 0 });
                self.forget_failure(task);
                self.scheduler.resume(task, how);
            }
            Command::Remove(task) => self.scheduler.remove(task),
            Command::Make(task) => self.make(task),
            Command::Put(task) => self.put(task),
            Command::Discard(task) => _ = self.made.remove(&task),
            Command::Drain => {
                self.draining = Some(Instant::now());
                self.give_up_swap();
                self.shadows.values().for_each(Shadow::stop);
                self.tasks.iter().for_each(TaskEntry::stop_readers);
                self.scheduler.drain();
            }
            Command::GiveUp => {
                tracing::warn!(
                    "drain-timeout has passed: calls that still run are interrupted, their batches undone"
                );
                self.scheduler.give_up();
                self.hurry.store(true, Ordering::Release);
            }
            Command::Answer(epoch) => {
                for reply in self.waiting.checkpoint.drain(..) {
                    let _ = reply.send(epoch);
                }
            }
            Command::Exit(ending) => return Some(ending),
        }
        None
    }

    fn set_barrier(&mut self, epoch: Epoch, trigger: Trigger, tasks: Vec<TaskIndex>, cut: Cut) {
        let now = Instant::now();
        let mut barrier = Barrier {
            trigger,
            began: now,
            time: self.clock.now_ms(),
            sealed: Vec::with_capacity(tasks.len()),
            records: Vec::new(),
            holds: Vec::new(),
            migrated: Vec::new(),
            streams: NewStreams::new(),
            late_at: now + self.timeouts.checkpoint,
        };
        let waiting = &mut self.waiting;
        waiting.checkpoint.append(&mut waiting.next_checkpoint);
        let sources = match cut {
            Cut::Some => self.cut(epoch, &mut barrier),
            Cut::None => BTreeMap::new(),
        };
        self.barrier = Some(barrier);
        let code_of = |task: TaskIndex| sources.get(&self.tasks[task.0].spec.stage).cloned();
        self.scheduler.seal(tasks, epoch, code_of);
    }

    /// Whether a task was made of code that does not run any more.
    fn is_outdated(&self, made: &Made) -> bool {
        !Arc::ptr_eq(&made.stage, &self.factory.stage(made.entry.spec.stage))
    }

    /// Makes a task on another thread, because its state may be large. Its former readers have ended by then.
    fn make(&mut self, task: TaskIndex) {
        let entry = &mut self.tasks[task.0];
        let (readers, spec) = (entry.take_readers(), entry.spec);
        let (factory, sender) = (Arc::clone(&self.factory), self.sender.clone());
        self.io.spawn(async move {
            for reader in readers {
                let _ = reader.await;
            }
            let make = move || {
                let made = Box::new(factory.make(spec));
                let _ = sender.send(Mail::Made(task, made));
            };
            let _ = tokio::task::spawn_blocking(make).await;
        });
    }

    /// A task that was made takes its place.
    fn put(&mut self, task: TaskIndex) {
        let Some(made) = self.made.remove(&task) else {
            panic!("a task takes its place that was not made");
        };
        let entry = &mut self.tasks[task.0];
        entry.replace(made.entry);
        self.scheduler.put(task, made.task);
        entry.read(made.readers, task, &self.scheduler.waker(), &self.io);
        self.forget_failure(task);
    }

    /// What a task had failed with is over.
    fn forget_failure(&mut self, task: TaskIndex) {
        let name = &self.tasks[task.0].name;
        self.failures.retain(|failure| failure.task != *name);
    }

    fn close(mut self, ending: Ending) -> Report {
        let processed = self.tasks.iter().map(TaskEntry::processed).sum();
        let hangs = ending == Ending::Stuck || ending == Ending::Host && self.error.is_none();
        let stuck = hangs.then(|| self.what_is_stuck());
        if matches!(ending, Ending::Host | Ending::Stuck) {
            // The outcome of a write is unknown, or something hangs: nothing is waited for, nothing is closed in order.
            std::mem::forget(self.scheduler);
            std::mem::forget((self.shadows, self.unwanted));
        } else {
            let began = self.draining.unwrap_or_else(Instant::now);
            match ending {
                Ending::Finished if !self.factory.is_partial() => self.release_all(),
                // What still goes out does so at the next start.
                _ => self.hurry.store(true, Ordering::Release),
            }
            self.warn_of_holds();
            self.scheduler.stop(began + self.timeouts.drain);
            self.commit.stop();
            let shadows = self.shadows.into_values().chain(self.unwanted);
            let shadows: Vec<Shadow> = shadows.collect();
            if shadows.iter().any(Shadow::is_running) {
                shadows.iter().for_each(Shadow::stop);
                // Nobody else calls a guest any more.
                self.factory.interrupt();
            }
            shadows.into_iter().for_each(Shadow::join);
            self.factory.close();
        }
        self.swaps.end();
        Report {
            stuck,
            ending,
            epoch: self.figures.epoch,
            failures: self.failures,
            error: self.error,
            nothing_new: self.figures.checkpoints == 0 && processed == 0,
            processed,
        }
    }
}

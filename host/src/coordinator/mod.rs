//! One job in one process: opened, run by one event loop, and asked from outside through a [`Handle`].
//!
//! [`core`] decides and touches nothing; this loop takes messages from the scheduler, the commit thread, signals and operators,
//! hands them to it, and does what it says. Must never know JSON, flags or the environment.

pub mod core;

mod commit;
mod open;
mod options;
mod produce;
mod readers;
mod status;
mod stuck;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub use options::{InputOptions, JobOptions, LastResort, StageOptions, StreamKind, StreamOptions};
pub use produce::{Placed, Produce, ProduceError, Produced, place};
pub use status::{InputStatus, Status, TaskStatus};
pub use view::{Entry, Selection, TaskView, View};

use self::core::{Command, Core, Ending, Event};
use crate::checkpoint::decide::Trigger;
use crate::checkpoint::logs::Logs;
use crate::checkpoint::{CommitError, Holder, OpenError};
use crate::connectors::log::LogReader;
use crate::epoch::{SealedEpoch, SealedTask};
use crate::model::{Clock, Epoch, PartitionId, StreamId};
use crate::records::CheckpointRecord;
use crate::runtime::StageMetrics;
use crate::scheduler::{Notice, Scheduler, TaskIndex};
use crate::state::{CleanCache, Db};
use crate::task::{Cause, Inbox, TaskFailure, TaskFigures};
use commit::{CommitThread, Done, Job};
use readers::ReaderFigures;

/// All that the event loop hears.
enum Message {
    Notice(Notice),
    Done(Done),
    Stop,
    Quiet,
    Idle,
    CaughtUp,
    Request(Request),
}

/// What somebody outside asks.
enum Request {
    Status(oneshot::Sender<Status>),
    Checkpoint(oneshot::Sender<Result<Epoch, String>>),
    Produce(String, Vec<Produce>, oneshot::Sender<Produced>),
}

/// Asks a running job.
#[derive(Clone)]
pub struct Handle {
    messages: Sender<Message>,
    view: View,
}

/// The job has ended.
#[derive(Debug, thiserror::Error)]
#[error("the job has ended")]
pub struct JobEnded;

impl Handle {
    /// Stops the job in good order. Asking again changes nothing.
    pub fn stop(&self) {
        let _ = self.messages.send(Message::Stop);
    }

    /// What is committed.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What the job looks like now.
    ///
    /// # Errors
    /// The job has ended.
    pub async fn status(&self) -> Result<Status, JobEnded> {
        self.ask(Request::Status).await
    }

    /// Takes a checkpoint now and waits until it is durable and delivered. Where nothing has changed, the answer is the last.
    ///
    /// # Errors
    /// The job has ended.
    pub async fn checkpoint(&self) -> Result<Epoch, JobEnded> {
        self.ask(Request::Checkpoint).await?.map_err(|_| JobEnded)
    }

    /// Appends messages to a log stream: durable when it returns, all or nothing. Returns where each of them is.
    ///
    /// # Errors
    /// The job has ended; or, inside, the stream cannot be appended to.
    pub async fn produce(
        &self,
        stream: String,
        messages: Vec<Produce>,
    ) -> Result<Produced, JobEnded> {
        self.ask(|reply| Request::Produce(stream, messages, reply))
            .await
    }

    async fn ask<R>(
        &self,
        request: impl FnOnce(oneshot::Sender<R>) -> Request,
    ) -> Result<R, JobEnded> {
        let (reply, answer) = oneshot::channel();
        self.messages
            .send(Message::Request(request(reply)))
            .map_err(|_| JobEnded)?;
        answer.await.map_err(|_| JobEnded)
    }
}

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
    /// What did not stop, for [`Ending::Stuck`].
    pub stuck: Option<String>,
    /// Nothing new was found: the inputs had ended before.
    pub nothing_new: bool,
    /// Messages processed by this process.
    pub processed: u64,
}

/// A task as the coordinator sees it.
struct TaskEntry {
    name: String,
    component: String,
    figures: Arc<TaskFigures>,
    inbox: Arc<Inbox>,
    inputs: Vec<InputEntry>,
    /// Messages it had processed when the process started.
    processed_before: u64,
}

struct InputEntry {
    stream: String,
    id: StreamId,
    partition: PartitionId,
    is_log: bool,
    bounded: bool,
    reader: Arc<ReaderFigures>,
}

struct StreamEntry {
    id: StreamId,
    partitions: u32,
    is_log: bool,
}

/// An opened job.
pub struct Coordinator {
    job: String,
    core: Core,
    messages: Receiver<Message>,
    sender: Sender<Message>,
    scheduler: Scheduler,
    commit: CommitThread,
    readers: Vec<tokio::task::JoinHandle<()>>,
    tasks: Vec<TaskEntry>,
    streams: BTreeMap<String, StreamEntry>,
    logs: Arc<Logs>,
    metrics: BTreeMap<String, Arc<StageMetrics>>,
    cache: Arc<CleanCache>,
    db: Arc<Db>,
    clock: Arc<dyn Clock>,
    started: i64,
    epoch: Epoch,
    bytes_max: usize,
    until_idle: bool,
    /// What tasks have sealed for the barrier that is being set.
    sealed: Vec<SealedTask>,
    barrier: Option<(Trigger, Instant, i64)>,
    /// A barrier that is not set by then is late, and is told of.
    late_at: Instant,
    /// See [`JobOptions::checkpoint_timeout`] and [`JobOptions::drain_timeout`].
    timeout: Duration,
    drain_timeout: Duration,
    /// Called once when the job is asked to stop: see [`JobOptions::last_resort`].
    last_resort: Option<LastResort>,
    /// Who asked for a checkpoint since the last barrier.
    waiting: Vec<oneshot::Sender<Result<Epoch, String>>>,
    /// Who asked before it.
    answering: Vec<oneshot::Sender<Result<Epoch, String>>>,
    draining: bool,
    /// When the drain began.
    stopped_at: Option<Instant>,
    last_checkpoint: Option<CheckpointRecord>,
    checkpoints: u64,
    failed_attempts: u64,
    failures: Vec<TaskFailure>,
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
        holder: &Holder,
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
            messages: self.sender.clone(),
            view: View::of_running(Arc::clone(&self.db), Arc::clone(&self.logs)),
        }
    }

    /// Runs the job to its end.
    pub fn run(mut self) -> Report {
        let mut ending = None;
        while ending.is_none() {
            let now = Instant::now();
            let message = match self.wait(now) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => panic!("the loop holds a sender of its own"),
            };
            let commands = match message {
                None => self.core.step(&Event::Tick, Instant::now()),
                Some(message) => self.hear(message),
            };
            ending = self.obey(commands);
            self.tell_late();
            if self.core.hurried().is_some()
                && let Some(last_resort) = self.last_resort.take()
            {
                last_resort(self.drain_timeout + core::LAST_RESORT_AFTER);
            }
        }
        let Some(ending) = ending else {
            unreachable!("the loop ends with an ending")
        };
        self.close(ending)
    }

    fn wait(&self, now: Instant) -> Result<Message, RecvTimeoutError> {
        const LOOK: Duration = Duration::from_millis(5);
        let mut until = self.core.wake_at(now);
        if self.core.awaits_seals() {
            until = Some(until.map_or(self.late_at, |until| until.min(self.late_at)));
        }
        if self.draining && self.core.awaits_quiet() {
            if !self.scheduler.is_busy() {
                let _ = self.sender.send(Message::Quiet);
            }
            until = Some(until.map_or(now + LOOK, |until| until.min(now + LOOK)));
        } else if (self.until_idle || self.core.is_reprieved()) && !self.draining {
            if self.is_read() {
                let message = match self.core.is_reprieved() {
                    true => Message::CaughtUp,
                    false => Message::Idle,
                };
                let _ = self.sender.send(message);
            }
            until = Some(until.map_or(now + 4 * LOOK, |until| until.min(now + 4 * LOOK)));
        }
        match until {
            None => self
                .messages
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => self
                .messages
                .recv_timeout(until.saturating_duration_since(now)),
        }
    }

    fn hear(&mut self, message: Message) -> Vec<Command> {
        let now = Instant::now();
        let event = match message {
            Message::Notice(notice) => self.note(notice),
            Message::Done(done) => self.done(done),
            Message::Stop => Event::Stop,
            Message::Quiet => Event::Quiet,
            Message::CaughtUp if !self.is_read() => Event::Tick,
            Message::CaughtUp => Event::CaughtUp,
            Message::Idle if !self.is_read() => Event::Tick,
            // What was processed is committed first: it may be published to what the job reads.
            Message::Idle if self.core.is_changed() => Event::Wanted(Trigger::EndOfInput),
            Message::Idle => Event::Idle,
            Message::Request(Request::Status(reply)) => {
                let _ = reply.send(self.status());
                Event::Tick
            }
            Message::Request(Request::Checkpoint(reply)) => {
                self.waiting.push(reply);
                Event::Wanted(Trigger::Operator)
            }
            Message::Request(Request::Produce(stream, messages, reply)) => {
                self.produce(&stream, messages, reply);
                Event::Tick
            }
        };
        self.core.step(&event, now)
    }

    fn note(&mut self, notice: Notice) -> Event {
        match notice {
            Notice::Changed => Event::Changed,
            Notice::Bytes => Event::Bytes,
            Notice::Requested(index, requests) => {
                if let Some(reason) = requests.stop {
                    let entry = &self.tasks[index.0];
                    tracing::info!(task = %entry.name, "the guest asks to stop: {reason}");
                    return self.stopped_by_guest(index, reason);
                }
                Event::Wanted(Trigger::Guest)
            }
            Notice::Sealed(_, epoch, sealed) => {
                let content = sealed.is_some();
                self.sealed.extend(sealed.map(|sealed| *sealed));
                Event::Sealed(epoch, content)
            }
            Notice::Ended(index) => Event::Ended(index),
            Notice::Begun => Event::Wanted(Trigger::Start),
            Notice::Failed(index, failure, at_once) => {
                tracing::error!("{failure}");
                self.failures.push(*failure);
                Event::Failed(index, at_once)
            }
        }
    }

    fn stopped_by_guest(&mut self, index: TaskIndex, reason: String) -> Event {
        let task = self.tasks[index.0].name.clone();
        let stage = task
            .rsplit_once('/')
            .map_or(task.as_str(), |(stage, _)| stage)
            .to_owned();
        self.failures.push(TaskFailure {
            stage,
            task,
            stream: None,
            offsets: None,
            cause: Cause::Stop(reason),
        });
        Event::Failed(index, false)
    }

    fn done(&mut self, done: Done) -> Event {
        match done {
            Done::Committed(epoch, tasks, record) => {
                tracing::debug!(%epoch, trigger = %record.trigger, entries = record.entries, messages = record.messages,
                    bytes = record.bytes, duration_us = record.duration_us, pause_us = record.pause_us, "checkpoint");
                self.epoch = epoch;
                self.error = None;
                self.checkpoints += 1;
                self.last_checkpoint = Some(*record);
                self.scheduler.released(tasks);
                Event::Committed(epoch)
            }
            Done::Delivered(epoch, unrecorded) => Event::Delivered(epoch, unrecorded),
            Done::AttemptFailed(failed, error) => {
                self.failed_attempts += 1;
                tracing::warn!("{error}; attempt {failed} failed");
                self.error = Some(error);
                Event::AttemptFailed(failed)
            }
            Done::Fatal(error) => {
                self.error = Some(error);
                Event::CommitFailed
            }
        }
    }

    /// Does what the core says. Returns the ending, where it says so.
    fn obey(&mut self, commands: Vec<Command>) -> Option<Ending> {
        for command in commands {
            match command {
                Command::SetBarrier(epoch, trigger) => {
                    let now = Instant::now();
                    self.barrier = Some((trigger, now, self.clock.now_ms()));
                    self.late_at = now + self.timeout;
                    self.answering.append(&mut self.waiting);
                    let tasks = self.scheduler.barrier(epoch);
                    let more = self.core.barrier_set(tasks, Instant::now());
                    if let Some(ending) = self.obey(more) {
                        return Some(ending);
                    }
                }
                Command::Commit(epoch) => {
                    let Some((trigger, began, time)) = self.barrier.take() else {
                        panic!("an epoch is committed without a barrier");
                    };
                    self.commit.give(Job::Epoch(Box::new(SealedEpoch {
                        epoch,
                        trigger: trigger.name(),
                        began,
                        time,
                        tasks: std::mem::take(&mut self.sealed),
                    })));
                }
                Command::Drain => {
                    self.draining = true;
                    self.stopped_at = Some(Instant::now());
                    self.readers.iter().for_each(tokio::task::JoinHandle::abort);
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
                    for reply in self.answering.drain(..) {
                        let _ = reply.send(Ok(epoch));
                    }
                }
                Command::Exit(ending) => return Some(ending),
            }
        }
        None
    }

    fn close(self, ending: Ending) -> Report {
        let processed = self
            .tasks
            .iter()
            .map(|task| task.figures.processed.load(Ordering::Relaxed) - task.processed_before)
            .sum();
        let stuck = (ending == Ending::Stuck).then(|| self.what_is_stuck());
        if matches!(ending, Ending::Host | Ending::Stuck) {
            // The outcome of a write is unknown, or something hangs: nothing is waited for, nothing is closed in order.
            std::mem::forget(self.scheduler);
        } else {
            let began = self.stopped_at.unwrap_or_else(Instant::now);
            self.scheduler.stop(began + self.drain_timeout);
            self.commit.stop();
        }
        Report {
            stuck,
            ending,
            epoch: self.epoch,
            failures: self.failures,
            error: self.error,
            nothing_new: self.checkpoints == 0 && processed == 0,
            processed,
        }
    }

    /// Whether every input is read to its end, and nothing is on its way.
    fn is_read(&self) -> bool {
        let input_is_idle = |input: &InputEntry, figures: &TaskFigures, at: usize| {
            if input.is_log {
                let (_, end) = self.logs.bounds(input.id, input.partition);
                return figures.positions[at].load(Ordering::Acquire) >= end;
            }
            let reader = &input.reader;
            // A bounded input that says it has nothing now is only slow.
            let idle = !input.bounded && reader.idle.load(Ordering::Acquire);
            idle || reader.ended.load(Ordering::Acquire)
        };
        !self.core.is_committing()
            && !self.scheduler.is_busy()
            && self.tasks.iter().enumerate().all(|(index, task)| {
                self.core.has_failed(TaskIndex(index))
                    || task.inbox.is_empty()
                        && task
                            .inputs
                            .iter()
                            .enumerate()
                            .all(|(at, input)| input_is_idle(input, &task.figures, at))
            })
    }

    fn produce(&mut self, stream: &str, messages: Vec<Produce>, reply: oneshot::Sender<Produced>) {
        let refused = |why: String| Err(ProduceError::Refused(why));
        let (id, partitions) = match self.streams.get(stream) {
            Some(entry) if entry.is_log => (entry.id, entry.partitions),
            Some(_) => {
                let _ = reply.send(refused(format!("stream {stream:?} is not a log stream")));
                return;
            }
            None => {
                let _ = reply.send(refused(format!("the job does not use a stream {stream:?}")));
                return;
            }
        };
        let placed = match place(messages, partitions, &mut self.round_robin) {
            Ok(placed) => placed,
            Err(why) => {
                let _ = reply.send(refused(why));
                return;
            }
        };
        let (done, appended) = oneshot::channel();
        self.commit.give(Job::Append(id, placed.by_partition, done));
        // The answer comes from the commit thread; somebody must wait for it who is not this loop.
        let places = placed.places;
        std::thread::spawn(move || {
            let answer = match appended.blocking_recv() {
                Ok(Ok(first)) => Ok(places
                    .into_iter()
                    .map(|(partition, index)| {
                        (
                            partition,
                            first.get(&partition).copied().unwrap_or_default() + index,
                        )
                    })
                    .collect()),
                Ok(Err(why)) => Err(ProduceError::Unknown(why)),
                Err(_) => Err(ProduceError::Unknown(
                    "the job ended while the messages were being appended".into(),
                )),
            };
            let _ = reply.send(answer);
        });
    }
}

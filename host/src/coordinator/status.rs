//! What a job looks like from outside, as plain values.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Coordinator;
use super::shadow::ShadowReport;
use super::tasks::{InputEntry, TaskEntry};
use crate::checkpoint::Progress;
use crate::connectors::log::LogReader;
use crate::connectors::{Remote, Standing};
use crate::model::{Epoch, Offset, StageId, TimestampMs};
use crate::records::{
    CheckpointRecord, FaultCounts, Held, HoldRecord, StageRecord, StreamRecord, SwapRecord,
};
use crate::runtime::{FaultKind, MetricSnapshot, StageMetrics};
use crate::state::{CleanCache, Db, Family};
use crate::task::{Doing, TaskFailure};

/// A job at a moment.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its name.
    pub job: String,
    /// It is being stopped.
    pub draining: bool,
    /// The last committed epoch.
    pub epoch: Epoch,
    /// The last checkpoint of this process.
    pub last_checkpoint: Option<CheckpointRecord>,
    /// Checkpoints of this process.
    pub checkpoints: u64,
    /// Attempts that failed, in this process.
    pub failed_attempts: u64,
    /// What the next checkpoint has waited for, for longer than a second: tasks and what they do, or the stage of its commit.
    pub waits_for: Option<String>,
    /// Bytes of the open epoch.
    pub open_bytes: u64,
    /// Bytes of the epoch that is being committed.
    pub sealed_bytes: u64,
    /// How many bytes may be uncommitted.
    pub bytes_max: u64,
    /// Bytes of committed values at hand, and how many may be.
    pub cache: (u64, u64),
    /// Instances alive.
    pub instances: u64,
    /// When the process started with the job.
    pub started: TimestampMs,
    /// Its stages, in the order of the job file.
    pub stages: Vec<(String, StageRecord)>,
    /// Its last swaps and those of this process, by number.
    pub swaps: Vec<(u64, SwapRecord)>,
    /// What stages hold of what their new code has done.
    pub holds: BTreeMap<StageId, HoldRecord>,
    /// What the shadows of this process have found, by the numbers of their swaps.
    pub shadows: BTreeMap<u64, ShadowReport>,
    /// How many swaps of this process came to which end, by stage and end.
    pub swap_outcomes: BTreeMap<(String, &'static str), u64>,
    /// Its tasks.
    pub tasks: Vec<TaskStatus>,
    /// Why tasks stopped.
    pub failures: Vec<TaskFailure>,
    /// What guests reported, by stage.
    pub metrics: BTreeMap<String, MetricSnapshot>,
    /// For each stream with dead letters how many are open, once that is known, and how many that were open retention has deleted in
    /// this process.
    pub letters: Vec<(String, Option<u64>, u64)>,
    /// How the places are that it depends on.
    pub remotes: Vec<Standing>,
    /// Figures of the database, by name.
    pub database: BTreeMap<&'static str, u64>,
}

/// A task at a moment.
#[derive(Debug, Clone)]
pub struct TaskStatus {
    /// Its name.
    pub task: String,
    /// Its partition.
    pub partition: u32,
    /// The SHA-256 of its component.
    pub component: String,
    /// Messages processed since the start of the job.
    pub processed: u64,
    /// Messages rejected since the start of the job.
    pub rejected: u64,
    /// Batches kept by this process.
    pub batches: u64,
    /// What it does.
    pub doing: Doing,
    /// What it is held at: the name of the stream, if it is a message, and the rest.
    pub held: Option<(Option<String>, Held)>,
    /// What went wrong with messages since the start of the job.
    pub counts: FaultCounts,
    /// Calls that failed in this process, by kind.
    pub faults: Vec<(FaultKind, u64)>,
    /// Searches for a message that is to blame, and the nanoseconds they took, in this process.
    pub isolations: (u64, u64),
    /// How many nanoseconds its calls spent in the component, and in functions of the host, since the start of the process.
    pub call_times: (u64, u64),
    /// How often it tried again to go on, in this process.
    pub restarts: u64,
    /// Messages of a batch at most.
    pub batch_limit: u64,
    /// Batches undone by this process.
    pub undone: u64,
    /// Instances made by this process.
    pub instances: u64,
    /// Instances that this process replaced because they were worn out.
    pub recycled: u64,
    /// Keys that wait for a dead letter.
    pub parked: u64,
    /// Dead letters that wait to be processed again.
    pub queued: u64,
    /// Its inputs.
    pub inputs: Vec<InputStatus>,
}

/// An input of a task at a moment.
#[derive(Debug, Clone)]
pub struct InputStatus {
    /// The stream.
    pub stream: String,
    /// The offset of the next message, of kept batches.
    pub position: Offset,
    /// How far its reader has come: done, total, and whether these are bytes.
    pub progress: Option<(u64, u64, bool)>,
    /// Messages behind the end, where the system knows.
    pub lag: Option<u64>,
    /// Messages that were gone before they were read, in this process.
    pub skipped: u64,
    /// The input has ended.
    pub ended: bool,
}

/// What the loop counts and knows for those who ask.
pub(super) struct Figures {
    pub(super) job: String,
    /// When the process started with the job.
    pub(super) started: TimestampMs,
    /// The last committed epoch.
    pub(super) epoch: Epoch,
    pub(super) last_checkpoint: Option<CheckpointRecord>,
    /// Checkpoints of this process.
    pub(super) checkpoints: u64,
    /// Attempts that failed, in this process.
    pub(super) failed_attempts: u64,
    pub(super) bytes_max: usize,
    /// Where the epoch is that is being committed.
    pub(super) progress: Progress,
    pub(super) metrics: BTreeMap<String, Arc<StageMetrics>>,
    pub(super) cache: Arc<CleanCache>,
    pub(super) db: Arc<Db>,
    pub(super) remotes: Vec<Arc<dyn Remote>>,
}

impl Figures {
    pub(super) fn note_committed(&mut self, epoch: Epoch, record: CheckpointRecord) {
        self.epoch = epoch;
        self.checkpoints += 1;
        self.last_checkpoint = Some(record);
    }

    fn database(&self) -> BTreeMap<&'static str, u64> {
        let properties = [
            ("write-stopped", "rocksdb.is-write-stopped"),
            ("delayed-write-rate", "rocksdb.actual-delayed-write-rate"),
            (
                "pending-compaction-bytes",
                "rocksdb.estimate-pending-compaction-bytes",
            ),
            ("state-bytes", "rocksdb.live-sst-files-size"),
            ("memtable-bytes", "rocksdb.cur-size-all-mem-tables"),
            ("background-errors", "rocksdb.background-errors"),
        ];
        let of = |(name, property)| Some((name, self.db.property(Family::State, property)?));
        properties.into_iter().filter_map(of).collect()
    }
}

impl Coordinator {
    /// The job as it is now.
    pub(super) fn status(&self) -> Status {
        let (open, sealed) = self.scheduler.uncommitted();
        let figures = &self.figures;
        Status {
            job: figures.job.clone(),
            draining: self.draining.is_some(),
            epoch: figures.epoch,
            last_checkpoint: figures.last_checkpoint.clone(),
            checkpoints: figures.checkpoints,
            failed_attempts: figures.failed_attempts,
            waits_for: {
                let over = Duration::from_secs(1);
                self.waits_for(over).or_else(|| self.commit_stands(over))
            },
            open_bytes: open as u64,
            sealed_bytes: sealed as u64,
            bytes_max: figures.bytes_max as u64,
            cache: figures.cache.usage(),
            instances: self.scheduler.instances() as u64,
            started: figures.started,
            stages: {
                let stages = self.factory.stages().enumerate();
                let named = stages.map(|(at, now)| {
                    let record = self
                        .recorded_before(at)
                        .unwrap_or_else(|| now.record.clone());
                    (now.options.name.clone(), record)
                });
                named.collect()
            },
            swaps: self.swaps.list(),
            holds: self.holds.all(),
            shadows: self.swaps.shadows(),
            swap_outcomes: self.swaps.outcomes(),
            tasks: self
                .tasks
                .iter()
                .map(|task| self.task_status(task))
                .collect(),
            failures: self.failures.clone(),
            metrics: figures
                .metrics
                .iter()
                .map(|(stage, metrics)| (stage.clone(), metrics.snapshot()))
                .collect(),
            letters: self
                .streams
                .iter()
                .filter_map(|(name, stream)| {
                    let (open, expired) = self.logs.letters(stream.id)?;
                    Some((name.clone(), open, expired))
                })
                .collect(),
            remotes: figures
                .remotes
                .iter()
                .map(|remote| remote.standing())
                .collect(),
            database: figures.database(),
        }
    }

    /// The name of the stream with the message that a task is held at.
    fn held_stream(&self, task: &TaskEntry, held: &Held) -> Option<String> {
        let (stream, _) = held.place()?;
        let mut inputs = task.inputs.iter();
        inputs
            .find(|input| input.id == stream)
            .map(|input| input.stream.clone())
    }

    fn task_status(&self, task: &TaskEntry) -> TaskStatus {
        let figures = &task.figures;
        let input = |(at, input): (usize, &InputEntry)| {
            let position = figures.positions[at].load(Ordering::Relaxed);
            let reader = &input.reader;
            let progress = reader.known.load(Ordering::Acquire).then(|| {
                let done = reader.done.load(Ordering::Relaxed);
                (
                    done,
                    reader.total.load(Ordering::Relaxed),
                    reader.bytes.load(Ordering::Relaxed),
                )
            });
            let lag = if input.in_log {
                Some(
                    self.logs
                        .bounds(input.id, input.partition)
                        .1
                        .saturating_sub(position),
                )
            } else {
                match progress {
                    Some((done, total, false)) => Some(total.saturating_sub(done)),
                    _ => None,
                }
            };
            InputStatus {
                stream: input.stream.clone(),
                position,
                progress,
                lag,
                skipped: reader.skipped.load(Ordering::Relaxed),
                ended: reader.ended.load(Ordering::Acquire),
            }
        };
        let readers = task.inputs.iter().map(|input| &input.reader.restarts);
        let reader_restarts: u64 = readers.map(|count| count.load(Ordering::Relaxed)).sum();
        let all = task.inputs.iter().enumerate();
        let shown = all.filter(|(_, input)| !StreamRecord::is_hidden(&input.stream));
        let mut queue = task.inputs.iter().enumerate();
        let queue = queue.find(|(_, input)| StreamRecord::is_hidden(&input.stream));
        let queued = queue.and_then(|(at, queue)| input((at, queue)).lag);
        TaskStatus {
            parked: figures.parked(),
            queued: queued.unwrap_or(0),
            task: task.name.clone(),
            partition: task.spec.partition.0,
            component: self.factory.component_of(task.spec),
            processed: figures.processed.load(Ordering::Relaxed),
            rejected: figures.rejected.load(Ordering::Relaxed),
            doing: figures.doing(),
            held: figures
                .held()
                .map(|held| (self.held_stream(task, &held), held)),
            counts: figures.counts(),
            faults: figures.faults().collect(),
            isolations: figures.isolations(),
            call_times: figures.call_times(),
            restarts: figures.restarts() + reader_restarts,
            batch_limit: figures.batch_limit(),
            batches: figures.batches.load(Ordering::Relaxed),
            undone: figures.undone.load(Ordering::Relaxed),
            instances: figures.instances.load(Ordering::Relaxed),
            recycled: figures.recycled.load(Ordering::Relaxed),
            inputs: shown.map(input).collect(),
        }
    }
}

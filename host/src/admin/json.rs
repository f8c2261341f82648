//! What is shown, as JSON: field names are stable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::swaps::{self, StageCode, Swap};
use crate::connectors::Standing;
use crate::coordinator::{self, Catalog, Doing, ShadowReport, View};
use crate::model::{Position, StreamId};
use crate::records::{self, CheckpointRecord, StageRecord, StreamRecord, SwapRecord, TaskRecord};
use crate::state::StateError;

/// A job at a moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The job's name.
    pub job: String,
    /// `running`, `draining` or `stopped`.
    pub state: String,
    /// The last committed epoch.
    pub epoch: u64,
    /// The last checkpoint.
    pub last_checkpoint: Option<Checkpoint>,
    /// Checkpoints since the process was started.
    pub checkpoints: u64,
    /// Failed attempts since the process was started.
    pub failed_attempts: u64,
    /// Whom the next checkpoint has waited for, for longer than a second, and what they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Bytes of the open epoch.
    pub open_bytes: u64,
    /// Bytes of the epoch that is being committed.
    pub sealed_bytes: u64,
    /// How many bytes may be uncommitted.
    pub bytes_max: u64,
    /// Bytes of committed values at hand.
    pub cache_bytes: u64,
    /// How many may be.
    pub cache_bytes_max: u64,
    /// Instances alive.
    pub instances: u64,
    /// When the process was started, milliseconds since the Unix epoch.
    pub started: Option<i64>,
    /// The clusters of Kafka that it uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<Cluster>,
    /// The stages.
    pub stages: Vec<StageCode>,
    /// The tasks.
    pub tasks: Vec<Task>,
    /// Why tasks stopped.
    pub failures: Vec<String>,
    /// The last swaps, the oldest first, 100 at most.
    pub swaps: Vec<Swap>,
}

/// A cluster of Kafka at a moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cluster {
    /// Its name in the job file.
    pub cluster: String,
    /// Since when no broker can be reached, milliseconds since the Unix epoch.
    pub away_since: Option<i64>,
    /// The last error of the client that is not over.
    pub error: Option<String>,
    /// Since when output waits, milliseconds since the Unix epoch.
    pub undelivered_since: Option<i64>,
    /// Why the last attempt to deliver it failed.
    pub undelivered_why: Option<String>,
    /// Transactions committed since the process was started.
    pub transactions: u64,
}

impl Cluster {
    fn of(standing: &Standing) -> Cluster {
        let undelivered = standing.undelivered.as_ref();
        Cluster {
            cluster: standing.name.clone(),
            away_since: standing.away_since,
            error: standing.error.clone(),
            undelivered_since: undelivered.map(|(since, _)| *since),
            undelivered_why: undelivered.map(|(_, why)| why.clone()),
            transactions: standing.transactions,
        }
    }
}

/// A task at a moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Task {
    /// Its name.
    pub task: String,
    /// The SHA-256 of its component.
    pub component: String,
    /// Messages processed since the start of the job.
    pub processed: u64,
    /// Messages rejected since the start of the job.
    pub rejected: u64,
    /// Batches kept since the process was started.
    pub batches: u64,
    /// Batches undone since the process was started.
    pub undone: u64,
    /// `running`, `isolating`, `waiting`, `held`; of a job that does not run `stopped` or `held`.
    pub state: String,
    /// What it waits for a person at.
    pub held: Option<Held>,
    /// Calls that failed since the start of the job.
    pub faults: u64,
    /// Messages and records found to be at fault and passed over, since the start of the job.
    pub condemned: u64,
    /// Messages and records that became dead letters, since the start of the job.
    pub dead_lettered: u64,
    /// Messages and records passed over without a dead letter, since the start of the job.
    pub skipped: u64,
    /// Messages of a batch at most; 0 if the job does not run.
    pub batch_limit: u64,
    /// Its inputs.
    pub inputs: Vec<Input>,
}

/// What a task waits for a person at.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Held {
    /// The stream of the message, if it is one.
    pub stream: Option<String>,
    /// The partition of the task.
    pub partition: u32,
    /// The offset of the message.
    pub offset: Option<u64>,
    /// A word for the cause.
    pub kind: String,
    /// A sentence.
    pub reason: String,
    /// What the guest wrote and its backtrace, as lines.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Since when, milliseconds since the Unix epoch.
    pub since: i64,
}

impl Held {
    fn new(stream: Option<String>, partition: u32, held: &records::Held) -> Held {
        Held {
            stream,
            partition,
            offset: held.place().map(|(_, offset)| offset),
            kind: held.kind.clone(),
            reason: held.reason.clone(),
            detail: held.detail.clone(),
            since: held.since,
        }
    }
}

/// A held task was asked to go on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Resumed {
    /// The task.
    pub task: String,
    /// The stream of the message that it was held at, if it was one.
    pub stream: Option<String>,
    /// The offset of that message.
    pub offset: Option<u64>,
    /// The checkpoint that contains that the message was passed over.
    pub epoch: Option<u64>,
}

/// An input of a task.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Input {
    /// The stream.
    pub stream: String,
    /// The offset of the next message.
    pub position: u64,
    /// Messages behind the end, where the system knows.
    pub lag: Option<u64>,
    /// How far the reader has come, where the system knows.
    pub progress: Option<Progress>,
    /// The input has ended.
    pub ended: bool,
}

/// How far a reader has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    /// Read.
    pub done: u64,
    /// In all, as far as is known.
    pub total: u64,
    /// `messages` or `bytes`.
    pub unit: String,
}

/// What a checkpoint was.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checkpoint {
    /// Its epoch.
    pub epoch: u64,
    /// What asked for it.
    pub trigger: String,
    /// When the barrier was set, milliseconds since the Unix epoch.
    pub time: i64,
    /// From the barrier until the checkpoint was durable, microseconds.
    pub duration_us: u64,
    /// The longest pause of a task, microseconds.
    pub pause_us: u64,
    /// Tasks in it.
    pub tasks: u64,
    /// Entries of stores written.
    pub entries: u64,
    /// Messages sent.
    pub messages: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Failed attempts before it.
    pub failed_attempts: u32,
}

/// A committed position.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Offset {
    /// The task.
    pub task: String,
    /// The input stream.
    pub stream: String,
    /// The partition.
    pub partition: u32,
    /// The offset of the next message.
    pub position: u64,
    /// The epoch in which the task last changed.
    pub epoch: u64,
    /// The offset after the last message of the partition, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    /// Messages behind that end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// What is committed for the consumer group of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committed: Option<u64>,
}

/// A partition of a log stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LogPartition {
    /// The stream.
    pub stream: String,
    /// The partition.
    pub partition: u32,
    /// The first offset that is there.
    pub oldest: u64,
    /// The offset after the last.
    pub end: u64,
}

/// A checkpoint that was asked for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Taken {
    /// Its epoch.
    pub epoch: u64,
}

/// A place in a partition of a log stream.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OffsetAt {
    /// The offset.
    pub offset: u64,
}

/// A store of a stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Store {
    /// The stage.
    pub stage: String,
    /// The store.
    pub store: String,
    /// How many tasks have it.
    pub tasks: u32,
}

impl From<&CheckpointRecord> for Checkpoint {
    fn from(record: &CheckpointRecord) -> Checkpoint {
        Checkpoint {
            epoch: record.epoch.0,
            trigger: record.trigger.clone(),
            time: record.time,
            duration_us: record.duration_us,
            pause_us: record.pause_us,
            tasks: record.tasks,
            entries: record.entries,
            messages: record.messages,
            bytes: record.bytes,
            failed_attempts: record.failed_attempts,
        }
    }
}

impl From<&coordinator::Status> for Status {
    fn from(status: &coordinator::Status) -> Status {
        Status {
            job: status.job.clone(),
            state: if status.draining {
                "draining"
            } else {
                "running"
            }
            .to_owned(),
            epoch: status.epoch.0,
            last_checkpoint: status.last_checkpoint.as_ref().map(Checkpoint::from),
            checkpoints: status.checkpoints,
            failed_attempts: status.failed_attempts,
            waits_for: status.waits_for.clone(),
            clusters: status.remotes.iter().map(Cluster::of).collect(),
            open_bytes: status.open_bytes,
            sealed_bytes: status.sealed_bytes,
            bytes_max: status.bytes_max,
            cache_bytes: status.cache.0,
            cache_bytes_max: status.cache.1,
            instances: status.instances,
            started: Some(status.started),
            stages: swaps::stages(
                status.stages.iter().map(|(name, record)| (name, record)),
                &status.swaps,
                &status.shadows,
                &status.holds,
            ),
            swaps: swaps_of(&status.swaps, &status.shadows),
            tasks: status.tasks.iter().map(Task::from).collect(),
            failures: status.failures.iter().map(ToString::to_string).collect(),
        }
    }
}

fn swaps_of(swaps: &[(u64, SwapRecord)], shadows: &BTreeMap<u64, ShadowReport>) -> Vec<Swap> {
    let swaps = swaps.iter();
    let shown = swaps.map(|(id, swap)| Swap::of(*id, swap).with(shadows.get(id)));
    shown.collect()
}

impl From<&coordinator::TaskStatus> for Task {
    fn from(task: &coordinator::TaskStatus) -> Task {
        let input = |input: &coordinator::InputStatus| Input {
            stream: input.stream.clone(),
            position: input.position,
            lag: input.lag,
            progress: input.progress.map(|(done, total, bytes)| Progress {
                done,
                total,
                unit: if bytes { "bytes" } else { "messages" }.to_owned(),
            }),
            ended: input.ended,
        };
        Task {
            task: task.task.clone(),
            component: task.component.clone(),
            processed: task.processed,
            rejected: task.rejected,
            batches: task.batches,
            undone: task.undone,
            state: match task.doing {
                Doing::Running => "running",
                Doing::Isolating => "isolating",
                Doing::Waiting => "waiting",
                Doing::Held => "held",
                Doing::Migrating => "migrating",
            }
            .to_owned(),
            held: task
                .held
                .as_ref()
                .map(|(stream, held)| Held::new(stream.clone(), task.partition, held)),
            faults: task.counts.faults,
            condemned: task.counts.condemned,
            dead_lettered: task.counts.dead_lettered,
            skipped: task.counts.skipped,
            batch_limit: task.batch_limit,
            inputs: task.inputs.iter().map(input).collect(),
        }
    }
}

/// The positions in the job's own streams.
fn shown<'a>(
    record: &'a TaskRecord,
    catalog: &'a Catalog,
) -> impl Iterator<Item = (&'a StreamId, &'a Position)> {
    let hidden = |id: &StreamId| {
        let mut streams = catalog.streams.iter();
        streams.any(|(name, stream)| stream.id == *id && StreamRecord::is_hidden(name))
    };
    let positions = record.positions.iter();
    positions.filter(move |(stream, _)| !hidden(stream))
}

/// A task of a job that does not run.
fn stopped_task(task: coordinator::TaskView, catalog: &Catalog, view: &View) -> Task {
    let name_of = |id| {
        catalog
            .streams
            .iter()
            .find(|(_, stream)| stream.id == id)
            .map(|(name, _)| name.clone())
    };
    let stage = task.task.rsplit_once('/').map_or("", |(stage, _)| stage);
    let input = |(stream, position): (&StreamId, &Position)| {
        let record = catalog.streams.values().find(|record| record.id == *stream);
        let is_log = record.is_some_and(StreamRecord::is_in_log);
        let end = || view.log_bounds(*stream, task.id.partition).1;
        Input {
            stream: name_of(*stream).unwrap_or_default(),
            position: position.next,
            lag: is_log.then(|| end().saturating_sub(position.next)),
            progress: None,
            ended: task.record.ended,
        }
    };
    Task {
        component: catalog
            .stages
            .get(stage)
            .map(|stage| stage.code.component.clone())
            .unwrap_or_default(),
        processed: task.record.processed,
        rejected: task.record.rejected,
        batches: 0,
        undone: 0,
        state: match task.record.held {
            Some(_) => "held",
            None => "stopped",
        }
        .to_owned(),
        held: task.record.held.as_ref().map(|held| {
            let stream = held.place().and_then(|(stream, _)| name_of(stream));
            Held::new(stream, task.id.partition.0, held)
        }),
        faults: task.record.counts.faults,
        condemned: task.record.counts.condemned,
        dead_lettered: task.record.counts.dead_lettered,
        skipped: task.record.counts.skipped,
        batch_limit: 0,
        inputs: shown(&task.record, catalog).map(input).collect(),
        task: task.task,
    }
}

/// The status of a job that does not run.
///
/// # Errors
/// The database cannot be read.
pub fn stopped(job: &str, view: &View) -> Result<Status, StateError> {
    let catalog = view.catalog()?;
    let swaps = view.swaps()?;
    let tasks = view.tasks()?.into_iter();
    let tasks = tasks.map(|task| stopped_task(task, &catalog, view));
    let tasks = tasks.collect();
    Ok(Status {
        job: job.to_owned(),
        state: "stopped".to_owned(),
        epoch: view.commit()?.epoch.0,
        last_checkpoint: view.checkpoints()?.last().map(Checkpoint::from),
        checkpoints: 0,
        failed_attempts: 0,
        waits_for: None,
        clusters: Vec::new(),
        open_bytes: 0,
        sealed_bytes: 0,
        bytes_max: 0,
        cache_bytes: 0,
        cache_bytes_max: 0,
        instances: 0,
        started: None,
        stages: swaps::stages(&catalog.stages, &swaps, &BTreeMap::new(), &view.holds()?),
        swaps: swaps_of(&swaps, &BTreeMap::new()),
        tasks,
        failures: Vec::new(),
    })
}

/// Committed positions.
///
/// # Errors
/// The database cannot be read.
pub fn offsets(view: &View) -> Result<Vec<Offset>, StateError> {
    let catalog = view.catalog()?;
    let names: BTreeMap<_, _> = catalog
        .streams
        .iter()
        .map(|(name, stream)| (stream.id, name))
        .collect();
    let mut offsets = Vec::new();
    for task in view.tasks()? {
        for (stream, position) in shown(&task.record, &catalog) {
            offsets.push(Offset {
                task: task.task.clone(),
                stream: names
                    .get(stream)
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                partition: task.id.partition.0,
                position: position.next,
                epoch: task.record.stamp.container_epoch.0,
                end: None,
                lag: None,
                committed: None,
            });
        }
    }
    Ok(offsets)
}

/// The stores that the state directory knows.
///
/// # Errors
/// The database cannot be read.
pub fn stores(view: &View) -> Result<Vec<Store>, StateError> {
    let catalog = view.catalog()?;
    let mut found = Vec::new();
    for (stage, record) in &catalog.stages {
        let stores = record.stores.keys();
        let shown = stores.filter(|store| !StageRecord::is_hidden(store));
        found.extend(shown.map(|store| Store {
            stage: stage.clone(),
            store: store.clone(),
            tasks: record.partitions,
        }));
    }
    Ok(found)
}

/// Log streams and what they hold.
///
/// # Errors
/// The database cannot be read.
pub fn logs(view: &View) -> Result<Vec<LogPartition>, StateError> {
    let catalog = view.catalog()?;
    let mut found = Vec::new();
    for (name, stream) in catalog
        .streams
        .iter()
        .filter(|(name, stream)| stream.is_in_log() && !StreamRecord::is_hidden(name))
    {
        for partition in 0..stream.partitions {
            let (oldest, end) = view.log_bounds(stream.id, crate::model::PartitionId(partition));
            found.push(LogPartition {
                stream: name.clone(),
                partition,
                oldest,
                end,
            });
        }
    }
    Ok(found)
}

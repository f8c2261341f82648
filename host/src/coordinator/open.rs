//! Opening a job: the state directory, then what the job declares held against it, then tasks, workers and readers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;
use std::time::Instant;

use super::commit::{CommitOptions, CommitThread};
use super::core::{Core, CoreOptions};
use super::options::{JobOptions, StageOptions, StreamKind};
use super::readers::{Pace, Reader, ReaderFigures};
use super::{Coordinator, InputEntry, Message, StreamEntry, TaskEntry};
use crate::checkpoint::catalog::Catalog;
use crate::checkpoint::check;
use crate::checkpoint::directory::{self, DirectoryOptions};
use crate::checkpoint::logs::{LogStream, Logs};
use crate::checkpoint::publish::ExternalStream;
use crate::checkpoint::{Committer, Holder, OpenError};
use crate::connectors::log::{LogInput, Unread, start_of};
use crate::connectors::{FetchBounds, Input, OpenAt};
use crate::disk::DiskError;
use crate::model::{OutputIndex, PartitionId, Position, StartAt, StreamId, TaskId};
use crate::records::{self, OutboxRecord, TaskRecord};
use crate::runtime::{OutputPort, StageMetrics, TaskContext, TaskInfo, TaskMetrics};
use crate::scheduler::{Scheduler, SchedulerOptions, TaskIndex};
use crate::state::{CleanCache, Db, StateError, StoreHandle, TaskState};
use crate::task::{DeadLetters, Inbox, ReadAhead, Task, TaskOptions};

/// What is being put together.
struct Opening<'a> {
    options: &'a JobOptions,
    db: Arc<Db>,
    cache: Arc<CleanCache>,
    catalog: &'a Catalog,
    logs: Arc<Logs>,
    paces: BTreeMap<String, Arc<Pace>>,
    read_ahead: Arc<ReadAhead>,
    /// What a reader asks for at a time, at most.
    fetch_bytes: usize,
    tasks: Vec<Task>,
    entries: Vec<TaskEntry>,
    readers: Vec<PendingReader>,
}

/// A reader that waits for the scheduler.
struct PendingReader {
    input: Arc<dyn Input>,
    partition: PartitionId,
    at: OpenAt,
    bounds: FetchBounds,
    pace: Option<Arc<Pace>>,
    inbox: Arc<Inbox>,
    place: usize,
    task: TaskIndex,
    figures: Arc<ReaderFigures>,
}

/// What is read ahead of all tasks together: as much as may be uncommitted, within these bounds.
const READ_AHEAD_MIN: usize = 16 << 20;
const READ_AHEAD_MAX: usize = 64 << 20;
/// A reader asks for so much at a time, however many there are; each may have that or one message, beyond the bound too.
const FETCH_BYTES_MIN: usize = 16 << 10;

/// So many bytes at a time that all readers together do not ask for more than half of what may be read ahead.
fn fetch_bytes(options: &JobOptions, read_ahead: usize) -> usize {
    let readers = |stage: &StageOptions| stage.partitions as usize * stage.inputs.len();
    let readers: usize = options.stages.iter().map(readers).sum();
    (read_ahead / 2 / readers.max(1)).max(FETCH_BYTES_MIN)
}

pub(super) fn open(
    options: JobOptions,
    io: &tokio::runtime::Handle,
    holder: &Holder,
) -> Result<Coordinator, OpenError> {
    let path = options.state_dir.clone();
    let directory = directory::open_or_create(&directory_options(&options))?;
    let db = Arc::clone(&directory.db);
    let catalog = Catalog::resolve(&path, &db, &options.shape(), &options.drops)?;
    for (stage, before) in &catalog.components_changed {
        tracing::info!(
            stage,
            "the component is another than at the last checkpoint, which was made by {before}"
        );
    }
    for stage in &options.stages {
        directory.keep_code(stage.component.sha256(), stage.component.bytes())?;
    }
    let mut committer = open_committer(directory, &options, &catalog)?;
    let announced = committer.lock_mut().announce(holder);
    announced.map_err(DiskError::of("write the lock file of", &path))?;
    let begins = begins(&options, &db, &catalog, &committer.logs())?;
    committer
        .register(&catalog, &begins)
        .map_err(|source| OpenError::Begin {
            path: path.clone(),
            source: Box::new(source),
        })?;
    let blocks = (options.db.block_cache_bytes as u64).min(options.cache_bytes / 4);
    let cache = Arc::new(CleanCache::with_reserve(options.cache_bytes, blocks));
    let read_ahead_max = options
        .cadence
        .bytes_max
        .clamp(READ_AHEAD_MIN, READ_AHEAD_MAX);
    let read_ahead = Arc::new(ReadAhead::new(read_ahead_max));
    let mut opening = Opening {
        options: &options,
        db: Arc::clone(&db),
        cache: Arc::clone(&cache),
        catalog: &catalog,
        logs: committer.logs(),
        paces: BTreeMap::new(),
        read_ahead: Arc::clone(&read_ahead),
        fetch_bytes: fetch_bytes(&options, read_ahead_max),
        tasks: Vec::new(),
        entries: Vec::new(),
        readers: Vec::new(),
    };
    let mut metrics = BTreeMap::new();
    for stage in &options.stages {
        let figures = Arc::new(StageMetrics::default());
        metrics.insert(stage.name.clone(), Arc::clone(&figures));
        for partition in (0..stage.partitions).map(PartitionId) {
            opening
                .add_task(stage, partition, &figures)
                .map_err(|source| OpenError::State {
                    path: path.clone(),
                    source,
                })?;
        }
    }
    let Opening {
        tasks,
        entries,
        readers,
        logs,
        ..
    } = opening;
    let (sender, messages) = channel();
    let notices = sender.clone();
    let scheduler = Scheduler::with(
        tasks,
        SchedulerOptions {
            workers: options.workers,
            bytes_max: options.cadence.bytes_max,
            instances_max: options.instances_max,
            interrupt: interrupt(&options),
            io: io.clone(),
        },
        Box::new(move |notice| {
            let _ = notices.send(Message::Notice(notice));
        }),
    );
    let core = Core::new(
        CoreOptions {
            cadence: options.cadence.clone(),
            tolerate_failures: options.tolerate_failures,
            timeout: options.checkpoint_timeout,
            drain_timeout: options.drain_timeout,
            tasks: entries.len(),
        },
        committer.epoch(),
        committer.has_unrecorded_delivery(),
        Instant::now(),
    );
    let epoch = committer.epoch();
    let done = sender.clone();
    let hurry = Arc::new(AtomicBool::new(false));
    let commit = CommitThread::start(
        committer,
        CommitOptions {
            directory: path,
            disk_reserve: options.disk_reserve,
            timeout: options.checkpoint_timeout,
            clock: Arc::clone(&options.clock),
            hurry: Arc::clone(&hurry),
        },
        move |message| {
            let _ = done.send(Message::Done(message));
        },
    );
    let waker = scheduler.waker();
    let readers = readers.into_iter().map(|pending| {
        let reader = Reader {
            input: pending.input,
            partition: pending.partition,
            at: pending.at,
            bounds: pending.bounds,
            pace: pending.pace,
            inbox: pending.inbox,
            place: pending.place,
            task: pending.task,
            waker: waker.clone(),
            figures: pending.figures,
        };
        io.spawn(reader.run())
    });
    let streams = options.streams.iter().map(|(name, stream)| {
        let entry = StreamEntry {
            id: catalog.streams[name].id,
            partitions: stream.partitions,
            is_log: matches!(stream.kind, StreamKind::Log(_)),
        };
        (name.clone(), entry)
    });
    Ok(Coordinator {
        job: options.name.clone(),
        core,
        messages,
        sender,
        scheduler,
        commit,
        readers: readers.collect(),
        tasks: entries,
        streams: streams.collect(),
        logs,
        metrics,
        cache,
        db,
        started: options.clock.now_ms(),
        clock: Arc::clone(&options.clock),
        epoch,
        bytes_max: options.cadence.bytes_max,
        until_idle: options.until_idle,
        sealed: Vec::new(),
        barrier: None,
        late_at: Instant::now(),
        timeout: options.checkpoint_timeout,
        drain_timeout: options.drain_timeout,
        last_resort: Some(Arc::clone(&options.last_resort)),
        waiting: Vec::new(),
        answering: Vec::new(),
        draining: false,
        stopped_at: None,
        last_checkpoint: None,
        checkpoints: 0,
        failed_attempts: 0,
        failures: Vec::new(),
        error: None,
        hurry,
        round_robin: 0,
    })
}

/// Whether the state directory and the outputs are what the job's last checkpoint has left, and fit the job. Changes nothing.
///
/// # Errors
/// What [`open`] would refuse.
pub(super) fn check(options: &JobOptions) -> Result<(), OpenError> {
    directory::check(&directory_options(options))
}

fn directory_options(options: &JobOptions) -> DirectoryOptions<'_> {
    DirectoryOptions {
        path: options.state_dir.clone(),
        job: options.name.clone(),
        disk_reserve: options.disk_reserve,
        db: options.db.clone(),
        disk: options.disk.clone(),
        check: Box::new(|db| check_contents(options, db)),
    }
}

fn check_contents(options: &JobOptions, db: Option<&Db>) -> Result<(), OpenError> {
    let path = &options.state_dir;
    if let Some(db) = db {
        let catalog = Catalog::resolve(path, db, &options.shape(), &options.drops)?;
        check::check_tasks(path, db)?;
        return check::check_outputs(path, db, &external_streams(options, &catalog));
    }
    for (name, stream) in &options.streams {
        if let StreamKind::External {
            output: Some(output),
            ..
        } = &stream.kind
        {
            for partition in (0..output.partitions()).map(PartitionId) {
                check::check_output(name, &**output, partition, &OutboxRecord::default())?;
            }
        }
    }
    Ok(())
}

fn external_streams(options: &JobOptions, catalog: &Catalog) -> Vec<ExternalStream> {
    let external = options.streams.iter().filter_map(|(name, stream)| {
        let StreamKind::External {
            output: Some(output),
            ..
        } = &stream.kind
        else {
            return None;
        };
        Some(ExternalStream {
            id: catalog.streams[name].id,
            name: name.clone(),
            output: Arc::clone(output),
        })
    });
    external.collect()
}

/// What ends the running calls of every stage.
fn interrupt(options: &JobOptions) -> Arc<dyn Fn() + Send + Sync> {
    let components: Vec<_> = options
        .stages
        .iter()
        .map(|stage| Arc::clone(&stage.component))
        .collect();
    Arc::new(move || {
        components
            .iter()
            .for_each(|component| component.interrupt())
    })
}

fn open_committer(
    directory: directory::Directory,
    options: &JobOptions,
    catalog: &Catalog,
) -> Result<Committer, OpenError> {
    let mut logs = Vec::new();
    for (name, stream) in &options.streams {
        if let StreamKind::Log(retention) = &stream.kind {
            logs.push(LogStream {
                id: catalog.streams[name].id,
                partitions: stream.partitions,
                retention: *retention,
            });
        }
    }
    let external = external_streams(options, catalog);
    let mut reads = Vec::new();
    for stage in &options.stages {
        for input in &stage.inputs {
            let id = catalog.streams[&input.stream].id;
            reads.extend(tasks_of(stage, catalog).map(|task| (task, id)));
        }
    }
    Committer::open(
        directory,
        &logs,
        &external,
        &reads,
        options.durability,
        options.disk.clone(),
    )
}

fn tasks_of<'a>(
    stage: &'a StageOptions,
    catalog: &'a Catalog,
) -> impl Iterator<Item = TaskId> + 'a {
    (0..stage.partitions).map(|partition| TaskId {
        stage: catalog.stages[&stage.name].id,
        partition: PartitionId(partition),
    })
}

/// The records of tasks that begin to read a log at a place that another start would choose otherwise: they are written before
/// anybody can append to it. What other systems choose is recorded by the first checkpoint, before anything is read.
fn begins(
    options: &JobOptions,
    db: &Db,
    catalog: &Catalog,
    logs: &Logs,
) -> Result<Vec<(TaskId, TaskRecord)>, OpenError> {
    let state = |source| OpenError::State {
        path: options.state_dir.clone(),
        source,
    };
    let mut begins = Vec::new();
    for stage in &options.stages {
        let chosen = stage.inputs.iter().filter(|input| {
            matches!(input.start, StartAt::Latest | StartAt::Time(_))
                && matches!(options.streams[&input.stream].kind, StreamKind::Log(_))
        });
        let streams: Vec<_> = chosen
            .map(|input| (catalog.streams[&input.stream].id, input.start))
            .collect();
        if streams.is_empty() {
            continue;
        }
        for task in tasks_of(stage, catalog) {
            let known: Option<TaskRecord> = records::get(db, &task).map_err(state)?;
            let mut record = known.unwrap_or_default();
            let before = record.positions.len();
            for (stream, start) in &streams {
                if record.positions.contains_key(stream) {
                    continue;
                }
                let next = start_of(logs, *stream, task.partition, *start)
                    .map_err(|error| state(StateError::Damaged(error.to_string())))?;
                let position = Position { next, detail: None };
                record.positions.insert(*stream, position);
            }
            if record.positions.len() > before {
                begins.push((task, record));
            }
        }
    }
    Ok(begins)
}

impl Opening<'_> {
    fn add_task(
        &mut self,
        stage: &StageOptions,
        partition: PartitionId,
        figures: &Arc<StageMetrics>,
    ) -> Result<(), StateError> {
        let known = &self.catalog.stages[&stage.name];
        let id = TaskId {
            stage: known.id,
            partition,
        };
        let record: TaskRecord = records::get(&self.db, &id)?.unwrap_or_default();
        let mut stores = Vec::new();
        for (name, kind) in &stage.stores {
            let (db, cache) = (Arc::clone(&self.db), Arc::clone(&self.cache));
            let handle = StoreHandle::open(db, cache, id, known.stores[name], *kind)?;
            stores.push(Arc::new(handle));
        }
        let stream_id = |name: &String| self.catalog.streams[name].id;
        let partitions_of = |name: &String| self.options.streams[name].partitions;
        let outputs: Vec<OutputPort> = stage
            .outputs
            .iter()
            .map(|(port, stream)| {
                let first = stage.outputs.iter().position(|(_, other)| other == stream);
                OutputPort {
                    name: port.clone(),
                    partitions: partitions_of(stream),
                    counter: OutputIndex(first.and_then(|at| at.try_into().ok()).unwrap_or(0)),
                }
            })
            .collect();
        let mut ports: Vec<StreamId> = stage
            .outputs
            .iter()
            .map(|(_, stream)| stream_id(stream))
            .collect();
        let dead_letters = stage.dead_letters.as_ref().map(|stream| {
            ports.push(stream_id(stream));
            DeadLetters {
                port: OutputIndex(u16::try_from(ports.len() - 1).unwrap_or(u16::MAX)),
                partitions: partitions_of(stream),
            }
        });
        let counter =
            |stream: &StreamId| record.round_robin.get(stream).copied().unwrap_or_default();
        let round_robin = ports[..outputs.len()].iter().map(counter).collect();
        let info = Arc::new(TaskInfo {
            id,
            job: self.options.name.clone(),
            stage: stage.name.clone(),
            partitions: stage.partitions,
            inputs: stage
                .inputs
                .iter()
                .map(|input| input.port.clone())
                .collect(),
            outputs,
            stores: stage.stores.iter().map(|(name, _)| name.clone()).collect(),
            may_request_stop: stage.may_request_stop,
        });
        let context = TaskContext::new(
            Arc::clone(&info),
            TaskState::new(id, stores),
            TaskMetrics::new(Arc::clone(figures), partition),
            round_robin,
        );
        let read_ahead = Arc::clone(&self.read_ahead);
        let inbox = Arc::new(Inbox::new(stage.inputs.len(), read_ahead));
        let inputs = self.add_readers(stage, partition, &record, &inbox);
        let options = TaskOptions {
            info,
            inputs: stage
                .inputs
                .iter()
                .map(|input| (input.stream.clone(), stream_id(&input.stream)))
                .collect(),
            ports: ports.into(),
            on_rejected: stage.on_rejected,
            dead_letters,
            clock: Arc::clone(&self.options.clock),
        };
        let processed_before = record.processed;
        let component = Arc::clone(&stage.component);
        let task = Task::new(options, component, context, record, Arc::clone(&inbox));
        self.entries.push(TaskEntry {
            name: task.name(),
            component: stage.component.sha256().to_owned(),
            figures: task.figures(),
            inbox,
            inputs,
            processed_before,
        });
        self.tasks.push(task);
        Ok(())
    }

    fn add_readers(
        &mut self,
        stage: &StageOptions,
        partition: PartitionId,
        record: &TaskRecord,
        inbox: &Arc<Inbox>,
    ) -> Vec<InputEntry> {
        let mut entries = Vec::new();
        for (place, input) in stage.inputs.iter().enumerate() {
            let stream = &self.options.streams[&input.stream];
            let id = self.catalog.streams[&input.stream].id;
            let (reads, is_log): (Arc<dyn Input>, bool) = match &stream.kind {
                StreamKind::Log(retention) => {
                    let logs = Arc::clone(&self.logs);
                    let unread = match retention.drop_unread {
                        true => Unread::Dropped,
                        false => Unread::Kept,
                    };
                    let reads = LogInput::new(logs, id, stream.partitions, unread);
                    (Arc::new(reads), true)
                }
                StreamKind::External {
                    input: Some(reads), ..
                } => (Arc::clone(reads), false),
                StreamKind::External { input: None, .. } => {
                    panic!("stream {:?} cannot be read", input.stream)
                }
            };
            let at = match record.positions.get(&id) {
                Some(position) => OpenAt::Position(position.clone()),
                None => OpenAt::Start(input.start),
            };
            let pace = stream.max_rate.map(|rate| {
                let paces = &mut self.paces;
                Arc::clone(
                    paces
                        .entry(input.stream.clone())
                        .or_insert_with(|| Arc::new(Pace::new(rate))),
                )
            });
            let figures = Arc::new(ReaderFigures::default());
            let bounded = reads.bounded();
            self.readers.push(PendingReader {
                input: reads,
                partition,
                at,
                bounds: FetchBounds {
                    messages: stage.batch_messages,
                    bytes: stage.batch_bytes.min(self.fetch_bytes),
                },
                pace,
                inbox: Arc::clone(inbox),
                place,
                task: TaskIndex(self.tasks.len()),
                figures: Arc::clone(&figures),
            });
            entries.push(InputEntry {
                stream: input.stream.clone(),
                id,
                partition,
                is_log,
                bounded,
                reader: figures,
            });
        }
        entries
    }
}

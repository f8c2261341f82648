//! Makes a task from what is committed of it, at any time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::readers::{Pace, Reader, ReaderFigures};
use super::{InputEntry, TaskEntry};
use crate::checkpoint::catalog::{Catalog, StreamShape};
use crate::checkpoint::logs::Logs;
use crate::connectors::log::{LogInput, ReplayInput};
use crate::connectors::{FetchBounds, Input, OpenAt};
use crate::coordinator::options::{InputOptions, JobOptions, Reads, StageOptions, StreamOptions};
use crate::crumbs::Crumbs;
use crate::model::{OutputIndex, PartitionId, StartAt, StoreIndex, StreamId, TaskId};
use crate::records::{self, StageRecord, StreamRecord, TaskRecord};
use crate::runtime::{Component, OutputPort, StageMetrics, TaskContext, TaskInfo, TaskMetrics};
use crate::scheduler::{TaskIndex, Waker};
use crate::state::keys::StorePrefix;
use crate::state::{CleanCache, Db, Family, Order, StateError, StoreHandle, StoreKind, TaskState};
use crate::task::{Backoff, DeadLetters, Inbox, Parked, ReadAhead, Task, TaskOptions};

/// What is read ahead of all tasks together: as much as may be uncommitted, within these bounds.
const READ_AHEAD_MIN: usize = 16 << 20;
const READ_AHEAD_MAX: usize = 64 << 20;
/// A reader asks for at least this much at a time, however many readers there are. Each may have that or one message, beyond the
/// bound too.
const FETCH_BYTES_MIN: usize = 16 << 10;

/// A task that the job declares, by its stage's place in the job file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::coordinator) struct TaskSpec {
    pub(in crate::coordinator) stage: usize,
    pub(in crate::coordinator) partition: PartitionId,
}

/// A stage as its tasks are made now: it changes when other code takes over.
pub(in crate::coordinator) struct StageNow {
    pub(in crate::coordinator) options: Arc<StageOptions>,
    /// What is recorded of it.
    pub(in crate::coordinator) record: StageRecord,
    /// Which of its codes in this process this is: one more with each.
    pub(in crate::coordinator) generation: u64,
    /// The version of the state that its tasks have to migrate before they go on.
    pub(in crate::coordinator) migrates_from: Option<u32>,
}

/// A task that has not yet taken its place.
pub(in crate::coordinator) struct Made {
    /// What it was made of.
    pub(in crate::coordinator) stage: Arc<StageNow>,
    pub(in crate::coordinator) task: Task,
    pub(in crate::coordinator) entry: TaskEntry,
    pub(in crate::coordinator) readers: Vec<PendingReader>,
}

/// A reader that waits for its task to take its place.
pub(in crate::coordinator) struct PendingReader {
    input: Arc<dyn Input>,
    partition: PartitionId,
    at: OpenAt,
    bounds: FetchBounds,
    pace: Option<Arc<Pace>>,
    restarts: u32,
    backoff: Backoff,
    inbox: Arc<Inbox>,
    place: usize,
    figures: Arc<ReaderFigures>,
}

impl PendingReader {
    /// Reads for the task in this place.
    pub(super) fn start(
        self,
        task: TaskIndex,
        waker: Waker,
    ) -> impl Future<Output = ()> + Send + 'static {
        let reader = Reader {
            input: self.input,
            partition: self.partition,
            at: self.at,
            bounds: self.bounds,
            pace: self.pace,
            restarts: self.restarts,
            backoff: self.backoff,
            inbox: self.inbox,
            place: self.place,
            task,
            waker,
            figures: self.figures,
        };
        reader.run()
    }
}

/// A stream of a job that runs.
pub(in crate::coordinator) struct StreamNow {
    pub(in crate::coordinator) id: StreamId,
    pub(in crate::coordinator) options: StreamOptions,
    /// It came with code that is only tried so far.
    is_tried: AtomicBool,
}

impl StreamNow {
    fn new(id: StreamId, options: StreamOptions, is_tried: bool) -> StreamNow {
        StreamNow {
            id,
            options,
            is_tried: AtomicBool::new(is_tried),
        }
    }

    fn is_tried(&self) -> bool {
        self.is_tried.load(Ordering::Acquire)
    }

    /// The code that it came with takes over: it is a stream of the job.
    pub(in crate::coordinator) fn keep(&self) {
        self.is_tried.store(false, Ordering::Release);
    }

    /// What the state directory has of it.
    pub(in crate::coordinator) fn record(&self) -> StreamRecord {
        StreamRecord {
            id: self.id,
            partitions: self.options.partitions,
            system: self.options.system.clone(),
        }
    }
}

/// What tasks are made of.
pub(in crate::coordinator) struct TaskFactory {
    pub(super) options: Arc<JobOptions>,
    /// In the order of the job file.
    pub(super) stages: Vec<RwLock<Arc<StageNow>>>,
    pub(super) db: Arc<Db>,
    pub(super) cache: Arc<CleanCache>,
    streams: RwLock<BTreeMap<String, Arc<StreamNow>>>,
    logs: Arc<Logs>,
    crumbs: Arc<Crumbs>,
    metrics: BTreeMap<String, Arc<StageMetrics>>,
    read_ahead: Arc<ReadAhead>,
    /// What a reader asks for at a time, at most.
    fetch_bytes: usize,
    /// The longest deadline that a call has had.
    pub(super) deadline: Mutex<Duration>,
    /// The pace of each stream that has one.
    paces: Mutex<BTreeMap<String, Arc<Pace>>>,
}

impl TaskFactory {
    pub(in crate::coordinator) fn new(
        options: Arc<JobOptions>,
        (stages, streams): (Vec<StageOptions>, BTreeMap<String, StreamOptions>),
        db: Arc<Db>,
        cache: Arc<CleanCache>,
        catalog: Catalog,
        logs: Arc<Logs>,
        crumbs: Arc<Crumbs>,
    ) -> TaskFactory {
        let bytes_max = options.cadence.bytes_max;
        let read_ahead = bytes_max.clamp(READ_AHEAD_MIN, READ_AHEAD_MAX);
        let metrics = stages.iter().map(|stage| {
            let figures = Arc::new(StageMetrics::default());
            (stage.name.clone(), figures)
        });
        let fetch_bytes = fetch_bytes(&stages, read_ahead);
        TaskFactory {
            metrics: metrics.collect(),
            fetch_bytes,
            read_ahead: Arc::new(ReadAhead::new(read_ahead)),
            paces: Mutex::default(),
            deadline: {
                let deadlines = stages
                    .iter()
                    .map(|stage| stage.component.limits().call_deadline);
                Mutex::new(deadlines.max().unwrap_or_default())
            },
            stages: {
                let now = |options: StageOptions| {
                    let record = catalog.stages[&options.name].clone();
                    let options = Arc::new(StageOptions {
                        // It comes back only while the code is watched.
                        before: options.before.filter(|_| record.swap.is_some()),
                        ..options
                    });
                    let now = StageNow {
                        options,
                        record,
                        generation: 0,
                        migrates_from: None,
                    };
                    RwLock::new(Arc::new(now))
                };
                stages.into_iter().map(now).collect()
            },
            streams: {
                let now = |(name, options): (String, StreamOptions)| {
                    let id = catalog.streams[&name].id;
                    (name, Arc::new(StreamNow::new(id, options, false)))
                };
                RwLock::new(streams.into_iter().map(now).collect())
            },
            options,
            db,
            cache,
            logs,
            crumbs,
        }
    }

    /// Every task of the job, or the only one that is there.
    pub(in crate::coordinator) fn specs(&self) -> impl Iterator<Item = TaskSpec> {
        let stages = self.stages().enumerate();
        let specs = stages.flat_map(|(stage, now)| {
            let partitions = (0..now.options.partitions).map(PartitionId);
            partitions.map(move |partition| TaskSpec { stage, partition })
        });
        specs.filter(|spec| {
            let stage = self.stage(spec.stage);
            let name = format!("{}/{}", stage.options.name, spec.partition);
            self.options.skips.as_ref().is_none_or(|only| *only == name)
        })
    }

    /// Whether not all tasks of the job are there.
    pub(in crate::coordinator) fn is_partial(&self) -> bool {
        self.options.skips.is_some()
    }

    /// A stage, by its place in the job file.
    pub(in crate::coordinator) fn stage(&self, at: usize) -> Arc<StageNow> {
        Arc::clone(&self.stages[at].read())
    }

    /// Ends every call that runs, as its deadline would.
    pub(in crate::coordinator) fn interrupt(&self) {
        let longest = *self.deadline.lock();
        if let Some(stage) = self.stages().next() {
            stage.options.component.interrupt(longest);
        }
    }

    /// The SHA-256 of the component of a task.
    pub(in crate::coordinator) fn component_of(&self, spec: TaskSpec) -> String {
        self.stage(spec.stage).record.code.component.clone()
    }

    /// All stages, in the order of the job file.
    pub(in crate::coordinator) fn stages(&self) -> impl Iterator<Item = Arc<StageNow>> {
        self.stages.iter().map(|stage| Arc::clone(&stage.read()))
    }

    /// A stream of the job, or of code that is tried.
    pub(in crate::coordinator) fn stream(&self, name: &str) -> Arc<StreamNow> {
        Arc::clone(&self.streams.read()[name])
    }

    /// The streams of the job.
    pub(in crate::coordinator) fn streams(&self) -> BTreeMap<String, StreamShape> {
        let streams = self.streams.read();
        let streams = streams.iter().filter(|(_, stream)| !stream.is_tried());
        let shape =
            |(name, stream): (&String, &Arc<StreamNow>)| (name.clone(), stream.options.shape());
        streams.map(shape).collect()
    }

    /// Code is tried that brings a stream with it. `known`: its number, if the state directory has one, and `next`: a number that it has
    /// given to none.
    pub(in crate::coordinator) fn try_stream(
        &self,
        name: &str,
        options: StreamOptions,
        (known, next): (Option<StreamId>, StreamId),
    ) -> Arc<StreamNow> {
        let mut streams = self.streams.write();
        // Other code that is tried may have brought it, too.
        let known = known.or_else(|| Some(streams.get(name)?.id));
        let ids = streams.values().map(|stream| StreamId(stream.id.0 + 1));
        let id = known.unwrap_or_else(|| ids.chain([next]).max().unwrap_or(next));
        let tried = Arc::new(StreamNow::new(id, options, true));
        streams.insert(name.to_owned(), Arc::clone(&tried));
        tried
    }

    pub(in crate::coordinator) fn db(&self) -> &Db {
        &self.db
    }

    pub(in crate::coordinator) fn state_dir(&self) -> &Path {
        &self.options.state_dir
    }

    /// The process ends in good order.
    pub(in crate::coordinator) fn close(&self) {
        self.crumbs.close();
    }

    /// What the guests of each stage report.
    pub(in crate::coordinator) fn metrics(&self) -> BTreeMap<String, Arc<StageMetrics>> {
        self.metrics.clone()
    }

    /// The inbox of a task that is away: what had been read for it counts no more.
    pub(in crate::coordinator) fn empty_inbox(&self) -> Arc<Inbox> {
        Arc::new(Inbox::new(0, Arc::clone(&self.read_ahead)))
    }

    /// Makes a task as it was last committed.
    ///
    /// # Errors
    /// Its state cannot be read.
    pub(in crate::coordinator) fn make(&self, spec: TaskSpec) -> Result<Made, StateError> {
        let now = self.stage(spec.stage);
        let stage = &now.options;
        let id = TaskId {
            stage: now.record.id,
            partition: spec.partition,
        };
        let record: TaskRecord = records::get(&self.db, &id)?.unwrap_or_default();
        let info = Arc::new(self.info(stage, id));
        let (ports, dead_letters) = self.ports(stage);
        let round_robin = round_robin(&record, &ports[..info.outputs.len()]);
        let state = TaskState::new(id, self.stores(&now, id)?);
        let metrics = TaskMetrics::new(Arc::clone(&self.metrics[&stage.name]), spec.partition);
        let context = TaskContext::new(Arc::clone(&info), state, metrics, round_robin);
        let queue = queue_of(stage);
        let all: Vec<_> = stage.inputs.iter().chain(&queue).collect();
        let inbox = Arc::new(Inbox::new(all.len(), Arc::clone(&self.read_ahead)));
        let (mut readers, mut inputs) = (Vec::new(), Vec::new());
        for (place, input) in all.iter().enumerate() {
            let (reader, entry) = self.reader(stage, spec.partition, place, input, &record, &inbox);
            readers.push(reader);
            inputs.push(entry);
        }
        if self.options.skips.is_some() {
            retain_held(&mut readers, &inputs, &record);
        }
        let options = TaskOptions {
            info,
            inputs: all
                .iter()
                .map(|input| (input.stream.clone(), self.stream_id(&input.stream)))
                .collect(),
            ports: ports.into(),
            rules: stage.rules.clone(),
            dead_letters,
            batch_messages: stage.batch_messages,
            skips_held: self.options.skips.is_some(),
            before: way_back(stage),
            generation: now.generation,
            waits_for_code: stage.successor.is_some(),
            migrates_from: now.migrates_from,
            crumbs: Arc::clone(&self.crumbs),
            clock: Arc::clone(&self.options.clock),
        };
        let processed_before = record.processed;
        let parked = self.parked(&now, id)?;
        let task = Task::new(
            options,
            Arc::clone(&stage.component),
            context,
            record,
            parked,
            Arc::clone(&inbox),
        );
        let entry = TaskEntry {
            spec,
            name: task.name(),
            figures: task.figures(),
            inbox,
            inputs,
            processed_before,
            readers: Vec::new(),
        };
        Ok(Made {
            stage: now,
            task,
            entry,
            readers,
        })
    }

    pub(in crate::coordinator) fn stream_id(&self, stream: &str) -> StreamId {
        self.stream(stream).id
    }

    fn stores(&self, now: &StageNow, id: TaskId) -> Result<Vec<Arc<StoreHandle>>, StateError> {
        let (stage, known) = (&now.options, &now.record);
        let open = |(name, kind): &(String, _)| {
            let (db, cache) = (Arc::clone(&self.db), Arc::clone(&self.cache));
            StoreHandle::open(db, cache, id, known.stores[name], *kind).map(Arc::new)
        };
        // What the task keeps for itself comes last.
        let parked = stage.parked_store.as_ref();
        let parked = parked.map(|name| (name.clone(), StoreKind::RocksDb));
        stage.stores.iter().chain(&parked).map(open).collect()
    }

    /// The keys of a task that wait for a letter, if the order of keys is kept.
    fn parked(&self, now: &StageNow, id: TaskId) -> Result<Option<Parked>, StateError> {
        let (Some(name), Some(at)) = (&now.options.parked_store, parked_at(&now.options)) else {
            return Ok(None);
        };
        let store = now.record.stores[name];
        let mut parked = Parked::new(at);
        let (lower, upper) = StorePrefix::new(id, store).range(None, None);
        let mut walk = self.db.walk(Family::State, lower, upper, Order::Up);
        while let Some((key, _)) = walk.entry()? {
            parked.load(&key[StorePrefix::LEN..])?;
            walk.advance();
        }
        Ok(Some(parked))
    }

    pub(super) fn info(&self, stage: &StageOptions, id: TaskId) -> TaskInfo {
        let output = |(port, stream): &(String, String)| {
            let first = stage.outputs.iter().position(|(_, other)| other == stream);
            OutputPort {
                name: port.clone(),
                partitions: self.stream(stream).options.partitions,
                bounds: self.stream(stream).options.bounds(),
                counter: OutputIndex(first.and_then(|at| at.try_into().ok()).unwrap_or(0)),
            }
        };
        TaskInfo {
            id,
            job: self.options.name.clone(),
            stage: stage.name.clone(),
            partitions: stage.partitions,
            inputs: stage
                .inputs
                .iter()
                .map(|input| input.port.clone())
                .collect(),
            outputs: stage.outputs.iter().map(output).collect(),
            stores: stage.stores.iter().map(|(name, _)| name.clone()).collect(),
            may_request_stop: stage.may_request_stop,
        }
    }

    /// The stream of each output port and, last, of the dead letters.
    pub(in crate::coordinator) fn ports(
        &self,
        stage: &StageOptions,
    ) -> (Vec<StreamId>, Option<DeadLetters>) {
        let streams = stage.outputs.iter().map(|(_, stream)| stream);
        let mut ports: Vec<StreamId> = streams.map(|stream| self.stream_id(stream)).collect();
        let dead_letters = stage.dead_letters.as_ref().map(|stream| {
            ports.push(self.stream_id(stream));
            DeadLetters {
                port: OutputIndex(u16::try_from(ports.len() - 1).unwrap_or(u16::MAX)),
                partitions: self.stream(stream).options.partitions,
                bounds: self.stream(stream).options.bounds(),
            }
        });
        (ports, dead_letters)
    }

    /// An input of a stage, to be opened.
    pub(in crate::coordinator) fn source(
        &self,
        stage: &StageOptions,
        stream: &str,
    ) -> Arc<dyn Input> {
        let now = self.stream(stream);
        match &now.options.reads {
            Some(Reads::Log(unread)) => {
                let logs = Arc::clone(&self.logs);
                let log = LogInput::new(logs, now.id, now.options.partitions, *unread);
                match stage.replay_queue.as_deref() == Some(stream) {
                    false => Arc::new(log),
                    true => {
                        let streams = stage.inputs.iter().map(|input| input.stream.clone());
                        Arc::new(ReplayInput::new(log, streams.collect()))
                    }
                }
            }
            Some(Reads::External(input)) => Arc::clone(input),
            None => panic!("stream {stream:?} cannot be read"),
        }
    }

    /// Where a task goes on with an input.
    pub(in crate::coordinator) fn opens_at(
        &self,
        input: &InputOptions,
        record: &TaskRecord,
    ) -> OpenAt {
        match record.positions.get(&self.stream_id(&input.stream)) {
            Some(position) => OpenAt::Position(position.clone()),
            None => OpenAt::Start(input.start),
        }
    }

    /// The name of a stream.
    pub(in crate::coordinator) fn stream_name(&self, id: StreamId) -> Option<String> {
        let streams = self.streams.read();
        let found = streams.iter().find(|(_, stream)| stream.id == id);
        found.map(|(name, _)| name.clone())
    }

    fn reader(
        &self,
        stage: &StageOptions,
        partition: PartitionId,
        place: usize,
        input: &InputOptions,
        record: &TaskRecord,
        inbox: &Arc<Inbox>,
    ) -> (PendingReader, InputEntry) {
        let stream = self.stream(&input.stream);
        let id = stream.id;
        let source = self.source(stage, &input.stream);
        let at = self.opens_at(input, record);
        let pace = stream.options.max_rate.map(|rate| {
            let mut paces = self.paces.lock();
            let pace = paces
                .entry(input.stream.clone())
                .or_insert_with(|| Arc::new(Pace::new(rate)));
            Arc::clone(pace)
        });
        let figures = Arc::new(ReaderFigures::default());
        let entry = InputEntry {
            stream: input.stream.clone(),
            id,
            partition,
            in_log: stream.options.input().is_none(),
            bounded: source.bounded(),
            may_lull: source.may_lull(),
            rewindable: source.rewindable(),
            reader: Arc::clone(&figures),
        };
        let reader = PendingReader {
            input: source,
            partition,
            at,
            bounds: FetchBounds {
                messages: stage.batch_messages,
                bytes: stage.batch_bytes.min(self.fetch_bytes),
            },
            pace,
            restarts: stage.rules.restarts,
            backoff: stage.rules.restart_backoff,
            inbox: Arc::clone(inbox),
            place,
            figures,
        };
        (reader, entry)
    }
}

/// The code before, as long as it may come back.
pub(super) fn way_back(stage: &StageOptions) -> Weak<Component> {
    stage.before.as_ref().map_or_else(Weak::new, Arc::downgrade)
}

/// The store of the keys that wait for a letter: it comes last.
pub(super) fn parked_at(stage: &StageOptions) -> Option<StoreIndex> {
    let at = u16::try_from(stage.stores.len()).unwrap_or(u16::MAX);
    stage.parked_store.as_ref().map(|_| StoreIndex(at))
}

/// Where round robin goes on for each port.
pub(super) fn round_robin(record: &TaskRecord, ports: &[StreamId]) -> Vec<u64> {
    let counter = |stream: &StreamId| record.round_robin.get(stream).copied();
    let counters = ports.iter().map(counter);
    counters.map(Option::unwrap_or_default).collect()
}

/// Keeps only the reader of the input with the message that a task is held at.
fn retain_held(readers: &mut Vec<PendingReader>, inputs: &[InputEntry], record: &TaskRecord) {
    let held = record.held.as_ref().and_then(|held| held.message);
    let is_held = |input: &InputEntry| held.is_some_and(|(stream, _)| stream == input.id);
    let mut is_read = inputs.iter().map(is_held);
    readers.retain(|_| is_read.next().unwrap_or(false));
}

/// The replay queue of a stage as an input: it comes last.
fn queue_of(stage: &StageOptions) -> Option<InputOptions> {
    stage.replay_queue.as_ref().map(|queue| InputOptions {
        port: String::new(),
        stream: queue.clone(),
        start: StartAt::Oldest,
    })
}

/// How much a reader asks for at a time, so that all together do not ask for more than half of what may be read ahead.
fn fetch_bytes(stages: &[StageOptions], read_ahead: usize) -> usize {
    let readers = |stage: &StageOptions| stage.partitions as usize * stage.inputs.len();
    let readers: usize = stages.iter().map(readers).sum();
    (read_ahead / 2 / readers.max(1)).max(FETCH_BYTES_MIN)
}

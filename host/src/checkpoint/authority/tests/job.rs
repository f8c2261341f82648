//! A job without guests: two tasks that count words, on a disk that can stop at any step.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::broker::{Broker, Transactions};
use crate::checkpoint::catalog::{Catalog, Drops, JobShape, StageShape, StreamShape};
use crate::checkpoint::decide::Wanted;
use crate::checkpoint::directory::{self, DirectoryOptions};
use crate::checkpoint::logs::{LogStream, Logs, Retention};
use crate::checkpoint::{CommitError, Committer, CommitterOptions};
use crate::connectors::log::LogReader as _;
use crate::disk::{Disk, Operation, Steps};
use crate::epoch::{SealedEpoch, SealedTask};
use crate::model::{
    MessageRef, OutputIndex, PartitionId, Position, Staged, StoreIndex, StreamId, TaskId,
};
use crate::records::{self, TaskRecord};
use crate::state::keys::StorePrefix;
use crate::state::{
    CleanCache, Db, DbOptions, Durability, Family, Order, StoreHandle, StoreKind, TaskState,
    decode_value,
};

/// Messages of each task's input.
pub(super) const MESSAGES: u64 = 12;
/// Messages of an epoch.
const PER_EPOCH: u64 = 4;
const PARTITIONS: u32 = 2;
const STORE: StoreIndex = StoreIndex(0);

/// Which act decides that an epoch exists.
#[derive(Clone)]
pub(super) enum Decides {
    Database(Durability),
    Broker(Broker),
}

/// Everything fails from the step with this number on, as for a process that is gone; steps are counted from 0.
pub(super) struct CrashAt {
    step: usize,
    come: AtomicUsize,
}

impl CrashAt {
    pub(super) fn step(step: usize) -> Arc<CrashAt> {
        Arc::new(CrashAt {
            step,
            come: AtomicUsize::new(0),
        })
    }

    pub(super) fn never() -> Arc<CrashAt> {
        CrashAt::step(usize::MAX)
    }

    /// How many steps there were.
    pub(super) fn come(&self) -> usize {
        self.come.load(Ordering::Relaxed)
    }

    fn come_to(&self) -> io::Result<()> {
        match self.come.fetch_add(1, Ordering::Relaxed) < self.step {
            true => Ok(()),
            false => Err(io::Error::other("the process is gone")),
        }
    }
}

impl Steps for CrashAt {
    fn before(&self, _: &'static str) -> io::Result<()> {
        self.come_to()
    }

    fn operation(&self, _: &Operation<'_>) -> io::Result<()> {
        self.come_to()
    }
}

/// What came of a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// All is read.
    Ended,
    /// It ended before.
    Crashed,
}

/// Runs the job in a folder until it has read everything or comes to an error after which a process ends.
pub(super) fn run(folder: &Path, decides: &Decides, crash: &Arc<CrashAt>) -> Run {
    match Job::open(folder, decides, crash) {
        Some(job) => job.run(),
        None => Run::Crashed,
    }
}

/// Makes the state directory.
pub(super) fn make(folder: &Path) {
    let made = directory::open_or_create(&options(folder, Disk::default()));
    drop(made.expect("a new directory"));
}

struct Job {
    committer: Committer,
    tasks: Vec<Task>,
}

struct Task {
    id: TaskId,
    state: TaskState,
    record: TaskRecord,
    input: StreamId,
    output: StreamId,
}

fn options<'a>(folder: &Path, disk: Disk) -> DirectoryOptions<'a> {
    DirectoryOptions {
        path: folder.join("state"),
        job: "count".into(),
        disk_reserve: 0,
        db: DbOptions::default(),
        disk,
        check: Box::new(|_| Ok(())),
    }
}

fn catalog(path: &Path, db: &Db) -> Option<Catalog> {
    let stage = StageShape {
        partitions: PARTITIONS,
        component: "none".into(),
        file: None,
        wanted: Wanted::Recorded,
        state_version: 0,
        stores: ["counts".to_owned()].into(),
    };
    let stream = |name: &str| {
        let shape = StreamShape {
            topic: None,
            partitions: PARTITIONS,
            system: "log".into(),
        };
        (name.to_owned(), shape)
    };
    let shape = JobShape {
        stages: [("count".to_owned(), stage)].into(),
        streams: [stream("in"), stream("out")].into(),
    };
    Catalog::resolve(path, db, &shape, &Drops::default()).ok()
}

fn task_id(catalog: &Catalog, partition: u32) -> TaskId {
    TaskId {
        stage: catalog.stages["count"].id,
        partition: PartitionId(partition),
    }
}

fn out_log(catalog: &Catalog) -> LogStream {
    LogStream {
        letters: false,
        id: catalog.streams["out"].id,
        partitions: PARTITIONS,
        retention: Retention::default(),
    }
}

impl Job {
    fn open(folder: &Path, decides: &Decides, crash: &Arc<CrashAt>) -> Option<Job> {
        let disk = Disk::new(Arc::<CrashAt>::clone(crash));
        let directory = directory::open_or_create(&options(folder, disk.clone())).ok()?;
        let db = Arc::clone(&directory.db);
        let catalog = catalog(folder, &db)?;
        let (input, output) = (catalog.streams["in"].id, catalog.streams["out"].id);
        let ids: Vec<TaskId> = (0..PARTITIONS)
            .map(|partition| task_id(&catalog, partition))
            .collect();
        let mut options = CommitterOptions {
            logs: vec![out_log(&catalog)],
            external: Vec::new(),
            mirrored: Vec::new(),
            reads: ids.iter().map(|id| (*id, input)).collect(),
            durability: Durability::Process,
            disk: disk.clone(),
        };
        let mut committer = match decides {
            Decides::Database(durability) => {
                options.durability = *durability;
                Committer::open(directory, &options).ok()?
            }
            Decides::Broker(broker) => {
                let authority = Transactions {
                    broker: broker.clone(),
                    carried: output,
                    disk,
                };
                let (opened, _) = directory.split();
                Committer::open_with(opened, &options, Box::new(authority)).ok()?
            }
        };
        committer.register(&catalog, &[]).ok()?;
        let cache = Arc::new(CleanCache::new(1 << 20));
        let store = catalog.stages["count"].stores["counts"];
        let task = |id: TaskId| {
            let (db_, cache) = (Arc::clone(&db), Arc::clone(&cache));
            let handle = StoreHandle::open(db_, cache, id, store, StoreKind::RocksDb).ok()?;
            Some(Task {
                id,
                state: TaskState::new(id, vec![Arc::new(handle)]),
                record: records::get(&db, &id).ok()?.unwrap_or_default(),
                input,
                output,
            })
        };
        let tasks = ids.into_iter().map(task).collect::<Option<_>>()?;
        Some(Job { committer, tasks })
    }

    fn run(mut self) -> Run {
        while self.tasks.iter().any(|task| task.next() < MESSAGES) {
            let mut sealed = SealedEpoch {
                migrated: Vec::new(),
                epoch: self.committer.epoch().next(),
                trigger: "interval",
                began: Instant::now(),
                time: 0,
                tasks: self.tasks.iter_mut().map(Task::epoch).collect(),
                records: Vec::new(),
                holds: Vec::new(),
            };
            let mut failed = 0;
            let committed = loop {
                match self.committer.commit(&mut sealed, failed) {
                    Ok(committed) => break committed,
                    Err(CommitError::NotPrepared { .. }) => failed += 1,
                    Err(_) => return Run::Crashed,
                }
            };
            for task in &mut self.tasks {
                task.state.release();
            }
            if self.committer.deliver(committed).is_err() {
                return Run::Crashed;
            }
        }
        Run::Ended
    }
}

/// The word of a message.
fn word(partition: u32, offset: u64) -> String {
    format!("word {}", (offset * 7 + u64::from(partition)) % 5)
}

impl Task {
    fn next(&self) -> u64 {
        let position = self.record.positions.get(&self.input);
        position.map_or(0, |position| position.next)
    }

    /// Counts the next messages, and deletes the words of the third.
    fn epoch(&mut self) -> SealedTask {
        let from = self.next();
        let to = (from + PER_EPOCH).min(MESSAGES);
        let mut staged = Staged::default();
        for offset in from..to {
            let word = word(self.id.partition.0, offset);
            if offset % 8 == 5 {
                self.state
                    .delete_range(STORE, Some(b"word 1"), Some(b"word 3"));
            }
            let count = self.state.increment(STORE, word.as_bytes(), 1);
            let count = count.expect("a counter");
            let text = format!("{word} {count}");
            let message = MessageRef::new(None, Some(text.as_bytes()), 0);
            staged.push(OutputIndex(0), self.id.partition, message);
        }
        self.state.keep_batch();
        let position = Position {
            next: to,
            detail: None,
        };
        self.record.positions.insert(self.input, position);
        SealedTask {
            failed: 0,
            failing_before: Default::default(),
            task: self.id,
            state: self.state.seal(),
            staged,
            ports: [self.output].into(),
            worked: true,
            record: self.record.clone(),
            began: Vec::new(),
            pause: Duration::ZERO,
        }
    }
}

/// The state of all tasks, and the output of each partition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Result {
    state: BTreeMap<(u32, String), i64>,
    output: Vec<Vec<String>>,
}

/// What must come of the job.
pub(super) fn expected() -> Result {
    let mut state = BTreeMap::new();
    let mut output = Vec::new();
    for partition in 0..PARTITIONS {
        let mut lines = Vec::new();
        for offset in 0..MESSAGES {
            if offset % 8 == 5 {
                state.retain(|(of, word): &(u32, String), _| {
                    *of != partition || !(("word 1".."word 3").contains(&word.as_str()))
                });
            }
            let word = word(partition, offset);
            let count = state.entry((partition, word.clone())).or_insert(0);
            *count += 1;
            lines.push(format!("{word} {count}"));
        }
        output.push(lines);
    }
    Result { state, output }
}

/// What has come of it, read from the disk and from the broker.
pub(super) fn result(folder: &Path, decides: &Decides) -> Result {
    let directory = folder.join("state");
    let db = Db::open_read_only(&directory.join("db"), &DbOptions::default());
    let db = Arc::new(db.expect("a database"));
    let catalog = catalog(folder, &db).expect("the catalog");
    let store = catalog.stages["count"].stores["counts"];
    let mut state = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let prefix = StorePrefix::new(task_id(&catalog, partition), store);
        let (lower, upper) = prefix.range(None, None);
        let mut walk = db.walk(Family::State, lower, upper, Order::Up);
        while let Some((key, stored)) = walk.entry().expect("an entry") {
            let value = decode_value(stored).expect("a value");
            let count = i64::from_le_bytes(value.try_into().expect("a counter"));
            let word = String::from_utf8_lossy(&key[StorePrefix::LEN..]).into_owned();
            state.insert((partition, word), count);
            walk.advance();
        }
    }
    let output = match decides {
        Decides::Broker(broker) => (0..PARTITIONS).map(|at| broker.output(at)).collect(),
        Decides::Database(_) => {
            let log = out_log(&catalog);
            let logs = Logs::open(&db, &directory, std::slice::from_ref(&log)).expect("the logs");
            let partitions = (0..PARTITIONS).map(PartitionId);
            partitions.map(|at| read_all(&logs, log.id, at)).collect()
        }
    };
    Result { state, output }
}

fn read_all(logs: &Logs, stream: StreamId, partition: PartitionId) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut next, end) = logs.bounds(stream, partition);
    while next < end {
        let read = logs
            .read(stream, partition, next, 1 << 20)
            .expect("messages");
        for index in 0..read.messages.len() {
            let value = read.messages.get(index).value.unwrap_or_default();
            lines.push(String::from_utf8_lossy(value).into_owned());
        }
        next += read.messages.len() as u64;
    }
    lines
}

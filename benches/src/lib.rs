//! What the benchmarks share: a state directory with one stage and its output log, and a thread that commits.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use wasm_host::checkpoint::catalog::{Catalog, Drops, JobShape, StageShape, StreamShape};
use wasm_host::checkpoint::decide::Wanted;
use wasm_host::checkpoint::directory::{self, DirectoryOptions};
use wasm_host::checkpoint::logs::{LogStream, Retention};
use wasm_host::checkpoint::{Committer, CommitterOptions};
use wasm_host::disk::Disk;
use wasm_host::epoch::{SealedEpoch, SealedTask};
use wasm_host::model::{Epoch, OutputIndex, PartitionId, StreamId, TaskId};
use wasm_host::records::{StageRecord, TaskRecord};
use wasm_host::runtime::{OutputPort, StageMetrics, TaskContext, TaskInfo, TaskMetrics};
use wasm_host::state::{CleanCache, Db, DbOptions, Durability, StoreHandle, StoreKind, TaskState};

/// Whatever goes wrong ends a benchmark.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// An opened state directory for one stage `bench` with a store `counts` and an output log `out`.
pub struct Bench {
    /// Its database.
    pub db: Arc<Db>,
    /// Its cache.
    pub cache: Arc<CleanCache>,
    /// The number of the stage.
    pub stage: StageRecord,
    /// The number of the output log.
    pub out: StreamId,
    /// The committer.
    pub committer: Committer,
}

impl Bench {
    /// Makes the directory.
    ///
    /// # Errors
    /// The disk.
    pub fn open(path: &Path, tasks: u32, cache_bytes: u64) -> Result<Bench> {
        let directory = directory::open_or_create(&DirectoryOptions {
            path: path.to_owned(),
            job: "bench".into(),
            disk_reserve: 0,
            db: DbOptions::default(),
            disk: Disk::default(),
            check: Box::new(|_| Ok(())),
        })?;
        let stage = StageShape {
            state_version: 0,
            partitions: tasks,
            component: "bench".into(),
            file: None,
            wanted: Wanted::Recorded,
            stores: ["counts".to_owned()].into(),
        };
        let stream = StreamShape {
            topic: None,
            partitions: 1,
            system: "log".into(),
        };
        let shape = JobShape {
            stages: [("bench".to_owned(), stage)].into(),
            streams: [("out".to_owned(), stream)].into(),
        };
        let db = Arc::clone(&directory.db);
        let catalog = Catalog::resolve(path, &db, &shape, &Drops::default())?;
        let out = catalog.streams["out"].id;
        let log = LogStream {
            id: out,
            partitions: 1,
            retention: Retention {
                bytes: Some(1 << 30),
                ..Retention::default()
            },
            letters: false,
        };
        let options = CommitterOptions {
            mirrored: Vec::new(),
            logs: vec![log],
            external: Vec::new(),
            reads: Vec::new(),
            durability: Durability::Sync,
            disk: Disk::default(),
        };
        let mut committer = Committer::open(directory, &options)?;
        committer.register(&catalog, &[])?;
        Ok(Bench {
            db,
            cache: Arc::new(CleanCache::new(cache_bytes)),
            stage: catalog.stages["bench"].clone(),
            out,
            committer,
        })
    }

    /// The context of a task.
    ///
    /// # Errors
    /// The database.
    pub fn context(&self, partition: u32) -> Result<Box<TaskContext>> {
        let id = TaskId {
            stage: self.stage.id,
            partition: PartitionId(partition),
        };
        let store = StoreHandle::open(
            Arc::clone(&self.db),
            Arc::clone(&self.cache),
            id,
            self.stage.stores["counts"],
            StoreKind::RocksDb,
        )?;
        let info = TaskInfo {
            id,
            job: "bench".into(),
            stage: "bench".into(),
            partitions: self.stage.partitions,
            inputs: vec!["in".into()],
            outputs: vec![OutputPort {
                name: "out".into(),
                partitions: 1,
                bounds: None,
                counter: OutputIndex(0),
            }],
            stores: vec!["counts".into()],
            may_request_stop: false,
        };
        let metrics = TaskMetrics::new(Arc::new(StageMetrics::default()), id.partition);
        let state = TaskState::new(id, vec![Arc::new(store)]);
        Ok(Box::new(TaskContext::new(
            Arc::new(info),
            state,
            metrics,
            vec![0],
        )))
    }
}

/// Freezes what a task did.
pub fn seal(context: &mut TaskContext, out: StreamId) -> SealedTask {
    let began = Instant::now();
    let (state, staged) = context.seal();
    SealedTask {
        failed: 0,
        failing_before: Default::default(),
        task: context.info.id,
        state,
        staged,
        ports: Arc::from([out]),
        record: TaskRecord::default(),
        began: Vec::new(),
        worked: true,
        pause: began.elapsed(),
    }
}

/// Commits epochs on a thread of its own.
pub struct Commits {
    epochs: Sender<Vec<SealedTask>>,
    /// One for each committed epoch.
    pub done: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Commits {
    /// Starts the thread.
    pub fn start(mut committer: Committer) -> Commits {
        let (epochs, work) = channel::<Vec<SealedTask>>();
        let (done_sender, done) = channel();
        let thread = std::thread::spawn(move || {
            let mut epoch = committer.epoch();
            let mut retired: Vec<SealedTask>;
            while let Ok(tasks) = work.recv() {
                epoch = Epoch(epoch.0 + 1);
                let mut sealed = SealedEpoch {
                    migrated: Vec::new(),
                    epoch,
                    trigger: "interval",
                    began: Instant::now(),
                    time: 0,
                    records: Vec::new(),
                    holds: Vec::new(),
                    tasks,
                };
                let committed = committer
                    .commit(&mut sealed, 0)
                    .expect("the epoch is committed");
                committer.deliver(committed).expect("nothing to deliver");
                retired = sealed.tasks;
                if done_sender.send(()).is_err() {
                    return;
                }
                // Freed here, off the hot path, once the task has given it up.
                std::thread::sleep(std::time::Duration::from_millis(1));
                drop(std::mem::take(&mut retired));
            }
        });
        Commits {
            epochs,
            done,
            thread,
        }
    }

    /// Hands an epoch over.
    pub fn give(&self, tasks: Vec<SealedTask>) {
        self.epochs.send(tasks).expect("the commit thread lives");
    }

    /// Waits for the thread.
    pub fn stop(self) {
        drop(self.epochs);
        self.thread.join().expect("the commit thread ends");
    }
}

/// CPU time of this thread.
pub fn thread_cpu() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    std::time::Duration::new(seconds, nanos)
}

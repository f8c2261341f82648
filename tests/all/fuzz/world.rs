//! Where scripts run: a task and its twin, in one database with neighbours that must not notice.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tempfile::TempDir;
use wasm_host::model::{OutputIndex, PartitionId, StageId, Staged, StoreId, StoreIndex, TaskId};
use wasm_host::runtime::{
    Compiler, Component, ComponentOptions, DirectoryGrant, Instance, Limits, MetricValue,
    OutputPort, Runtime, RuntimeOptions, StageMetrics, TaskContext, TaskInfo, TaskMetrics,
};
use wasm_host::state::{
    Change, CleanCache, Db, DbOptions, Durability, LISTED_KEYS_MAX, Order, ScanOptions,
    SealedState, StoreHandle, StoreKind, TaskState,
};

use super::guest::{Guest, Handler};

pub const KEY_BYTES: usize = 64;
pub const VALUE_BYTES: usize = 2048;
pub const STAGED_BYTES: usize = 64 << 10;
pub const HEADERS: usize = 4;
pub const HEADER_BYTES: usize = 300;
pub const PARTITIONS: u32 = 3;
/// Files that all guests may have open.
pub const DESCRIPTORS: usize = 6;
pub const DEADLINE: std::time::Duration = std::time::Duration::from_millis(40);
/// Rounds of a database: each has stores of its own.
pub const DATABASE_ROUNDS: u64 = 4_000;
/// In a file that no guest was granted.
pub const SECRET: &[u8] = b"seen-by-nobody-7a1f";

const STORES: [StoreIndex; 2] = [StoreIndex(0), StoreIndex(1)];

/// What a round's component may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grants {
    None,
    Folder,
    Network,
}

/// The components, and the folders that they are granted.
pub struct Components {
    loaded: Vec<((Handler, Grants), Arc<Component>)>,
    folder: TempDir,
}

impl Components {
    pub fn load(guest: &Guest, port: u16) -> Components {
        let folder = in_memory();
        std::fs::create_dir(folder.path().join("granted")).expect("a folder");
        let mut components = Components {
            loaded: Vec::new(),
            folder,
        };
        components.fill_folder();
        let runtime = Runtime::new(RuntimeOptions {
            descriptors_max: DESCRIPTORS,
            instances_max: 8,
            table_elements_max: 1_000,
            has_fuel: false,
            compiler: Compiler::Here,
            memory_bytes_max: 2 << 20,
            cache: None,
        });
        let runtime = runtime.expect("an engine");
        for handler in [Handler::Message, Handler::Batch] {
            let path = components.folder.path().join(format!("{handler:?}.wasm"));
            std::fs::write(&path, guest.component(handler)).expect("a file");
            for grants in [Grants::None, Grants::Folder, Grants::Network] {
                let options = options(grants, &components.granted(), port);
                let loaded = Component::load(&runtime, &path, options).expect("a component");
                components.loaded.push(((handler, grants), loaded));
            }
        }
        components
    }

    pub fn get(&self, handler: Handler, grants: Grants) -> &Arc<Component> {
        let found = self.loaded.iter().find(|(of, _)| *of == (handler, grants));
        &found.expect("a loaded component").1
    }

    pub fn granted(&self) -> PathBuf {
        self.folder.path().join("granted")
    }

    /// What is in the folders at the beginning of a round.
    pub fn fill_folder(&self) {
        let granted = self.granted();
        // The folder itself stays: it is open in the components.
        for entry in std::fs::read_dir(&granted).expect("the granted folder") {
            let path = entry.expect("an entry").path();
            let removed = match path.is_dir() && !path.is_symlink() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            removed.expect("what a guest made can be removed");
        }
        let outside = self.folder.path().join("outside");
        std::fs::create_dir_all(&outside).expect("a folder");
        std::fs::write(outside.join("secret"), SECRET).expect("a file");
        std::fs::create_dir(granted.join("folder")).expect("a folder");
        std::fs::write(granted.join("file"), "content".repeat(100)).expect("a file");
        std::os::unix::fs::symlink("file", granted.join("link")).expect("a link");
        std::os::unix::fs::symlink("../outside/secret", granted.join("out")).expect("a link");
    }

    /// What lies outside of what was granted is as it was.
    pub fn check_outside(&self) {
        let outside = self.folder.path().join("outside");
        let names = std::fs::read_dir(&outside).expect("the folder").count();
        let secret = std::fs::read(outside.join("secret")).expect("the file");
        assert!(names == 1 && secret == SECRET, "a guest left its folder");
    }
}

/// A folder, in memory if the machine has such ones: it is about calls, not about disks.
fn in_memory() -> TempDir {
    let made = tempfile::tempdir_in("/dev/shm");
    made.or_else(|_| tempfile::tempdir()).expect("a folder")
}

fn options(grants: Grants, granted: &Path, port: u16) -> ComponentOptions {
    let mut options = ComponentOptions {
        config: Arc::new([("k0".to_owned(), "value".to_owned())].into()),
        limits: Limits {
            memory_bytes: 2 << 20,
            table_elements: 1_000,
            call_deadline: DEADLINE,
            operations: 20_000,
            scan_bytes: 1 << 20,
            staged_bytes: STAGED_BYTES,
            key_bytes: KEY_BYTES,
            value_bytes: VALUE_BYTES,
            headers: HEADERS,
            header_bytes: HEADER_BYTES,
            handles: 30,
            cursors: 4,
            random_bytes: 4096,
            metric_names: 20,
            ..Limits::default()
        },
        ..ComponentOptions::default()
    };
    if grants != Grants::None {
        options.environment = vec![("NAME".into(), "value".into())];
        options.directories = vec![DirectoryGrant {
            host: granted.to_owned(),
            shown: "the granted folder".to_owned(),
            guest: "/granted".into(),
            write: true,
        }];
    }
    if grants == Grants::Network {
        options.network = Arc::from([("127.0.0.1".to_owned(), port)]);
    }
    options
}

/// A database, with room for many rounds.
pub struct Database {
    db: Arc<Db>,
    cache: Arc<CleanCache>,
    _folder: TempDir,
}

impl Database {
    pub fn create() -> Database {
        let folder = in_memory();
        let options = DbOptions {
            block_cache_bytes: 1 << 20,
            write_buffer_bytes: 4 << 20,
            wal_bytes_max: 8 << 20,
            background_jobs: 1,
            passed_keys_max: 50,
        };
        let db = Db::create(&folder.path().join("db"), &options).expect("a database");
        Database {
            db: Arc::new(db),
            cache: Arc::new(CleanCache::new(16 << 20)),
            _folder: folder,
        }
    }

    fn stores(&self, task: TaskId, first: u16, kinds: &[StoreKind]) -> TaskState {
        let stores = (first..).zip(kinds).map(|(id, kind)| {
            let (db, cache) = (Arc::clone(&self.db), Arc::clone(&self.cache));
            let opened = StoreHandle::open(db, cache, task, StoreId(id), *kind);
            Arc::new(opened.expect("a store"))
        });
        TaskState::new(task, stores.collect())
    }

    /// Writes what was sealed, as the host does.
    fn commit(&self, sealed: &SealedState) {
        let mut budget = [LISTED_KEYS_MAX, 0, 3][sealed.size().0 % 3];
        let ranges = sealed.resolve_ranges(&mut budget).expect("a read");
        let mut writes = self.db.write_set();
        sealed.write_into(&mut writes, &ranges).expect("a read");
        writes.commit(Durability::Process).expect("a write");
        sealed.note_durable(&ranges).expect("a note");
    }
}

/// A task, as one that runs scripts sees it.
pub struct Task {
    pub context: Option<Box<TaskContext>>,
    pub instance: Option<Instance>,
    metrics: Arc<StageMetrics>,
}

/// What a task's sealed epoch was, as text.
#[derive(PartialEq, Eq)]
pub struct Shown {
    changes: String,
    sent: String,
    rest: String,
}

impl Task {
    fn new(database: &Database, stage: u16, first: u16, kinds: [StoreKind; 2]) -> Task {
        let id = TaskId {
            stage: StageId(stage),
            partition: PartitionId(1),
        };
        let port = |name: &str| OutputPort {
            name: name.into(),
            partitions: PARTITIONS,
            bounds: None,
            counter: OutputIndex(0),
        };
        let info = TaskInfo {
            id,
            job: "fuzz".into(),
            stage: "fuzz".into(),
            partitions: 3,
            inputs: vec!["in".into()],
            outputs: vec![port("out"), port("other")],
            stores: vec!["first".into(), "second".into()],
            may_request_stop: first.is_multiple_of(8),
        };
        let metrics = Arc::new(StageMetrics::default());
        let context = TaskContext::new(
            Arc::new(info),
            database.stores(id, first, &kinds),
            TaskMetrics::new(Arc::clone(&metrics), id.partition),
            vec![0, 0],
        );
        Task {
            context: Some(Box::new(context)),
            instance: None,
            metrics,
        }
    }

    pub fn context(&mut self) -> &mut TaskContext {
        self.context.as_mut().expect("the context is here")
    }

    /// Lends the context for a call, and looks whether it comes back in order.
    pub fn call<R>(
        &mut self,
        call: impl FnOnce(&mut Option<Instance>, Box<TaskContext>) -> (Box<TaskContext>, R),
    ) -> R {
        let context = self.context.take().expect("the context is here");
        let (context, result) = call(&mut self.instance, context);
        self.context = Some(context);
        let open = self.context().state_mut().cursors_open();
        assert_eq!(open, 0, "cursors are open after a call");
        result
    }

    /// Seals and commits what was kept, and shows it.
    pub fn seal(&mut self, database: &Database, calls: usize) -> Shown {
        let context = self.context();
        context.keep_batch();
        let requests = format!("{:?}", context.take_requests());
        let (sealed, sent) = context.seal();
        let changes = sealed.as_ref().map(check_changes).unwrap_or_default();
        let (messages, sent_bytes) = check_sent(&sent);
        let bytes = changes.1 + sent_bytes;
        assert!(
            bytes <= calls * STAGED_BYTES,
            "{calls} calls wrote and sent {bytes} bytes"
        );
        if let Some(sealed) = &sealed {
            database.commit(sealed);
        }
        context.release();
        let robin = context.round_robin(OutputIndex(0));
        let metrics = self.shown_metrics();
        Shown {
            changes: changes.0,
            sent: messages,
            rest: format!("{requests} {robin} {metrics}"),
        }
    }

    /// The metrics that were kept. Names without a figure are left out: a name that was used stays known.
    fn shown_metrics(&self) -> String {
        let mut shown = self.metrics.snapshot();
        shown.retain(|_, value| match value {
            MetricValue::Counter(sum) => *sum > 0,
            MetricValue::Gauge(values) => !values.is_empty(),
            MetricValue::Histogram(counts, _) => counts.iter().any(|(_, count)| *count > 0),
        });
        format!("{shown:?}")
    }

    /// All entries of all stores.
    pub fn entries(&mut self) -> String {
        let state = self.context().state_mut();
        let found = STORES.map(|store| entries(state, store));
        state.end_call();
        format!("{found:?}")
    }

    /// Round robin and metrics: what, beside its entries, can be seen of a task without sealing it.
    pub fn outside(&mut self) -> String {
        let metrics = self.shown_metrics();
        let robin = self.context().round_robin(OutputIndex(0));
        format!("{robin} {metrics}")
    }
}

type Entry = (Vec<u8>, Vec<u8>);

fn entries(state: &mut TaskState, store: StoreIndex) -> Vec<Entry> {
    let options = ScanOptions {
        order: Order::Up,
        keys_only: false,
    };
    let cursor = state.scan(store, None, None, options);
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let found = state.scan_next(cursor, 1_000, 1 << 20, &mut || false);
        let found = found.expect("a read").expect("an open cursor");
        if found.keys.is_empty() {
            return all;
        }
        let pairs = found
            .keys
            .iter()
            .flatten()
            .zip(found.values.iter().flatten());
        all.extend(pairs.map(|(key, value)| (key.to_vec(), value.to_vec())));
    }
}

/// No key or value is beyond its limit. All changes as text, and how much they count for.
fn check_changes(sealed: &SealedState) -> (String, usize) {
    let (mut shown, mut bytes) = (String::new(), 0);
    let mut first = None;
    for (store, change) in sealed.changes() {
        let (key, value) = match change {
            Change::Put(key, value) => (key, value),
            Change::Delete(key) => (key, &[][..]),
            Change::DeleteRange { start, end } => (start, end.unwrap_or_default()),
        };
        let store = store.0 - *first.get_or_insert(store.0 & !3);
        let most = match change {
            Change::DeleteRange { .. } => KEY_BYTES,
            _ => VALUE_BYTES,
        };
        assert!(
            key.len() <= KEY_BYTES && value.len() <= most,
            "a key of {} bytes and a value of {} bytes were written",
            key.len(),
            value.len()
        );
        bytes += key.len() + value.len();
        shown += &format!("{store} {change:?}\n");
        assert!(!contains_secret(value), "a guest has read a secret");
    }
    (shown, bytes)
}

/// The same for what was sent.
fn check_sent(sent: &Staged) -> (String, usize) {
    let (mut shown, mut bytes) = (String::new(), 0);
    for (index, (port, partition)) in sent.routes.iter().enumerate() {
        let message = sent.messages.get(index);
        let (key, value) = (
            message.key.unwrap_or_default(),
            message.value.unwrap_or_default(),
        );
        let headers: Vec<_> = message.headers().collect();
        let size =
            |(name, value): &(&[u8], Option<&[u8]>)| name.len() + value.map_or(0, <[u8]>::len);
        let header_bytes: usize = headers.iter().map(size).sum();
        assert!(
            port.0 < 2
                && partition.0 < PARTITIONS
                && key.len() <= KEY_BYTES
                && value.len() <= VALUE_BYTES
                && headers.len() <= HEADERS
                && header_bytes <= HEADER_BYTES,
            "a message beyond its limits was sent: {message:?}"
        );
        assert!(
            headers
                .iter()
                .all(|(name, _)| std::str::from_utf8(name).is_ok()),
            "a header's name is not UTF-8"
        );
        assert!(!contains_secret(value), "a guest has read a secret");
        bytes += key.len() + value.len() + header_bytes;
        let (key, value, time) = (message.key, message.value, message.timestamp);
        shown += &format!("{port:?} {partition:?} {key:?} {value:?} {time} {headers:?}\n");
    }
    (shown, bytes)
}

fn contains_secret(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET)
}

/// A task, its twin, and those beside it.
pub struct World<'a> {
    pub database: &'a Database,
    pub task: Task,
    pub twin: Task,
    neighbours: Vec<TaskState>,
    known: Vec<Vec<Entry>>,
}

impl<'a> World<'a> {
    /// A world with drawn content, of its own stores.
    pub fn new(database: &'a Database, round: u64, random: &mut StdRng) -> World<'a> {
        let first = 4 + 4 * u16::try_from(round % DATABASE_ROUNDS).expect("few");
        let kind = |random: &mut StdRng| match random.random_bool(0.5) {
            true => StoreKind::RocksDb,
            false => StoreKind::Memory,
        };
        let kinds = [kind(random), kind(random)];
        let other = [kind(random), kind(random)];
        let id = |stage, partition| TaskId {
            stage: StageId(stage),
            partition: PartitionId(partition),
        };
        let plain = [StoreKind::RocksDb];
        let mut world = World {
            database,
            task: Task::new(database, 1, first, kinds),
            twin: Task::new(database, 2, first, other),
            neighbours: vec![
                database.stores(id(1, 0), first + 1, &plain),
                database.stores(id(1, 2), first, &plain),
                database.stores(id(1, 1), first + 2, &plain),
                database.stores(id(1, 1), first - 1, &plain),
            ],
            known: Vec::new(),
        };
        world.fill(random);
        world
    }

    fn fill(&mut self, random: &mut StdRng) {
        for store in STORES {
            for _ in 0..random.random_range(0..12) {
                let key = format!("k{}", random.random_range(0..12));
                let len = if random.random_bool(0.5) { 8 } else { 20 };
                let value: Vec<u8> = (0..len).map(|_| random.random_range(0..4)).collect();
                for task in [&mut self.task, &mut self.twin] {
                    let state = task.context().state_mut();
                    state.put(store, key.as_bytes(), Some(&value));
                }
            }
        }
        for task in [&mut self.task, &mut self.twin] {
            task.seal(self.database, 1);
        }
        for neighbour in &mut self.neighbours {
            for key in [&b""[..], b"k0", b"k1", b"\xff\xff\xff"] {
                neighbour.put(StoreIndex(0), key, Some(b"of a neighbour"));
            }
            neighbour.keep_batch();
            let sealed = neighbour.seal().expect("changes");
            self.database.commit(&sealed);
            neighbour.release();
            self.known.push(entries(neighbour, StoreIndex(0)));
            neighbour.end_call();
        }
    }

    /// The neighbours have what they had.
    pub fn check_neighbours(&mut self) {
        for (neighbour, known) in self.neighbours.iter_mut().zip(&self.known) {
            let found = entries(neighbour, StoreIndex(0));
            neighbour.end_call();
            assert!(found == *known, "a neighbour's store has changed");
        }
    }

    /// Both tasks have done the same.
    pub fn compare(&mut self, calls: usize) {
        let task = self.task.seal(self.database, calls);
        let twin = self.twin.seal(self.database, calls);
        assert_same("what was written", &task.changes, &twin.changes);
        assert_same("what was sent", &task.sent, &twin.sent);
        assert_same("requests, round robin, metrics", &task.rest, &twin.rest);
        assert_same("the entries", &self.task.entries(), &self.twin.entries());
    }
}

#[track_caller]
pub fn assert_same(what: &str, one: &str, other: &str) {
    assert!(
        one == other,
        "{what} of the task and of its twin are not the same:\n{one}\nand\n{other}"
    );
}

//! The engine under test: tasks over a real database in a temporary folder, and a commit on a thread of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tempfile::TempDir;
use wasm_host::model::{Column, StoreId, StoreIndex, TaskId};
use wasm_host::state::{
    CleanCache, CursorId, Db, DbOptions, Durability, Entries, Family, IncrementError,
    LISTED_KEYS_MAX, Order, ResolvedRanges, SealedState, StateError, StoreHandle, StoreKind,
    TaskState, decode_value,
};

use super::operation::{Answer, Bytes, Found, Operation, Place, Refusal, Subject};

/// What is set up: every task has every store.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) tasks: Vec<TaskId>,
    pub(super) stores: Vec<(StoreId, StoreKind)>,
    /// Bytes of the clean cache; more than the `memory` stores ever take.
    pub(super) cache_bytes: u64,
    /// Bytes of RocksDB's memtables; little makes it flush and compact.
    pub(super) write_buffer_bytes: usize,
    pub(super) durability: Durability,
}

impl Setup {
    /// The options of its database.
    pub(super) fn db_options(&self) -> DbOptions {
        DbOptions {
            block_cache_bytes: 1 << 20,
            write_buffer_bytes: self.write_buffer_bytes,
            wal_bytes_max: 4 << 20,
            background_jobs: 2,
            // Little, so that scans look at the time and go by pieces.
            passed_keys_max: 50,
        }
    }
}

/// What a commit is given.
pub(super) struct Epoch<'a> {
    pub(super) db: &'a Db,
    pub(super) sealed: &'a [SealedState],
    pub(super) durability: Durability,
}

/// Does a commit. The second argument ends a step and waits for the next one: `false`, there will be none.
pub(super) type Commit = fn(&Epoch<'_>, &mut dyn FnMut() -> bool);

/// The keys of deleted ranges: now all of them, now none or a few, so that ranges are deleted key by key and as a whole.
pub(super) fn resolve(state: &SealedState) -> ResolvedRanges {
    let mut budget = [LISTED_KEYS_MAX, 0, 3][state.size().0 % 3];
    state
        .resolve_ranges(&mut budget)
        .expect("the database can be read")
}

/// The commit as the host does it.
pub(super) fn commit(epoch: &Epoch<'_>, next_step: &mut dyn FnMut() -> bool) {
    let prepare = || {
        let mut writes = epoch.db.write_set();
        let removed: Vec<_> = epoch.sealed.iter().map(resolve).collect();
        for (state, ranges) in epoch.sealed.iter().zip(&removed) {
            state
                .write_into(&mut writes, ranges)
                .expect("the database can be read");
        }
        (writes, removed)
    };
    if !next_step() {
        return;
    }
    // An attempt that fails before the write is made again from the same layers.
    drop(prepare());
    let (writes, removed) = prepare();
    if !next_step() {
        return;
    }
    writes
        .commit(epoch.durability)
        .expect("the database can be written");
    if !next_step() {
        return;
    }
    for (state, removed) in epoch.sealed.iter().zip(&removed) {
        state
            .note_durable(removed)
            .expect("the `memory` stores fit");
    }
    next_step();
}

struct Flight {
    step: Sender<()>,
    done: Receiver<()>,
    thread: JoinHandle<()>,
    /// Whether a step was begun and not yet waited for.
    running: bool,
}

impl Flight {
    fn begin(
        db: Arc<Db>,
        sealed: Vec<SealedState>,
        durability: Durability,
        commit: Commit,
    ) -> Flight {
        let (step, steps) = channel();
        let (ended, done) = channel();
        let thread = std::thread::spawn(move || {
            let mut is_first = true;
            let mut next_step = || {
                let is_heard = std::mem::replace(&mut is_first, false) || ended.send(()).is_ok();
                is_heard && steps.recv().is_ok()
            };
            let epoch = Epoch {
                db: &db,
                sealed: &sealed,
                durability,
            };
            commit(&epoch, &mut next_step);
        });
        Flight {
            step,
            done,
            thread,
            running: false,
        }
    }

    fn begin_step(&mut self) {
        self.step.send(()).expect("the commit's thread lives");
        self.running = true;
    }

    fn finish_step(&mut self) {
        if std::mem::take(&mut self.running) {
            self.done.recv().expect("the commit's thread lives");
        }
    }

    fn end(mut self) {
        self.finish_step();
        drop(self.step);
        self.thread.join().expect("the commit did not panic");
    }
}

/// The real thing.
pub(super) struct Engine {
    setup: Setup,
    commit: Commit,
    /// Open but for a moment of a reopen.
    db: Option<Arc<Db>>,
    cache: Arc<CleanCache>,
    tasks: Vec<TaskState>,
    cursors: BTreeMap<u32, CursorId>,
    /// Sealed layers of tasks that wait for the others.
    sealed: Vec<SealedState>,
    flight: Option<Flight>,
    /// How often a scan ran out of time before it found anything.
    pub(super) out_of_time: u64,
    directory: TempDir,
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(Flight { step, thread, .. }) = self.flight.take() {
            drop(step);
            // A run that has failed says why itself.
            let _ = thread.join();
        }
    }
}

impl Engine {
    /// A new database, whose epochs are committed by `commit`.
    pub(super) fn new(setup: &Setup, commit: Commit) -> Engine {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let db =
            Db::create(&directory.path().join("db"), &setup.db_options()).expect("a new database");
        let db = Arc::new(db);
        let cache = Arc::new(CleanCache::new(setup.cache_bytes));
        Engine {
            setup: setup.clone(),
            commit,
            tasks: open_tasks(setup, &db, &cache),
            db: Some(db),
            cache,
            cursors: BTreeMap::new(),
            sealed: Vec::new(),
            flight: None,
            out_of_time: 0,
            directory,
        }
    }

    /// The database, for mistakes.
    pub(super) fn db(&self) -> &Arc<Db> {
        self.db.as_ref().expect("the database is open")
    }

    fn reopen(&mut self) {
        if let Some(flight) = self.flight.take() {
            flight.end();
        }
        self.tasks.clear();
        self.sealed.clear();
        self.cursors.clear();
        drop(
            self.db
                .take()
                .and_then(Arc::into_inner)
                .expect("the database is not open elsewhere"),
        );
        let path = self.directory.path().join("db");
        let db =
            Arc::new(Db::open(&path, &self.setup.db_options()).expect("the database opens again"));
        self.cache = Arc::new(CleanCache::new(self.setup.cache_bytes));
        self.tasks = open_tasks(&self.setup, &db, &self.cache);
        self.db = Some(db);
    }

    fn task(&mut self, at: Place) -> (&mut TaskState, StoreIndex) {
        let store = u16::try_from(at.store).expect("few stores");
        (&mut self.tasks[at.task], StoreIndex(store))
    }

    fn begin_step(&mut self) {
        if self.flight.is_none() {
            let sealed = std::mem::take(&mut self.sealed);
            let flight = Flight::begin(
                Arc::clone(self.db()),
                sealed,
                self.setup.durability,
                self.commit,
            );
            self.flight = Some(flight);
        }
        self.flight.as_mut().expect("it was begun").begin_step();
    }

    fn stored(&mut self) -> Vec<(Bytes, Bytes)> {
        for task in &mut self.tasks {
            while task.trim() {}
        }
        let (used, budget) = self.cache.usage();
        // A store gives nothing up inside a batch, and has a chunk that it fills.
        let stores = (self.setup.tasks.len() * self.setup.stores.len()) as u64;
        assert!(
            used <= budget + (stores << 20) + (8 << 20),
            "the cache takes {used} bytes of {budget}"
        );
        let mut all = Vec::new();
        let mut walk = self
            .db()
            .walk(Family::State, Vec::new(), vec![u8::MAX; 32], Order::Up);
        while let Some((key, stored)) = walk.entry().expect("the database can be read") {
            let value = decode_value(stored).expect("what was written");
            all.push((key.into(), value.into()));
            walk.advance();
        }
        all
    }

    fn walk(&mut self, operation: &Operation) -> Found {
        let Operation::Walk {
            at,
            range,
            options,
            entries_max,
        } = operation
        else {
            panic!("not a walk: {operation:?}");
        };
        let mut out_of_time = 0;
        let (task, store) = self.task(*at);
        let cursor = task.scan(
            store,
            range.start.as_deref(),
            range.end.as_deref(),
            *options,
        );
        let mut all = Found::new();
        loop {
            // Out of time, it finds less or nothing; then it goes on where it was.
            let entries = match task.scan_next(cursor, *entries_max, usize::MAX, &mut || true) {
                Err(StateError::TimeOver) => {
                    out_of_time += 1;
                    task.scan_next(cursor, *entries_max, usize::MAX, &mut || false)
                }
                entries => entries,
            };
            let entries = entries.expect("the database can be read");
            let entries = found(&entries.expect("the cursor is open"));
            if entries.is_empty() {
                break;
            }
            all.extend(entries);
            assert!(all.len() < 1_000_000, "a scan does not end");
        }
        task.scan_close(cursor);
        if task.cursors_open() == 0 {
            task.end_call();
        }
        self.out_of_time += out_of_time;
        all
    }
}

fn open_tasks(setup: &Setup, db: &Arc<Db>, cache: &Arc<CleanCache>) -> Vec<TaskState> {
    let open_task = |task: &TaskId| {
        let open_store = |(id, kind): &(StoreId, StoreKind)| {
            let handle = StoreHandle::open(Arc::clone(db), Arc::clone(cache), *task, *id, *kind);
            Arc::new(handle.expect("the store opens"))
        };
        TaskState::new(*task, setup.stores.iter().map(open_store).collect())
    };
    setup.tasks.iter().map(open_task).collect()
}

/// Later than any scan takes.
fn found(entries: &Entries) -> Found {
    let value = |index| {
        (!entries.values.is_empty()).then(|| entries.values.get(index).expect("a value").into())
    };
    let keys = entries.keys.iter().map(|key| key.expect("a key").into());
    assert!(entries.values.is_empty() || entries.values.len() == entries.keys.len());
    keys.enumerate()
        .map(|(index, key)| (key, value(index)))
        .collect()
}

impl Subject for Engine {
    fn apply(&mut self, operation: &Operation) -> Answer {
        const READ: &str = "the database can be read";
        match operation {
            Operation::Get { at, key } => {
                let (task, store) = self.task(*at);
                let value = task.get(store, key).expect(READ);
                return Answer::Value(value.map(Bytes::from));
            }
            Operation::GetMany { at, keys } => {
                let (task, store) = self.task(*at);
                let mut column = Column::new();
                for key in keys {
                    task.get_into(store, key, &mut column).expect(READ);
                }
                return Answer::Values(column.iter().map(|value| value.map(Bytes::from)).collect());
            }
            Operation::Put { at, key, value } => {
                let (task, store) = self.task(*at);
                task.put(store, key, Some(value));
            }
            Operation::Delete { at, key } => {
                let (task, store) = self.task(*at);
                task.put(store, key, None);
            }
            Operation::Increment { at, key, by } => {
                let (task, store) = self.task(*at);
                let sum = task
                    .increment(store, key, *by)
                    .map_err(|error| match error {
                        IncrementError::Length(length) => Refusal::Length(length),
                        IncrementError::Overflow { .. } => Refusal::Overflow,
                        IncrementError::State(error) => panic!("{READ}: {error}"),
                    });
                return Answer::Sum(sum);
            }
            Operation::DeleteRange { at, range } => {
                let (task, store) = self.task(*at);
                task.delete_range(store, range.start.as_deref(), range.end.as_deref());
            }
            Operation::Scan {
                at,
                range,
                options,
                cursor,
            } => {
                let (task, store) = self.task(*at);
                let id = task.scan(
                    store,
                    range.start.as_deref(),
                    range.end.as_deref(),
                    *options,
                );
                self.cursors.insert(*cursor, id);
            }
            Operation::ScanNext {
                task,
                cursor,
                entries_max,
                bytes_max,
            } => {
                let (task, cursor) = (&mut self.tasks[*task], self.cursors[cursor]);
                let entries = task.scan_next(cursor, *entries_max, *bytes_max, &mut || false);
                return Answer::Entries(entries.expect(READ).as_ref().map(found));
            }
            Operation::ScanClose { task, cursor } => {
                self.tasks[*task].scan_close(self.cursors[cursor])
            }
            Operation::Walk { .. } => return Answer::Entries(Some(self.walk(operation))),
            Operation::CountCursors { task } => {
                return Answer::Cursors(self.tasks[*task].cursors_open());
            }
            Operation::EndCall { task } => self.tasks[*task].end_call(),
            Operation::MarkMessage { task } => self.tasks[*task].mark_message(),
            Operation::UndoMessage { task } => self.tasks[*task].undo_message(),
            Operation::KeepBatch { task } => {
                self.tasks[*task].end_call();
                self.tasks[*task].keep_batch();
            }
            Operation::UndoBatch { task } => self.tasks[*task].undo_batch(),
            Operation::Seal { task } => {
                let sealed = self.tasks[*task].seal();
                assert_eq!(sealed.is_some(), self.tasks[*task].is_sealed());
                assert!(
                    sealed
                        .as_ref()
                        .is_none_or(|sealed| sealed.task() == self.setup.tasks[*task])
                );
                let answer = Answer::Sealed(sealed.is_some());
                self.sealed.extend(sealed);
                return answer;
            }
            Operation::Begin(_) => self.begin_step(),
            Operation::Finish => {
                self.flight
                    .as_mut()
                    .expect("a commit is in flight")
                    .finish_step();
            }
            Operation::Release { task } => {
                // The first release of an epoch: its commit is over.
                if let Some(flight) = self.flight.take() {
                    flight.end();
                }
                self.tasks[*task].release();
            }
            Operation::Stored => return Answer::Stored(self.stored()),
            Operation::Reopen => self.reopen(),
        }
        Answer::Done
    }
}

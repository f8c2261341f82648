//! Undo records: whatever a stage has written since a moment, it can be as it was then.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use wasm_host::model::{StageId, StoreId, StoreIndex, TaskId};
use wasm_host::state::{
    CleanCache, Db, DbOptions, Durability, Family, LISTED_KEYS_MAX, Order, Saved, StoreHandle,
    StoreKind, TaskState, Undo, WriteSet, forget_undo, take_back,
};

use super::{seed, tasks};

/// The stores of a task, of two stages.
struct Stages {
    db: Arc<Db>,
    states: Vec<TaskState>,
    saved: Saved,
    _folder: tempfile::TempDir,
}

impl Stages {
    fn new(ids: &[(u16, u32)]) -> Stages {
        let folder = tempfile::tempdir().expect("a folder");
        let options = DbOptions {
            write_buffer_bytes: 1 << 20,
            ..DbOptions::default()
        };
        let db = Db::create(&folder.path().join("db"), &options);
        let db = Arc::new(db.expect("a database"));
        let cache = Arc::new(CleanCache::new(1 << 20));
        let state = |task: TaskId| {
            let store = |(id, kind)| {
                let (db, cache) = (Arc::clone(&db), Arc::clone(&cache));
                let handle = StoreHandle::open(db, cache, task, StoreId(id), kind);
                Arc::new(handle.expect("a store"))
            };
            let stores = [(0, StoreKind::RocksDb), (1, StoreKind::Memory)];
            TaskState::new(task, stores.map(store).to_vec())
        };
        let states = tasks(ids).into_iter().map(state).collect();
        Stages {
            db,
            states,
            saved: Saved::of_none(),
            _folder: folder,
        }
    }

    fn put(&mut self, task: usize, store: u16, key: &str, value: Option<&str>) {
        let value = value.map(str::as_bytes);
        self.states[task].put(StoreIndex(store), key.as_bytes(), value);
    }

    fn delete_range(&mut self, task: usize, store: u16, start: Option<&str>, end: Option<&str>) {
        let (start, end) = (start.map(str::as_bytes), end.map(str::as_bytes));
        self.states[task].delete_range(StoreIndex(store), start, end);
    }

    /// Commits what a task has written, with undo records or without. How many keys were saved.
    fn commit(&mut self, task: usize, saves: bool) -> u64 {
        let (db, state) = (&*self.db, &mut self.states[task]);
        state.keep_batch();
        let Some(sealed) = state.seal() else {
            return 0;
        };
        let flush = |saved: WriteSet<'_>| Ok(saved.commit(Durability::Process)?);
        let mut undo = Undo::new(db, &flush, &mut self.saved);
        let mut writes = db.write_set();
        let ranges = sealed.resolve_ranges(&mut { LISTED_KEYS_MAX });
        let ranges = ranges.expect("the ranges");
        let built = match saves {
            true => sealed.write_saving(&mut writes, &ranges, &mut undo),
            false => sealed.write_into(&mut writes, &ranges),
        };
        built.expect("it is built");
        let (keys, _) = undo.finish().expect("it is saved");
        writes.commit(Durability::Process).expect("a write");
        sealed.note_durable(&ranges).expect("it fits");
        state.release();
        keys
    }

    /// Everything that is stored.
    fn all(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut found = BTreeMap::new();
        let (lower, upper) = (vec![0], vec![u8::MAX; 9]);
        let mut walk = self.db.walk(Family::State, lower, upper, Order::Up);
        while let Some((key, value)) = walk.entry().expect("it can be read") {
            found.insert(key.to_vec(), value.to_vec());
            walk.advance();
        }
        found
    }

    /// Takes a part of what a stage has written back, or the rest.
    fn take_back(&self, stage: StageId, from: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let mut writes = self.db.write_set();
        let next = take_back(&self.db, stage, from, &mut writes).expect("it can be read");
        writes.commit(Durability::Process).expect("a write");
        next
    }

    fn forget(&self, stage: StageId) {
        let mut writes = self.db.write_set();
        forget_undo(stage, &mut writes);
        writes.commit(Durability::Process).expect("a write");
    }
}

#[test]
fn what_was_overwritten_deleted_or_new_is_as_it_was() {
    let mut stages = Stages::new(&[(0, 1), (1, 0)]);
    for key in ["a", "b", "c", "d", "e"] {
        stages.put(0, 0, key, Some("before"));
        stages.put(0, 1, key, Some(""));
        stages.put(1, 0, key, Some("of another stage"));
    }
    stages.commit(0, false);
    stages.commit(1, false);
    let before = stages.all();

    stages.put(0, 0, "a", Some("after"));
    stages.put(0, 0, "new", Some("after"));
    stages.put(0, 1, "a", None);
    stages.put(0, 1, "never there", None);
    assert_eq!(stages.commit(0, true), 4);
    // What was saved is not saved again, and a range has all that it deletes.
    stages.put(0, 0, "a", Some("after that"));
    stages.delete_range(0, 0, None, Some("d"));
    stages.put(0, 0, "b", Some("and after that"));
    stages.delete_range(0, 1, Some("b"), None);
    // One of them is written again, and counts once.
    assert_eq!(stages.commit(0, true), 2 + 4);
    stages.put(0, 0, "d", Some("after"));
    assert_eq!(stages.commit(0, true), 1);
    stages.put(1, 0, "a", Some("after"));
    stages.commit(1, false);

    // A process that dies in between begins again.
    assert_eq!(stages.take_back(StageId(0), None), None);
    assert_eq!(stages.take_back(StageId(0), None), None);
    stages.forget(StageId(0));
    let mut expected = before;
    let (key, value) = expected
        .iter_mut()
        .find(|(key, _)| key.starts_with(&[0, 1]))
        .expect("an entry of the other stage");
    assert!(key.ends_with(b"a"));
    *value = b"\0after".to_vec();
    assert_eq!(stages.all(), expected);
}

#[test]
fn any_writes_of_any_epochs_are_taken_back() {
    let seed = seed();
    println!("STATE_MODEL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..40 {
        let mut stages = Stages::new(&[(3, 0), (3, 1), (4, 0)]);
        let epochs = random.random_range(2..30);
        let moment = random.random_range(0..epochs);
        let mut then = BTreeMap::new();
        for epoch in 0..epochs {
            if epoch == moment {
                then = stages.all();
            }
            for _ in 0..random.random_range(0..200) {
                let task = random.random_range(0..2);
                let store = random.random_range(0..2);
                let mut key = || format!("{:02}", random.random_range(0..60));
                let (key, other) = (key(), key());
                match random.random_range(0..12) {
                    0 => {
                        let end = random.random::<bool>().then_some(&*other);
                        stages.delete_range(task, store, Some(&key), end);
                    }
                    1..4 => stages.put(task, store, &key, None),
                    _ => {
                        let value = random.random::<u32>().to_string();
                        stages.put(task, store, &key, Some(&value));
                    }
                }
            }
            if random.random_range(0..5) == 0 {
                // As after a restart.
                stages.saved = Saved::of_some();
            }
            for task in 0..2 {
                stages.commit(task, epoch >= moment);
            }
        }
        assert_eq!(stages.take_back(StageId(3), None), None);
        stages.forget(StageId(3));
        assert_eq!(stages.all(), then);
    }
}

#[test]
fn more_than_fits_into_a_write_is_saved_and_taken_back_in_several() {
    let mut stages = Stages::new(&[(0, 0)]);
    let value = "v".repeat(10_000);
    let key = |number: u32| format!("{number:08}");
    for number in 0..15_000 {
        stages.put(0, 0, &key(number), Some(&value));
    }
    stages.commit(0, false);
    let before = stages.all();
    stages.delete_range(0, 0, None, None);
    assert_eq!(stages.commit(0, true), 15_000);
    let (mut from, mut writes) = (None, 0);
    loop {
        from = stages.take_back(StageId(0), from);
        writes += 1;
        if from.is_none() {
            break;
        }
    }
    assert!(writes > 2, "{writes}");
    stages.forget(StageId(0));
    assert!(stages.all() == before);
}

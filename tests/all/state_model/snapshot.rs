//! A store as it was at one moment: later commits are not seen, and the live cache learns nothing.

use std::sync::Arc;

use wasm_host::model::{PartitionId, StageId, StoreId, StoreIndex, TaskId};
use wasm_host::state::{
    CleanCache, Db, DbOptions, Durability, LISTED_KEYS_MAX, Order, ScanOptions, Snapshot,
    StateError, StoreHandle, StoreKind, TaskState,
};

const STORE: StoreIndex = StoreIndex(0);
const TASK: TaskId = TaskId {
    stage: StageId(0),
    partition: PartitionId(0),
};

fn commit(db: &Db, task: &mut TaskState) -> Result<(), StateError> {
    task.keep_batch();
    let sealed = task.seal().expect("there are changes");
    let mut writes = db.write_set();
    let removed = sealed.resolve_ranges(&mut { LISTED_KEYS_MAX })?;
    sealed.write_into(&mut writes, &removed)?;
    writes.commit(Durability::Process)?;
    sealed.note_durable(&removed)?;
    task.release();
    Ok(())
}

/// A key and its value.
type Entry = (Vec<u8>, Vec<u8>);

fn scan(task: &mut TaskState) -> Result<Vec<Entry>, StateError> {
    let options = ScanOptions {
        order: Order::Up,
        keys_only: false,
    };
    let cursor = task.scan(STORE, None, None, options);
    let found = task.scan_next(cursor, usize::MAX, usize::MAX, &mut || false)?;
    task.end_call();
    let found = found.expect("an open cursor");
    let entry = |at: usize| {
        let bytes = |value: Option<&[u8]>| value.unwrap_or_default().to_vec();
        (bytes(found.keys.get(at)), bytes(found.values.get(at)))
    };
    Ok((0..found.keys.len()).map(entry).collect())
}

#[test]
fn a_store_of_one_moment_sees_no_later_commit_and_fills_no_cache() -> Result<(), StateError> {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let db = Db::create(&directory.path().join("db"), &DbOptions::default())?;
    let (db, cache) = (Arc::new(db), Arc::new(CleanCache::new(1 << 20)));
    let live = || {
        let (db, cache) = (Arc::clone(&db), Arc::clone(&cache));
        let handle = StoreHandle::open(db, cache, TASK, StoreId(0), StoreKind::RocksDb);
        handle.map(|handle| TaskState::new(TASK, vec![Arc::new(handle)]))
    };
    let key = |number: u32| number.to_be_bytes();
    let mut task = live()?;
    for number in 0..1_000 {
        task.put(STORE, &key(number), Some(b"then"));
    }
    commit(&db, &mut task)?;
    let snapshot = Arc::new(Snapshot::take(&db));
    // The live task goes on, and the cache is emptied of what it knew.
    for number in 0..500 {
        task.put(STORE, &key(number), Some(b"now"));
    }
    task.delete_range(STORE, Some(&key(500)), Some(&key(900)));
    task.put(STORE, &key(2_000), Some(b"now"));
    commit(&db, &mut task)?;
    let mut task = live()?;
    let before = cache.usage();
    let handle = StoreHandle::as_of(snapshot, TASK, StoreId(0));
    let mut then = TaskState::new(TASK, vec![Arc::new(handle)]);
    for number in 0..1_000 {
        let value = then.get(STORE, &key(number))?;
        assert_eq!(value.as_deref(), Some(&b"then"[..]), "{number}");
    }
    assert_eq!(then.get(STORE, &key(2_000))?, None);
    let all = scan(&mut then)?;
    assert_eq!(all.len(), 1_000);
    assert!(all.iter().all(|(_, value)| value == b"then"));
    assert_eq!(cache.usage(), before, "the live cache has not changed");
    // What is written above it is seen above it, and nowhere else.
    then.put(STORE, &key(0), Some(b"above"));
    assert_eq!(then.get(STORE, &key(0))?.as_deref(), Some(&b"above"[..]));
    assert_eq!(task.get(STORE, &key(0))?.as_deref(), Some(&b"now"[..]));
    assert_eq!(task.get(STORE, &key(600))?, None);
    assert!(cache.usage().0 > before.0, "a live read fills the cache");
    Ok(())
}

#[test]
#[should_panic(expected = "committed at an earlier moment")]
fn what_is_written_above_an_earlier_moment_is_never_committed() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let db = Db::create(&directory.path().join("db"), &DbOptions::default());
    let db = Arc::new(db.expect("a new database"));
    let handle = StoreHandle::as_of(Arc::new(Snapshot::take(&db)), TASK, StoreId(0));
    let mut then = TaskState::new(TASK, vec![Arc::new(handle)]);
    then.delete_range(STORE, None, None);
    let _ = commit(&db, &mut then);
}

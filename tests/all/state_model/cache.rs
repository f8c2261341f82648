//! What `memory` stores take of the cache, and what they leave to the others.

use std::sync::Arc;

use wasm_host::model::{PartitionId, StageId, StoreId, StoreIndex, TaskId};
use wasm_host::state::{
    CleanCache, Db, DbOptions, Durability, LISTED_KEYS_MAX, StateError, StoreHandle, StoreKind,
    TaskState,
};

const MEMORY: StoreIndex = StoreIndex(0);
const ROCKSDB: StoreIndex = StoreIndex(1);

const TASK: TaskId = TaskId {
    stage: StageId(0),
    partition: PartitionId(0),
};

fn open(db: &Arc<Db>, cache: &Arc<CleanCache>) -> TaskState {
    let stores = [
        (StoreId(0), StoreKind::Memory),
        (StoreId(1), StoreKind::RocksDb),
    ]
    .map(|(store, kind)| {
        let handle = StoreHandle::open(Arc::clone(db), Arc::clone(cache), TASK, store, kind);
        Arc::new(handle.expect("the store opens"))
    });
    TaskState::new(TASK, stores.to_vec())
}

fn commit(db: &Db, task: &mut TaskState) -> Result<(), StateError> {
    task.keep_batch();
    let Some(sealed) = task.seal() else {
        return Ok(());
    };
    let mut writes = db.write_set();
    let removed = sealed.resolve_ranges(&mut { LISTED_KEYS_MAX })?;
    sealed.write_into(&mut writes, &removed)?;
    writes.commit(Durability::Process)?;
    sealed.note_durable(&removed)?;
    task.release();
    Ok(())
}

/// As after a range delete of more keys than are listed.
fn commit_without_listing(db: &Db, task: &mut TaskState) -> Result<(), StateError> {
    task.keep_batch();
    let sealed = task.seal().expect("there are changes");
    let mut writes = db.write_set();
    let removed = sealed.resolve_ranges(&mut 0)?;
    sealed.write_into(&mut writes, &removed)?;
    writes.commit(Durability::Process)?;
    sealed.note_durable(&removed)?;
    task.release();
    Ok(())
}

#[test]
fn a_task_that_is_made_again_reads_what_is_committed_and_its_part_of_the_cache_was_given_back()
-> Result<(), StateError> {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let db = Arc::new(Db::create(
        &directory.path().join("db"),
        &DbOptions::default(),
    )?);
    let cache = Arc::new(CleanCache::new(1 << 20));
    let mut task = open(&db, &cache);
    for store in [MEMORY, ROCKSDB] {
        task.put(store, b"gone", Some(b"old"));
        task.put(store, b"stays", Some(b"old"));
    }
    commit(&db, &mut task)?;
    let (full, _) = cache.usage();
    for store in [MEMORY, ROCKSDB] {
        task.delete_range(store, Some(b"a"), Some(b"h"));
        task.put(store, b"stays", Some(b"new"));
    }
    commit_without_listing(&db, &mut task)?;
    for _ in 0..3 {
        drop(task);
        task = open(&db, &cache);
        for store in [MEMORY, ROCKSDB] {
            assert_eq!(task.get(store, b"gone")?, None, "{store:?}");
            assert_eq!(task.get(store, b"stays")?, Some(b"new".to_vec()));
        }
    }
    drop(task);
    // What is left is of the shared part: at most what each of the tasks has put there.
    let (left, _) = cache.usage();
    assert!(left <= 4 * full, "{left} of {full}");
    let mut tasks = Vec::new();
    for _ in 0..1_000 {
        let mut task = open(&db, &cache);
        assert_eq!(task.get(MEMORY, b"stays")?, Some(b"new".to_vec()));
        tasks.push(task);
        tasks.clear();
    }
    assert!(cache.usage().0 <= 4 * full, "{:?}", cache.usage());
    Ok(())
}

#[test]
fn however_often_memory_stores_change_the_others_keep_their_part() -> Result<(), StateError> {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let db = Arc::new(Db::create(
        &directory.path().join("db"),
        &DbOptions::default(),
    )?);
    let cache = Arc::new(CleanCache::new(64 << 10));
    let mut task = open(&db, &cache);
    for number in 0..200_u32 {
        task.put(ROCKSDB, &number.to_be_bytes(), Some(&[7; 100]));
    }
    commit(&db, &mut task)?;
    let (full, _) = cache.usage();
    assert!(full > 200 * 100, "{full}");
    for round in 0..2_000_u32 {
        for number in 0..100_u32 {
            let value = [round.to_le_bytes(); 8].concat();
            let value = (round % 2 == 0).then(|| &value[..(number % 32) as usize]);
            task.put(MEMORY, &number.to_be_bytes(), value);
        }
        commit(&db, &mut task)?;
    }
    for number in 0..200_u32 {
        task.put(ROCKSDB, &number.to_be_bytes(), Some(&[8; 100]));
    }
    commit(&db, &mut task)?;
    for number in 0..200_u32 {
        assert!(task.get(ROCKSDB, &number.to_be_bytes())?.is_some());
    }
    let (after, _) = cache.usage();
    assert!(after > 200 * 100 && after < 2 * full, "{after} of {full}");
    Ok(())
}

#[test]
fn memory_stores_that_do_not_fit_are_refused() -> Result<(), StateError> {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let db = Arc::new(Db::create(
        &directory.path().join("db"),
        &DbOptions::default(),
    )?);
    let cache = Arc::new(CleanCache::new(8 << 10));
    let mut task = open(&db, &cache);
    task.put(MEMORY, b"fits", Some(&[1; 4000]));
    commit(&db, &mut task)?;
    task.put(MEMORY, b"does not", Some(&[1; 8000]));
    let refused = |result| {
        let Err(StateError::MemoryStoresTooLarge { pinned, budget }) = result else {
            panic!("it was not refused");
        };
        assert!(pinned > budget && budget == 8 << 10, "{pinned} of {budget}");
    };
    refused(commit(&db, &mut task));
    let cache = Arc::new(CleanCache::new(8 << 10));
    refused(
        StoreHandle::open(Arc::clone(&db), cache, TASK, StoreId(0), StoreKind::Memory).map(|_| ()),
    );
    Ok(())
}

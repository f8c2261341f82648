//! What `memory` stores take of the cache, and what they leave to the others.

use std::sync::Arc;

use wasm_host::model::{PartitionId, StageId, StoreId, StoreIndex, TaskId};
use wasm_host::state::{
    CleanCache, Db, DbOptions, Durability, StateError, StoreHandle, StoreKind, TaskState,
};

const MEMORY: StoreIndex = StoreIndex(0);
const ROCKSDB: StoreIndex = StoreIndex(1);

fn open(db: &Arc<Db>, cache: &Arc<CleanCache>) -> TaskState {
    let id = TaskId {
        stage: StageId(0),
        partition: PartitionId(0),
    };
    let stores = [
        (StoreId(0), StoreKind::Memory),
        (StoreId(1), StoreKind::RocksDb),
    ]
    .map(|(store, kind)| {
        let handle = StoreHandle::open(Arc::clone(db), Arc::clone(cache), id, store, kind);
        Arc::new(handle.expect("the store opens"))
    });
    TaskState::new(id, stores.to_vec())
}

fn commit(db: &Db, task: &mut TaskState) -> Result<(), StateError> {
    task.keep_batch();
    let Some(sealed) = task.seal() else {
        return Ok(());
    };
    let mut writes = db.write_set();
    let removed = sealed.keys_in_ranges()?;
    sealed.write_into(&mut writes);
    writes.commit(Durability::Process)?;
    sealed.publish(&removed)?;
    task.release();
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
    for round in 0..40_u32 {
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
    assert_eq!(after, full);
    Ok(())
}

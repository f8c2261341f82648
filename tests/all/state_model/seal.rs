//! Sealing is the same work whatever was written: no clone, and no lock that a guest's call could wait for.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use wasm_host::model::{PartitionId, StageId, StoreId, StoreIndex, TaskId};
use wasm_host::state::{
    Change, CleanCache, Db, DbOptions, Durability, LISTED_KEYS_MAX, Order, ScanOptions,
    SealedState, StoreHandle, StoreKind, TaskState,
};

use super::allocations::{Allocations, count};

const STORE: StoreIndex = StoreIndex(0);
/// Values that are looked at, evenly spaced.
const SAMPLES: u64 = 100;

struct Fixture {
    task: TaskState,
    db: Arc<Db>,
    _directory: TempDir,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let db =
        Db::create(&directory.path().join("db"), &DbOptions::default()).expect("a new database");
    let db = Arc::new(db);
    let id = TaskId {
        stage: StageId(0),
        partition: PartitionId(0),
    };
    let cache = Arc::new(CleanCache::new(1 << 20));
    let stores = [StoreId(0), StoreId(1)].map(|store| {
        let handle = StoreHandle::open(
            Arc::clone(&db),
            Arc::clone(&cache),
            id,
            store,
            StoreKind::RocksDb,
        );
        Arc::new(handle.expect("the store opens"))
    });
    Fixture {
        task: TaskState::new(id, stores.to_vec()),
        db,
        _directory: directory,
    }
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key-............";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Where a value lies in memory.
fn address(task: &mut TaskState, number: u64) -> usize {
    let read = |value: Option<&[u8]>| value.expect("it was written").as_ptr().addr();
    task.get_with(STORE, &key(number), read)
        .expect("the database can be read")
}

fn whole_scan(task: &mut TaskState) {
    let options = ScanOptions {
        order: Order::Up,
        keys_only: true,
    };
    let cursor = task.scan(STORE, None, None, options);
    let until = Instant::now() + Duration::from_secs(60);
    task.scan_next(cursor, 10, usize::MAX, &mut || Instant::now() >= until)
        .expect("the database can be read");
    task.end_call();
}

/// Puts this many entries into the open epoch, in batches, with some range deletes; `scanned`: the store keeps its keys
/// in order.
fn fill(task: &mut TaskState, entries: u64, scanned: bool) {
    if scanned {
        whole_scan(task);
    }
    for number in 0..entries {
        task.put(STORE, &key(number), Some(&[7; 100]));
        if number % 100 == 99 {
            task.keep_batch();
        }
    }
    for range in 0..10 {
        task.delete_range(
            StoreIndex(1),
            Some(&key(range * 2)),
            Some(&key(range * 2 + 1)),
        );
    }
    task.keep_batch();
}

struct Seen {
    seal: Allocations,
    /// The first read, write and undo of the next epoch.
    going_on: Allocations,
}

fn seal_of(entries: u64, scanned: bool) -> Seen {
    let mut fixture = fixture();
    let task = &mut fixture.task;
    fill(task, entries, scanned);
    let samples = || (0..SAMPLES).map(|sample| sample * entries / SAMPLES);
    let before: Vec<usize> = samples().map(|number| address(task, number)).collect();

    let (sealed, seal) = count(|| task.seal());

    let sealed = sealed.expect("there is something to commit");
    assert_eq!(sealed.size().0 as u64, entries);
    let after: Vec<usize> = samples().map(|number| address(task, number)).collect();
    assert_eq!(before, after, "values were moved");
    let ((), going_on) = count(|| {
        task.mark_message();
        task.put(STORE, &key(1), Some(b"new"));
        assert!(
            task.get_with(STORE, &key(2), |value| value.is_some())
                .expect("the database can be read")
        );
        task.undo_message();
        task.put(STORE, &key(1), None);
        task.keep_batch();
    });
    Seen { seal, going_on }
}

#[test]
fn sealing_does_the_same_for_a_thousand_entries_and_a_million() {
    for scanned in [false, true] {
        let (small, large) = (seal_of(1_000, scanned), seal_of(1_000_000, scanned));
        assert_eq!(small.seal, large.seal, "scanned: {scanned}");
        assert!(large.seal.taken <= 8, "{:?}", large.seal);
        assert!(large.seal.bytes <= 2048, "{:?}", large.seal);
        assert_eq!(large.seal.given_back, 0, "{:?}", large.seal);
        assert_eq!(small.going_on, large.going_on, "scanned: {scanned}");
    }
}

/// A guard of a lock borrows it, or stays on its thread.
fn has_no_guard<T: Send + 'static>(_: &T) {}

#[test]
fn a_task_goes_on_while_a_commit_stands_still_at_each_of_its_steps() {
    let mut fixture = fixture();
    let task = &mut fixture.task;
    fill(task, 1_000, true);
    let sealed: SealedState = task.seal().expect("there is something to commit");
    has_no_guard(&sealed);
    let (step, steps) = channel::<()>();
    let (ended, done) = channel::<()>();
    let db = Arc::clone(&fixture.db);
    let commit = std::thread::spawn(move || {
        let pause = || {
            ended.send(()).expect("the test goes on");
            steps.recv().expect("the test goes on");
        };
        let mut writes = db.write_set();
        let removed = sealed
            .resolve_ranges(&mut { LISTED_KEYS_MAX })
            .expect("the database can be read");
        sealed
            .write_into(&mut writes, &removed)
            .expect("the database can be read");
        pause();
        writes
            .commit(Durability::Sync)
            .expect("the database can be written");
        pause();
        sealed.note_durable(&removed).expect("nothing is pinned");
        pause();
    });
    for round in 0..3_u64 {
        done.recv().expect("the commit goes on");
        task.mark_message();
        task.put(STORE, &key(round), Some(b"undone"));
        task.undo_message();
        task.increment(STORE, &key(2_000), 1).expect("a counter");
        task.put(STORE, &key(round), Some(b"new"));
        whole_scan(task);
        task.keep_batch();
        for number in 0..1_000 {
            let expected: &[u8] = if number <= round { b"new" } else { &[7; 100] };
            let value = task
                .get(STORE, &key(number))
                .expect("the database can be read");
            assert_eq!(value.as_deref(), Some(expected), "{number}");
        }
        step.send(()).expect("the commit goes on");
    }
    commit.join().expect("the commit did not panic");
    task.release();
    assert_eq!(task.increment(STORE, &key(2_000), 0).expect("a counter"), 3);
    task.keep_batch();
    assert!(task.seal().is_some());
}

#[test]
#[should_panic(expected = "before the first is released")]
fn a_second_epoch_is_not_sealed_before_the_first_is_released() {
    let mut fixture = fixture();
    fill(&mut fixture.task, 1, false);
    let _first = fixture.task.seal();
    fill(&mut fixture.task, 1, false);
    fixture.task.seal();
}

#[test]
fn changes_come_in_the_order_in_which_they_must_be_applied() {
    let mut task = fixture().task;
    let (first, second) = (StoreIndex(0), StoreIndex(1));
    task.put(second, b"z", Some(b"1"));
    task.put(first, b"b", Some(b"covered"));
    task.delete_range(first, Some(b"a"), Some(b"c"));
    task.put(first, b"y", Some(b"old"));
    task.put(first, b"y", Some(b"new"));
    task.put(first, b"a", Some(b"after the range"));
    task.put(first, b"x", None);
    task.delete_range(second, Some(b"zz"), None);
    task.keep_batch();
    let sealed = task.seal().expect("there are changes");
    let range = |start: &'static [u8], end| Change::DeleteRange { start, end };
    let expected = [
        (StoreId(0), range(b"a", Some(b"c"))),
        (StoreId(0), Change::Put(b"a", b"after the range")),
        (StoreId(0), Change::Delete(b"x")),
        (StoreId(0), Change::Put(b"y", b"new")),
        (StoreId(1), range(b"zz", None)),
        (StoreId(1), Change::Put(b"z", b"1")),
    ];
    assert_eq!(sealed.changes().collect::<Vec<_>>(), expected);
}

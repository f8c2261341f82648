//! Range deletes of more keys than a commit lists or a scan can pass over in time.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wasm_host::model::{StoreId, StoreIndex};
use wasm_host::state::{
    CleanCache, Db, DbOptions, Durability, Order, ScanOptions, StateError, StoreHandle, StoreKind,
    TaskState,
};

use super::engine::{Engine, Setup, commit};
use super::keys::{KeySpace, ValueLengths, numbered};
use super::operation::{Bytes, KeyRange, Operation, Place};
use super::run::{Mismatch, Profile, Run, places};

/// Keys of each store; all but the first and the last [`LEFT`] are deleted.
const KEYS: u32 = 13_000;
const LEFT: u32 = 500;

fn profile() -> Profile {
    Profile {
        setup: Setup {
            tasks: super::tasks(&[(0, 0)]),
            stores: vec![
                (StoreId(0), StoreKind::RocksDb),
                (StoreId(1), StoreKind::Memory),
            ],
            cache_bytes: 16 << 20,
            write_buffer_bytes: 1 << 20,
            durability: Durability::Process,
        },
        keys: KeySpace::new(KEYS),
        values: ValueLengths {
            usual_max: 8,
            rare_max: 8,
        },
        ranges: 0,
        barriers: 0,
        reopen_every: u32::MAX,
    }
}

fn read_all(run: &mut Run<'_>, at: Place) -> Result<(), Box<Mismatch>> {
    let keys = (0..KEYS).map(numbered).collect();
    run.step(Operation::GetMany { at, keys })
}

fn delete_and_write_again(run: &mut Run<'_>, profile: &Profile) -> Result<(), Box<Mismatch>> {
    let value = |number: u32| Bytes::from(&number.to_le_bytes()[..]);
    for at in places(&profile.setup) {
        for number in 0..KEYS {
            let (key, value) = (numbered(number), value(number));
            run.step(Operation::Put { at, key, value })?;
        }
    }
    run.finish_epoch()?;
    for at in places(&profile.setup) {
        // Now the cache has them all.
        read_all(run, at)?;
        let range = KeyRange {
            start: Some(numbered(LEFT)),
            end: Some(numbered(KEYS - LEFT)),
        };
        run.step(Operation::DeleteRange { at, range })?;
        for number in [0, LEFT, KEYS / 2, KEYS - 1] {
            let (key, value) = (numbered(number), value(KEYS + number));
            run.step(Operation::Put { at, key, value })?;
        }
        let key = numbered(LEFT + 1);
        run.step(Operation::Delete { at, key })?;
    }
    // One task: its seal, two for each step of the commit, its release.
    for _ in 0..8 {
        run.compare_everything()?;
        for at in places(&profile.setup) {
            read_all(run, at)?;
        }
        run.advance()?;
    }
    for at in places(&profile.setup) {
        read_all(run, at)?;
    }
    run.reopen()
}

#[test]
fn ranges_of_very_many_keys_are_deleted_in_every_layer() {
    let profile = profile();
    let mut engine = Engine::new(&profile.setup, commit);
    let mut run = Run::new(&profile, 1, &mut engine);
    if let Err(mismatch) = delete_and_write_again(&mut run, &profile) {
        panic!("{mismatch}");
    }
    drop(run);
    assert!(engine.out_of_time > 0, "no scan ran out of time");
}

/// Deletes long stretches of keys one by one: of keys that are there, of keys that are not, with and without some that stay, and
/// with keys and ranges of keys in between that were deleted before.
fn delete_stretches(run: &mut Run<'_>, profile: &Profile) -> Result<(), Box<Mismatch>> {
    let mut rng = StdRng::seed_from_u64(7);
    for round in 0..24 {
        for at in places(&profile.setup) {
            let written = rng.random_range(0..KEYS - 3_000);
            for number in written..written + 3_000 {
                let (key, value) = (numbered(number), Bytes::from(&number.to_le_bytes()[..]));
                run.step(Operation::Put { at, key, value })?;
            }
        }
        run.finish_epoch()?;
        for at in places(&profile.setup) {
            let from = rng.random_range(0..KEYS - 4_000);
            let to = from + rng.random_range(1_000..4_000);
            let stays_of = [u32::MAX, 3_000, 1_500, 100, 7][round % 5];
            for number in from..to {
                if !rng.random_ratio(1, stays_of) {
                    let key = numbered(number);
                    run.step(Operation::Delete { at, key })?;
                }
            }
            if round % 4 == 3 {
                let start = Some(numbered(rng.random_range(from..to)));
                let range = KeyRange { start, end: None };
                run.step(Operation::DeleteRange { at, range })?;
            }
            let number = rng.random_range(0..KEYS);
            let (key, value) = (numbered(number), Bytes::from(&b"again"[..]));
            run.step(Operation::Put { at, key, value })?;
        }
        run.finish_epoch()?;
        run.compare_everything()?;
    }
    run.reopen()
}

#[test]
fn long_stretches_of_deleted_keys_are_gone_and_nothing_else_is() {
    let profile = profile();
    let mut engine = Engine::new(&profile.setup, commit);
    let mut run = Run::new(&profile, 1, &mut engine);
    if let Err(mismatch) = delete_stretches(&mut run, &profile) {
        panic!("{mismatch}");
    }
}

#[test]
fn deletes_that_follow_one_another_are_written_as_a_range() -> Result<(), StateError> {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let db = Arc::new(Db::create(
        &directory.path().join("db"),
        &DbOptions::default(),
    )?);
    let mut task = queue(&db);
    let keys = 20_000;
    for number in 0..keys {
        task.put(QUEUE, &numbered(number), Some(b"value"));
    }
    commit_queue(&db, &mut task)?;
    // One that stays in the middle of those that go, some that were never there, and a stretch of nothing but those.
    for number in (0..2 * keys).filter(|number| *number != keys / 2) {
        task.put(QUEUE, &numbered(number), None);
    }
    task.keep_batch();
    let sealed = task.seal().expect("there are writes");
    let ranges = sealed.resolve_ranges(&mut 0)?;
    let mut writes = db.write_set();
    sealed.write_into(&mut writes, &ranges)?;
    assert!(writes.bytes() < 200, "{} bytes", writes.bytes());
    writes.commit(Durability::Process)?;
    sealed.note_durable(&ranges)?;
    task.release();
    for order in [Order::Up, Order::Down] {
        let mut task = queue(&db);
        let (key, looks) = edge(&mut task, order, u32::MAX);
        assert_eq!(key?.as_deref(), Some(&*numbered(keys / 2)));
        assert_eq!(looks, 0, "deleted keys were passed over one by one");
    }
    Ok(())
}

const QUEUE: StoreIndex = StoreIndex(0);

fn queue(db: &Arc<Db>) -> TaskState {
    let task = super::tasks(&[(0, 0)])[0];
    let cache = Arc::new(CleanCache::new(1 << 20));
    let store = StoreHandle::open(Arc::clone(db), cache, task, StoreId(0), StoreKind::RocksDb);
    TaskState::new(task, vec![Arc::new(store.expect("the store opens"))])
}

fn commit_queue(db: &Db, task: &mut TaskState) -> Result<(), StateError> {
    task.keep_batch();
    let sealed = task.seal().expect("there are writes");
    let ranges = sealed.resolve_ranges(&mut 0)?;
    let mut writes = db.write_set();
    sealed.write_into(&mut writes, &ranges)?;
    writes.commit(Durability::Process)?;
    sealed.note_durable(&ranges)?;
    task.release();
    Ok(())
}

/// The first or last key, and how often the scan looked at the time. It has `looks_max` looks.
fn edge(
    task: &mut TaskState,
    order: Order,
    looks_max: u32,
) -> (Result<Option<Vec<u8>>, StateError>, u32) {
    let options = ScanOptions {
        order,
        keys_only: true,
    };
    let cursor = task.scan(QUEUE, None, None, options);
    let mut looks = 0;
    let entries = task.scan_next(cursor, 1, 1 << 20, &mut || {
        looks += 1;
        looks > looks_max
    });
    task.end_call();
    let key = entries.map(|entries| {
        let entries = entries.expect("the cursor is open");
        (!entries.keys.is_empty()).then(|| entries.keys.get(0).expect("a key").to_vec())
    });
    (key, looks)
}

#[test]
fn a_scan_over_deleted_keys_looks_at_the_time_and_remembers_where_they_end()
-> Result<(), StateError> {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let options = DbOptions {
        passed_keys_max: 500,
        ..DbOptions::default()
    };
    let db = Arc::new(Db::create(&directory.path().join("db"), &options)?);
    let mut task = queue(&db);
    let keys = 50_000_u32;
    for value in [Some(&b"value"[..]), None] {
        for number in 0..keys {
            task.put(QUEUE, &numbered(number), value);
            // Too few at a time to be deleted as a range.
            if number % 200 == 199 {
                commit_queue(&db, &mut task)?;
            }
        }
    }
    for order in [Order::Up, Order::Down] {
        let (key, looks) = edge(&mut task, order, 3);
        assert!(matches!(key, Err(StateError::TimeOver)), "{key:?}");
        assert_eq!(looks, 4, "it went on after its time");
    }
    for order in [Order::Up, Order::Down] {
        let mut task = queue(&db);
        let (key, looks) = edge(&mut task, order, u32::MAX);
        assert_eq!(key?, None);
        assert!((50..5_000).contains(&looks), "{looks} looks");
        let (key, looks) = edge(&mut task, order, u32::MAX);
        assert_eq!((key?, looks), (None, 0), "it is known to be empty");
    }
    let first = numbered(keys / 2).to_vec();
    task.put(QUEUE, &first, Some(b"live"));
    commit_queue(&db, &mut task)?;
    for order in [Order::Up, Order::Down] {
        let mut task = queue(&db);
        let (key, looks) = edge(&mut task, order, u32::MAX);
        assert_eq!(key?.as_deref(), Some(&*first));
        assert!(looks > 0, "nothing was deleted");
        let (key, looks) = edge(&mut task, order, u32::MAX);
        assert_eq!(key?.as_deref(), Some(&*first));
        assert_eq!(looks, 0, "what lies before it is known");
        // A put before it is found, an undone delete of it too.
        task.mark_message();
        task.put(QUEUE, &first, None);
        assert_eq!(edge(&mut task, order, u32::MAX).0?, None);
        task.undo_message();
        assert_eq!(
            edge(&mut task, order, u32::MAX).0?.as_deref(),
            Some(&*first)
        );
        let nearer = numbered(match order {
            Order::Up => 1,
            Order::Down => keys - 1,
        });
        task.put(QUEUE, &nearer, Some(b"nearer"));
        assert_eq!(
            edge(&mut task, order, u32::MAX).0?.as_deref(),
            Some(&*nearer)
        );
    }
    Ok(())
}

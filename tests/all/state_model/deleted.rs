//! Range deletes of so many keys that neither the commit lists them nor a scan passes over them in time.

use wasm_host::model::StoreId;
use wasm_host::state::{Durability, StoreKind};

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

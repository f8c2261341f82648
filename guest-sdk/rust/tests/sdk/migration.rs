//! State that another version has left.

use wasm_host_sdk::prelude::*;
use wasm_host_sdk::testing::Setup;

/// Counts in JSON, where version 0 had plain numbers. A number below 0 cannot be migrated.
#[derive(Default)]
struct Counter;

#[task]
impl Counter {
    const STATE_VERSION: u32 = 3;

    fn migrate(migration: &Migration<'_>, cx: &Context) -> Result<Migrated, Error> {
        let old = cx.store::<Ordered<u64>, I64>("counts")?;
        let new = cx.store::<Ordered<u64>, Json<(i64, u32)>>("counts")?;
        let from = migration.old();
        migration.entries(&old, |key, count| {
            if count < 0 {
                return Err(Error::new(format!("{key} has {count}")));
            }
            new.put(&key, &(count, from))
        })
    }

    fn message(&mut self, _: &Message<'_>, _: &Context) {}
}

/// More entries than one call migrates.
const ENTRIES: u64 = 10_000;

#[test]
fn every_entry_is_migrated_once_in_several_calls() {
    let mut task = Setup::new().store("counts").start::<Counter>().unwrap();
    let old = task.store::<Ordered<u64>, I64>("counts");
    (0..ENTRIES).for_each(|key| old.put(&key, &5));
    task.forget();
    task.migrate(1).unwrap();
    assert_eq!(task.calls().scan, 3, "calls");
    let new = task.store::<Ordered<u64>, Json<(i64, u32)>>("counts");
    assert!((0..ENTRIES).all(|key| new.get(&key) == Some((5, 1))));
}

#[test]
fn large_values_take_more_calls() {
    let mut task = Setup::new().store("counts").start::<Large>().unwrap();
    let entries = task.store::<Ordered<u64>, Raw>("counts");
    (0..10).for_each(|key| entries.put(&key, &vec![1; 700_000]));
    task.forget();
    task.migrate(0).unwrap();
    assert_eq!(
        task.calls().scan,
        6,
        "calls: two entries in each, and none in the last"
    );
    assert!((0..10).all(|key| entries.get(&key) == Some(vec![2; 700_000])));
}

#[derive(Default)]
struct Large;

#[task]
impl Large {
    const STATE_VERSION: u32 = 1;

    fn migrate(migration: &Migration<'_>, cx: &Context) -> Result<Migrated, Error> {
        let entries = cx.store::<Ordered<u64>, Raw>("counts")?;
        migration.entries(&entries, |key, value| {
            entries.put(
                &key,
                &value.iter().map(|byte| byte + 1).collect::<Vec<u8>>(),
            )
        })
    }

    fn message(&mut self, _: &Message<'_>) {}
}

#[test]
fn what_fails_in_a_later_call_undoes_all_of_them() {
    let mut task = Setup::new().store("counts").start::<Counter>().unwrap();
    let old = task.store::<Ordered<u64>, I64>("counts");
    (0..ENTRIES).for_each(|key| old.put(&key, &5));
    old.put(&(ENTRIES - 1), &-1);
    let failed = task.migrate(0).unwrap_err();
    assert_eq!(failed.reason(), "9999 has -1");
    assert!((0..ENTRIES - 1).all(|key| old.get(&key) == Some(5)));
}

/// Sends where it must not.
#[derive(Default)]
struct Sender;

#[task]
impl Sender {
    const STATE_VERSION: u32 = 1;

    fn migrate(_: &Migration<'_>, cx: &Context) -> Result<(), Error> {
        cx.output::<Raw, Raw>("out").send_value(b"x")
    }

    fn message(&mut self, _: &Message<'_>) {}
}

#[test]
#[should_panic(expected = "trap: sending in `migrate`")]
fn sending_traps() {
    let setup = Setup::new().output("out", 1);
    let mut task = setup.start::<Sender>().unwrap();
    task.migrate(0).unwrap();
}

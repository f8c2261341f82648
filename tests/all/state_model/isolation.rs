//! The keys of one task, store or prefix never show in another's, whatever they are.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wasm_host::model::{PartitionId, StageId, StoreId, TaskId};
use wasm_host::state::{Durability, Order, ScanOptions, StoreKind};

use super::engine::{Engine, Setup, commit};
use super::keys::{KeySpace, ValueLengths, nasty_keys};
use super::operation::{KeyRange, Operation};
use super::run::{Mismatch, Profile, Run, places};

/// Ids whose bytes lie next to each other, at the ends, and where a byte carries over.
fn crowded() -> Profile {
    let stages = [0, 1, 0xff, 0x100, u16::MAX - 1].map(StageId);
    let partitions = [0, 1, 0xff, 0x100, u32::MAX].map(PartitionId);
    let task = |stage| partitions.map(|partition| TaskId { stage, partition });
    let stores = [0, 1, 0xff, 0x100, u16::MAX].map(StoreId);
    let kinds = [StoreKind::RocksDb, StoreKind::Memory].into_iter().cycle();
    Profile {
        setup: Setup {
            tasks: stages.into_iter().flat_map(task).collect(),
            stores: stores.into_iter().zip(kinds).collect(),
            cache_bytes: 512 << 10,
            write_buffer_bytes: 256 << 10,
            durability: Durability::Process,
        },
        keys: KeySpace::new(0),
        values: ValueLengths {
            usual_max: 16,
            rare_max: 16,
        },
        ranges: 0,
        barriers: 0,
        reopen_every: u32::MAX,
    }
}

type Checked = Result<(), Box<Mismatch>>;

/// Every store, read in every way, has its own entries and no others.
fn check_all(run: &mut Run<'_>, profile: &Profile, rng: &mut StdRng) -> Checked {
    run.compare_everything()?;
    let keys = nasty_keys();
    for at in places(&profile.setup) {
        run.step(Operation::GetMany {
            at,
            keys: keys.clone(),
        })?;
        let prefix = &keys[rng.random_range(0..keys.len())];
        for order in [Order::Up, Order::Down] {
            run.step(Operation::Walk {
                at,
                range: KeyRange::of_prefix(prefix),
                options: ScanOptions {
                    order,
                    keys_only: false,
                },
                entries_max: rng.random_range(1..5),
            })?;
        }
    }
    Ok(())
}

fn fill(run: &mut Run<'_>, profile: &Profile, rng: &mut StdRng) -> Checked {
    for at in places(&profile.setup) {
        for key in nasty_keys() {
            match rng.random_range(0..10) {
                0 => run.step(Operation::Delete { at, key })?,
                1..5 => {
                    // The value names its store.
                    let value = [&at.task.to_le_bytes()[..], &at.store.to_le_bytes()]
                        .concat()
                        .into();
                    run.step(Operation::Put { at, key, value })?;
                }
                _ => {}
            }
        }
        if rng.random_ratio(1, 5) {
            let range = match rng.random_range(0..3) {
                0 => KeyRange::ALL,
                1 => KeyRange::of_prefix(&profile.keys.key(rng)),
                _ => profile.keys.range(rng),
            };
            run.step(Operation::DeleteRange { at, range })?;
        }
    }
    Ok(())
}

fn check_isolation(seed: u64) -> Checked {
    let profile = crowded();
    let mut engine = Engine::new(&profile.setup, commit);
    let mut run = Run::new(&profile, seed, &mut engine);
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..3 {
        fill(&mut run, &profile, &mut rng)?;
        check_all(&mut run, &profile, &mut rng)?;
        // Half of the tasks are sealed, all are, some steps of the commit are done, some tasks are released.
        for _ in 0..4 {
            for _ in 0..14 {
                run.advance()?;
            }
            check_all(&mut run, &profile, &mut rng)?;
        }
    }
    run.reopen()?;
    check_all(&mut run, &profile, &mut rng)
}

#[test]
fn keys_of_one_task_store_or_prefix_never_show_in_anothers() {
    let seed = super::seed();
    println!("STATE_MODEL_SEED={seed}");
    if let Err(mismatch) = check_isolation(seed) {
        panic!("{mismatch}\nreplay with STATE_MODEL_SEED={seed}");
    }
}
